"""By what the best weights of an open-set model are chosen: real open examples, or made ones where there are none.

An adversarial discriminator swings from epoch to epoch, so that everything hinges on this choice. Real open examples
are a supervision that most users lack. In their place stand mixtures and corruptions of closed-set examples here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.data import Source, to_tensor
from sparring.data.source import Examples
from sparring.errors import UserError
from sparring.metrics import detection
from sparring.nets.outliers import synthetic
from sparring.protocol import Game
from sparring.randomness import seeded
from sparring.scoring import scores_of

if TYPE_CHECKING:
    from sparring.preparation import Setup

LOOK = 4000  # examples of each kind at most, at each look
BATCH = 1024
NAMED = 5  # classes at most that a note names

Seen = TypeVar("Seen", bound=Examples)


class Selector:
    """Measure the AUROC of the closed-set examples held out for it against open ones, at each look.

    Open are those of `setup.open`; where there are none, three kinds are made of the closed ones, and the AUROC is
    the mean over kinds.
    """

    def __init__(self, setup: Setup) -> None:
        assert setup.select is not None
        closed = setup.select.limited(LOOK)
        self.closed = to_tensor(closed.read(slice(None)))
        self.open = (
            {"open": to_tensor(setup.open.limited(LOOK).read(slice(None)))} if setup.open is not None
            else made(self.closed, closed.labels, setup.job.seed)
        )  # fmt: skip

    def __call__(self, game: Game, phase: str, done: int) -> Mapping[str, float]:
        closed = scores_of(game, self.closed.split(BATCH))
        found = {name: auroc(closed, scores_of(game, x.split(BATCH))) for name, x in self.open.items()}
        return {"auroc": float(np.mean(list(found.values()))), **{f"auroc_{name}": v for name, v in found.items()}}


def auroc(closed: NDArray[np.float64], opened: NDArray[np.float64]) -> float:
    """How well scores tell open examples, the positive ones, from closed ones; 0 where a score is not finite."""
    finite = np.isfinite(closed).all() and np.isfinite(opened).all()
    return detection.auroc(opened, closed) if finite else 0.0


def made(x: Tensor, labels: NDArray[np.int64] | None, seed: int) -> dict[str, Tensor]:
    """Open examples made of closed ones: the same of a seed."""
    with seeded(seed):
        return synthetic(x, None if labels is None else torch.from_numpy(labels))


def without(source: Seen, known: tuple[str, ...]) -> Seen:
    """The examples that are of no known class, with a note on those that were left out.

    Raises:
        UserError: Where none is left.
    """
    shared = [name for name in source.classes if name in known]
    if source.labels is None or not shared:
        return source
    inside = np.isin(source.labels, [source.classes.index(name) for name in shared])
    if inside.all():
        raise UserError(f"All {len(source):,} examples of '{source.name}' are of known classes: give some of others.")
    named = ", ".join(shared[:NAMED]) + (" and others" if len(shared) > NAMED else "")
    note = (
        f"{int(inside.sum()):,} examples of '{source.name}' were left out, because their classes are called as known "
        f"ones are ({named}): if they are others, rename them."
    )
    return replace(source.take(~inside), notes=(*source.notes, note))


def among(source: Source, others: Sequence[Source]) -> NDArray[np.bool_]:
    """Which examples are, number for number, also in other sources, (N,)."""
    there = set().union(*(marks(other) for other in others))
    return np.array([mark in there for mark in marks(source)])


def marks(source: Source) -> list[int]:
    """A number of 64 bits for each example, which follows from its content."""
    return [hash(row.tobytes()) for k in range(0, len(source), BATCH) for row in source.read(slice(k, k + BATCH))]


def unlike(validation: Source, outliers: Source) -> Source:
    """The open examples to choose weights by that are not learnt from, with a note on those that were left out.

    Raises:
        UserError: Where none is left.
    """
    inside = among(validation, [outliers])
    if inside.all():
        name = validation.name
        raise UserError(
            f"All {len(inside):,} open examples of '{name}' that are to choose the weights are outliers to learn from, "
            f"too: give others, or two parts, such as {name}@train[:-500] and {name}@train[-500:]."
        )
    if not inside.any():
        return validation
    note = f"{int(inside.sum()):,} open examples choose no weights, because they are among the outliers learnt from."
    return replace(validation.take(~inside), notes=(*validation.notes, note))
