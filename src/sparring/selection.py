"""By what the best weights of an open-set model are chosen: real open examples, or made ones where there are none.

An adversarial discriminator swings from epoch to epoch, so that everything hinges on this choice. Real open examples
are a supervision that most users lack. In their place stand mixtures and corruptions of closed-set examples here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.data import Source, to_tensor
from sparring.data.source import Examples
from sparring.metrics import detection
from sparring.nets.outliers import synthetic
from sparring.protocol import Game
from sparring.scoring import scores_of

if TYPE_CHECKING:
    from sparring.preparation import Setup

LOOK = 4000  # examples of each kind at most, at each look
BATCH = 1024
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
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return synthetic(x, None if labels is None else torch.from_numpy(labels))


def without(source: Seen, known: tuple[str, ...]) -> tuple[Seen, int]:
    """The examples that are of no known class, and how many of the others were left out."""
    if source.labels is None:
        return source, 0
    inside = np.isin(source.labels, [k for k, name in enumerate(source.classes) if name in known])
    return source.take(~inside), int(inside.sum())


def duplicates(closed: Source, outliers: Source) -> float:
    """The share of outliers that are, number for number, among the closed-set examples."""
    rows = {row.tobytes() for k in range(0, len(closed), BATCH) for row in closed.read(slice(k, k + BATCH))}
    hits = sum(row.tobytes() in rows for k in range(0, len(outliers), BATCH)
               for row in outliers.read(slice(k, k + BATCH)))  # fmt: skip
    return hits / len(outliers)
