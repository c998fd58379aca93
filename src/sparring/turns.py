"""How long to train an open-set model without open examples: known classes are left out in turn, and play unknown."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from sparring import models
from sparring.data import Stream, to_tensor
from sparring.engine import Engine
from sparring.errors import UserError
from sparring.opening import hold_out, some
from sparring.preparation import Setup
from sparring.protocol import Game
from sparring.randomness import seeded
from sparring.scoring import scores_of
from sparring.selection import BATCH, LOOK, auroc

TURNS = 5  # classes that are left out, at most
SMOOTH = 3  # epochs whose mean is looked at, because one of them tells little


def rounds_by_turns(setup: Setup) -> int:
    """The number of rounds after which the AUROC of left-out classes is best, in the mean over them.

    Raises:
        UserError: For fewer than three known classes, or data without labels.
    """
    labels = setup.fit.labels
    present = np.unique(labels) if labels is not None else np.empty(0, np.int64)
    if len(present) < 3:
        raise UserError(f"--select classes leaves known classes out in turn, and there are {len(present)}: 3 at least.")
    curves = np.mean([curve(setup, int(k)) for k in present[:TURNS]], 0)
    width = min(SMOOTH, len(curves))
    smooth = np.convolve(curves, np.ones(width) / width, mode="valid")
    return (int(smooth.argmax()) + (width + 1) // 2) * setup.game.period


def curve(setup: Setup, left_out: int) -> NDArray[np.float64]:
    """The AUROC of one class, unknown to a fresh game, at the end of each epoch."""
    job, fit = setup.job, setup.fit
    assert fit.labels is not None
    learn, closed = hold_out(fit.take(fit.labels != left_out), job.seed)
    opened = fit.take(fit.labels == left_out)
    with seeded(job.seed):
        game = models.find(job.model).game(fit.spec(), setup.recipe)
        game.prepare(to_tensor(learn.read(some(len(learn), job.seed))))
    x, y = (to_tensor(part.limited(LOOK).read(slice(None))) for part in (closed, opened))
    found: list[float] = []

    def look(game: Game, phase: str, done: int) -> Mapping[str, float]:
        found.append(auroc(*(scores_of(game, part.split(BATCH)) for part in (x, y))))
        return {"auroc": found[-1]}

    draw = Stream(learn, setup.recipe.batch, seed=job.seed, beside=setup.beside)
    Engine(game, draw, Fabric(accelerator="cpu", devices=1), job.seed, judge=look, look_every=game.period).play()
    return np.array(found)
