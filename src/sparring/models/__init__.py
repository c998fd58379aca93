"""The folder is the catalogue: every file beside this one is a paper, with one Recipe and one Game.

Variants of a paper are instances of its Recipe in the same file; a variant's name is the instance's
name in lower case.
"""

from __future__ import annotations

import ast
import pkgutil
import re
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType

from sparring.errors import unknown
from sparring.protocol import Game, Recipe


def names() -> list[str]:
    """The models there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue: its name, its game, its recipe and the variants."""

    name: str

    @cached_property
    def module(self) -> ModuleType:
        return import_module(f"{__name__}.{self.name}")

    def _own(self, kind: type) -> type:
        (found,) = (
            value
            for value in vars(self.module).values()
            if isinstance(value, type) and issubclass(value, kind) and value.__module__ == self.module.__name__
        )
        return found

    @property
    def game(self) -> type[Game]:
        return self._own(Game)

    @property
    def recipe(self) -> type[Recipe]:
        return self._own(Recipe)

    @property
    def variants(self) -> dict[str, Recipe]:
        """Recipes by name; `default` is the paper's."""
        there = {name.lower(): value for name, value in vars(self.module).items() if isinstance(value, Recipe)}
        return {"default": self.recipe(), **there}

    def variant(self, name: str | None) -> Recipe:
        if (name or "default") not in self.variants:
            raise unknown(f"variant of {self.name}", str(name), self.variants)
        return self.variants[name or "default"]

    @property
    def about(self) -> str:
        """The first line of the game's docstring."""
        return (self.game.__doc__ or "").strip().partition("\n")[0]

    @property
    def reference(self) -> str:
        """Authors, year, title and arXiv id, out of the game's docstring."""
        text = ast.get_docstring(ast.parse(Path(str(self.module.__file__)).read_text(encoding="utf-8"))) or ""
        text = f"{text}\n\n{self.game.__doc__ or ''}"
        found = re.search(r"Reference:\s*(.+?arXiv:[\d.]+\d)", text, re.S)
        return " ".join(found.group(1).split()) if found else ""


def find(name: str) -> Entry:
    """Look a model up by name.

    Raises:
        UserError: For an unknown name, with the closest match.
    """
    if name not in names():
        raise unknown("model", name, names())
    return Entry(name)
