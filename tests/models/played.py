"""Play a round or two by the engine, with known data and known randomness."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sparring.engine import Engine
from sparring.models import find
from sparring.protocol import Batch, Game, Recipe, Spec


class Same:
    """Always the same minibatch."""

    def __init__(self, x: Tensor, partner: Tensor | None = None) -> None:
        self.x, self.partner, self.position, self.waited = x, partner, 0, 0.0

    def __call__(self) -> Batch:
        self.position += 1
        return Batch(self.x, partner=self.partner)


def build(name: str, shape: tuple[int, ...], recipe: Recipe | None = None, count: int = 1000) -> Game:
    """Make a game with the first weights of seed 0."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        entry = find(name)
        return entry.game(Spec(shape, count), recipe or entry.recipe())


def engine(game: Game, x: Tensor, rounds: int = 1, partner: Tensor | None = None) -> Engine:
    made = Engine(game, Same(x, partner), Fabric(accelerator="cpu", devices=1))
    made.phases = [replace(phase, rounds=rounds) for phase in made.phases]
    return made


def play(game: Game, x: Tensor, rounds: int = 1, partner: Tensor | None = None) -> Game:
    """Play rounds on this minibatch."""
    engine(game, x, rounds, partner).play()
    return game


@contextmanager
def randomness(step: int = 0) -> Iterator[None]:
    """Draw in this block what the engine draws in this round."""
    with torch.random.fork_rng([]):
        other = engine(build("gan", (2,)), torch.zeros(1, 2))
        other.step = step
        other._seed(0)
        yield


def count(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def ladder(module: nn.Module, kinds: tuple[type[nn.Module], ...], x: Tensor) -> list[tuple[int, ...]]:
    """Shapes, without the batch, that layers of these kinds put out in turn."""
    shapes: list[tuple[int, ...]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: shapes.append(tuple(output.shape[1:])))
        for layer in module.modules()
        if isinstance(layer, kinds)
    ]
    with torch.no_grad():
        module.eval()(x)
    for hook in hooks:
        hook.remove()
    return shapes


def images(n: int, *shape: int) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(5)) * 2 - 1


def assert_equal(found: nn.Module, expected: nn.Module) -> None:
    """Compare parameters in order, to 1e-6."""
    pairs = list(zip(found.parameters(), expected.parameters(), strict=True))
    assert pairs
    for a, b in pairs:
        torch.testing.assert_close(a, b.view_as(a), atol=1e-6, rtol=1e-6)
