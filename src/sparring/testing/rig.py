"""What the checks stand on: games made small, and data of which one knows everything."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any, TypeAlias

import torch
from lightning_fabric import Fabric
from torch import Tensor

from sparring.engine import Engine
from sparring.errors import UserError
from sparring.models import Entry, find
from sparring.protocol import Batch, Game, Recipe, Spec

Subject: TypeAlias = "str | Entry | tuple[type[Game], Recipe]"
Make: TypeAlias = Callable[[Spec, int, torch.Generator], Tensor]

SMALL = {  # largest value of fields of these names
    "batch": 8, "latent": 8, "width": 8, "hidden": 16, "units": 16, "blocks": 1,
    "critic_steps": 2, "eager_steps": 2, "search_steps": 3, "condition": 8, "discriminator_width": 8,
}  # fmt: skip
LEARNING = {  # where something is to be learnt
    "batch": 16, "latent": 32, "width": 16, "hidden": 256, "units": 240, "blocks": 1,
    "critic_steps": 2, "eager_steps": 2, "generator_batches": 1, "search_steps": 20, "condition": 16,
    "discriminator_width": 16,
}  # fmt: skip
RATES, RATE = ("rate", "rate_encoder"), 1e-3  # at least, where something is to be learnt: papers have patience
WORDS = 6  # width of the embedding of a caption
LENGTHS = ("epochs", "rounds", "encode_rounds")  # do not matter where a lesson has a length of its own
ROUNDS = 3  # of each phase, where nothing is to be learnt


@dataclass(frozen=True)
class Outsider(Entry):
    """A game that is not in the catalogue, seen as an entry of it."""

    own: tuple[type[Game], Recipe]

    @property
    def module(self) -> ModuleType:
        return sys.modules[self.own[0].__module__]

    @property
    def game(self) -> type[Game]:
        return self.own[0]

    @property
    def recipe(self) -> type[Recipe]:
        return type(self.own[1])

    @property
    def variants(self) -> dict[str, Recipe]:
        return {"default": self.own[1]}


def as_entry(subject: Subject) -> Entry:
    """See a name, an entry, or a pair of a Game class and a recipe as an entry."""
    if isinstance(subject, str):
        return find(subject)
    return Outsider(subject[0].__name__, subject) if isinstance(subject, tuple) else subject


def small(recipe: Recipe, most: Mapping[str, int] = SMALL, **changes: Any) -> Recipe:
    """Shrink a recipe's widths and batch, by the names of its fields; then apply `changes`."""

    def cut(name: str, value: Any) -> Any:
        return tuple(cut(name, v) for v in value) if isinstance(value, tuple) else min(value, most[name])

    there = {f.name: getattr(recipe, f.name) for f in fields(recipe)}
    if most is LEARNING:
        changes = {name: max(there[name], RATE) for name in RATES if there.get(name)} | changes
    return replace(recipe, **{name: cut(name, there[name]) for name in most if there.get(name)} | changes)


def low_rank(spec: Spec, n: int, generator: torch.Generator) -> Tensor:
    """Draw n examples of a kind that three numbers describe, within (-1, 1): smooth where they are images."""
    if spec.is_image:
        wave = (torch.arange(spec.shape[-1]) + 0.5) * math.pi / spec.shape[-1]
        basis = torch.stack([torch.outer((k * wave).cos(), (wave + k).cos()) for k in range(3)])
        basis = basis[:, None].expand(3, *spec.shape).flatten(1)
    else:
        basis = torch.randn(3, spec.size, generator=torch.Generator().manual_seed(0)) / 3
    return (torch.randn(n, 3, generator=generator) @ basis).tanh().view(n, *spec.shape)


def noise(spec: Spec, n: int, generator: torch.Generator) -> Tensor:
    """Draw n examples whose every number is uniform in (-1, 1)."""
    return torch.rand(n, *spec.shape, generator=generator) * 2 - 1


def bright(spec: Spec, n: int, generator: torch.Generator) -> Tensor:
    """Draw n examples that are 0.5 everywhere, but for a little noise."""
    return 0.5 + 0.05 * torch.randn(n, *spec.shape, generator=generator)


def sign(label: Tensor) -> Tensor:
    """What tells classes apart: 1.0 for those of even number, -1.0 for the others."""
    return 1.0 - 2.0 * (label % 2)


