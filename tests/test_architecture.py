"""The floors of the house: imports go downward only, and nothing grows past what a head holds."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sparring
from sparring import models

ROOT = Path(sparring.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FLOORS = [  # a part of the package may import what stands in a line above its own, and itself
    {"errors", "randomness"},
    {"files", "derivatives", "recipe"},
    {"protocol", "losses", "metrics", "job", "pictures"},
    {"nets", "scoring"},
    {"models", "data", "engine", "export", "report", "sampling"},
    {"weights"},
    {"encoders", "closed_set", "selection", "text"},
    {"opening"},
    {"verdicts", "wording"},
    {"run", "preparation", "features", "memorisation"},
    {"faithfulness"},
    {"apart", "watch", "generation", "probe", "gallery", "presentation", "studies", "turns", "segments"},
    {"calibrating", "judging", "filters", "forgetting", "opponent", "translation"},
    {"training"},
    {"recognising", "standings", "contest"},
    {"evaluation"},
    {"comparison"},
    {"reproduction"},
    {"detector", "testing", "show", "inbox"},
    {"open_set"},
    {"cli"},
    {"__main__"},
]
LINES, BODY = 350, 60  # of a file, of a function


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def of_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def walk(node: ast.AST):
    yield node
    for child in ast.iter_child_nodes(node):
        if not of_types_only(child):
            yield from walk(child)


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, anywhere in it, without the prefix "sparring."."""
    found = set()
    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            inside = [node.module] if node.module != "sparring" else [f"sparring.{alias.name}" for alias in node.names]
            found |= {name for name in inside if name and name.startswith("sparring.")}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("sparring.")}
    return {name.removeprefix("sparring.") for name in found}


def parts(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_downward(path):
    own = name_of(path).partition(".")[0]
    if not own:  # sparring/__init__.py loads its names when they are used
        return
    (height,) = [k for k, floor in enumerate(FLOORS) if own in floor] or [None]
    assert height is not None, f"'{own}' has no floor yet: say where it stands"
    below = set().union(*FLOORS[:height]) | {own}
    assert parts(path) <= below, f"{own} may not import {sorted(parts(path) - below)}"


@pytest.mark.parametrize("path", sorted((ROOT / "engine").glob("*.py")), ids=name_of)
def test_engine_knows_no_model_data_or_metric(path):
    assert parts(path) <= {"engine", "protocol", "errors", "files", "randomness"}
    named = re.findall(rf"\b({'|'.join(models.names())})\b", path.read_text(encoding="utf-8"), re.IGNORECASE)
    assert not named


@pytest.mark.parametrize("name", models.names())
def test_models_never_import_each_other(name):
    assert parts(ROOT / "models" / f"{name}.py") <= {"protocol", "errors", "losses", "nets"}


@pytest.mark.parametrize("name", models.names())
def test_a_model_is_one_recipe_and_one_game(name):
    entry = models.find(name)
    classes = [
        node for node in ast.parse(Path(entry.module.__file__).read_text()).body if isinstance(node, ast.ClassDef)
    ]
    assert entry.game.__bases__[0].__name__ == "Game"
    assert entry.recipe.__bases__[0].__name__ == "Recipe"
    assert classes[0].name == entry.recipe.__name__
    assert classes[-1].name == entry.game.__name__


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") < LINES, f"{path.name} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < BODY, f"{path.name}: {node.name} is too long"


def test_torch_waits_until_it_is_needed():
    code = "import sys, sparring, sparring.cli; print(sorted({'torch', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent, timeout=60
    )
    assert run.stdout.strip() == "[]"
