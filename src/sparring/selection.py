"""By what the best weights of an open-set model are chosen: real open examples, or made ones where there are none.

An adversarial discriminator swings from epoch to epoch, so that everything hinges on this choice. Real open examples
are a supervision that most users lack. In their place stand mixtures and corruptions of closed-set examples here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.data import Source, to_tensor
from sparring.metrics import detection
from sparring.protocol import Game
from sparring.scoring import scores_of

if TYPE_CHECKING:
    from sparring.preparation import Setup

LOOK = 4000  # examples of each kind at most, at each look
BATCH = 1024


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
            else synthetic(self.closed, closed.labels, setup.job.seed)
        )  # fmt: skip

    def __call__(self, game: Game, phase: str, done: int) -> Mapping[str, float]:
        closed = scores_of(game, self.closed.split(BATCH))
        found = {name: auroc(closed, scores_of(game, x.split(BATCH))) for name, x in self.open.items()}
        return {"auroc": float(np.mean(list(found.values()))), **{f"auroc_{name}": v for name, v in found.items()}}


def auroc(closed: NDArray[np.float64], opened: NDArray[np.float64]) -> float:
    """How well scores tell open examples, the positive ones, from closed ones; 0 where a score is not finite."""
    finite = np.isfinite(closed).all() and np.isfinite(opened).all()
    return detection.auroc(opened, closed) if finite else 0.0


def synthetic(x: Tensor, labels: NDArray[np.int64] | None, seed: int) -> dict[str, Tensor]:
    """Make three kinds of open examples of closed ones (N, ...), as many of each.

    Returns:
        "mixed": halfway (0.3 to 0.7) between two examples, of different classes where labels are known;
        "shuffled": every number taken from an example of its own, which breaks what they have to do with each other;
        "noisy": with Gaussian noise of the deviation of each number.
    """
    random = np.random.default_rng((seed, 0x5E1))
    other = random.permutation(len(x))
    if labels is not None:
        for _ in range(10):  # most are of another class after a few draws; those that are not stay as they are
            same = np.flatnonzero(labels == labels[other])
            other[same] = random.integers(len(x), size=len(same))
    share = torch.from_numpy(random.uniform(0.3, 0.7, len(x)).astype(np.float32)).view(-1, *[1] * (x.ndim - 1))
    flat = x.flatten(1)
    rows = torch.from_numpy(random.random(flat.shape, dtype=np.float32)).argsort(0)
    noise = torch.from_numpy(random.standard_normal(x.shape, dtype=np.float32))
    noisy = x + noise * x.std(0, correction=0)
    return {
        "mixed": x.lerp(x[torch.from_numpy(other)], share),
        "shuffled": flat.gather(0, rows).view_as(x),
        "noisy": noisy.clamp(-1, 1) if x.ndim == 4 else noisy,
    }


def without(source: Source, known: tuple[str, ...]) -> tuple[Source, int]:
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