class TinyDraw:
    """Endless seeded minibatches in memory: what the engine asks of `draw`, and nothing more.

    Args:
        spec: Shape and classes of what is drawn; labels come where there are classes, and examples of every
            second class are the negative of what is made.
        batch: Examples in a minibatch of this process.
        rank: Processes of different ranks draw different examples.
        make: Makes the examples.
        beside: Fields of a minibatch that are data of their own: outliers are noise, and a partner or a mismatch is the
            negative of what is made. Captions come where the spec has them: noise around the mean of the image.
    """

    def __init__(
        self, spec: Spec, batch: int, rank: int = 0, make: Make = low_rank, beside: Sequence[str] = ()
    ) -> None:
        self.spec, self.batch, self.rank, self.make = spec, batch, rank, make
        self.beside = [name for name in beside if name in ("partner", "outlier", "mismatch")]
        self.position, self.waited = 0, 0.0

    def __call__(self) -> Batch:
        generator = torch.Generator().manual_seed(1000 * self.position + self.rank)
        self.position += 1
        x, classes = self.make(self.spec, self.batch, generator), len(self.spec.classes)
        others = {
            name: noise(self.spec, self.batch, generator) if name == "outlier"
            else -self.make(self.spec, self.batch, generator)
            for name in self.beside
        }  # fmt: skip
        if self.spec.caption:
            around = x.flatten(1).mean(1, keepdim=True)
            others["caption"] = around + torch.randn(self.batch, self.spec.caption, generator=generator)
        if not classes:
            return Batch(x, **others)
        label = torch.randint(classes, (self.batch,), generator=generator)
        return Batch(x * sign(label).view(-1, *[1] * (x.ndim - 1)), label, **others)


@dataclass(frozen=True)
class Case:
    """A game class with a recipe and a kind of data that it accepts; can cross to another process."""

    name: str
    game: type[Game]
    recipe: Recipe
    spec: Spec

    def build(self, seed: int = 0) -> Game:
        """Make the game with the first weights of this seed; its look at the data does not show the data."""
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            game = self.game(self.spec, self.recipe)
            game.prepare(noise(self.spec, 64, torch.Generator().manual_seed(seed)))
            if self.spec.caption:
                game.listen(torch.randn(64, self.spec.caption))
        return game

    def draw(self, batch: int | None = None, rank: int = 0, make: Make = low_rank) -> TinyDraw:
        """Make minibatches of every field that the game learns from; None is the recipe's batch."""
        beside = (*self.game.needed(self.recipe), *self.game.wants)
        return TinyDraw(self.spec, batch or self.recipe.batch, rank, make, beside)

    def engine(self, seed: int = 0, rounds: int = ROUNDS, make: Make = low_rank, **more: Any) -> Engine:
        """Make an engine for a fresh game, all of whose phases last this many rounds."""
        alone: Any = more.pop("fabric", None) or Fabric(accelerator="cpu", devices=1)
        draw = self.draw(self.recipe.batch // alone.world_size, alone.global_rank, make)
        engine = Engine(self.build(seed), draw, alone, **({"judge": judge} | more))
        engine.phases = [replace(phase, rounds=rounds) for phase in engine.phases]
        return engine

    def trained(self) -> Game:
        """Play a few rounds; return the game in eval mode, its gradients switched off for good."""
        engine = self.engine()
        engine.play()
        return engine.game.eval().requires_grad_(False)


def judge(game: Game, phase: str, done: int) -> Mapping[str, float]:
    """Find the second round the best, by whatever score a phase keeps."""
    return defaultdict(lambda: float(-abs(done - 2)))


def classes(entry: Entry, recipe: Recipe) -> tuple[str, ...]:
    return ("a", "b", "c") if "label" in entry.game.needed(recipe) else ()


def words(entry: Entry, recipe: Recipe) -> int:
    """Width of the captions that a recipe needs; 0 for none."""
    return WORDS if "caption" in entry.game.needed(recipe) else 0


def cases(entry: Entry, most: Mapping[str, int] = SMALL, once: bool = False, **changes: Any) -> Iterator[Case]:
    """Walk through every variant of a model, on images and on features, wherever it accepts them.

    Args:
        entry: The model.
        most: Largest values of the recipe's widths, see `small`.
        once: Leave features out where images are accepted, and variants that differ in nothing but their length.
        changes: To the recipe.
    """
    found = False
    length = LENGTHS if once else ()
    recipes = {}  # some have two names, or differ in nothing but what is made small
    for name, recipe in reversed(entry.variants.items()):
        shrunk = small(recipe, most, **changes)
        key = tuple(getattr(shrunk, f.name) for f in fields(shrunk) if f.name not in length)
        recipes[entry.game.fit_side(16, recipe), *key] = (shrunk, name)
    for (side, *_), (recipe, name) in reversed(recipes.items()):
        for kind, shape in {"images": (1, side, side), "features": (12,)}.items():
            who = f"{entry.name} ({name}, {kind})"
            spec = Spec(shape, 64, classes(entry, recipe), words(entry, recipe))
            case = Case(who, entry.game, recipe, spec)
            try:
                case.build()
            except UserError:
                continue
            found = True
            yield case
            if once:
                break
    hold(found, f"{entry.name} accepts neither images of the side that fit_side names for 16 nor vectors of 12 numbers")


def hold(condition: object, sentence: str) -> None:
    """Raise an AssertionError where a law is broken, also under `python -O`."""
    if not condition:
        raise AssertionError(sentence + ".")


def same(a: Any, b: Any) -> bool:
    """Tell whether two nests of dicts, lists, tensors and plain values are equal to the last bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)
