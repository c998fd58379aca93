"""The judges that look at a game while it trains: one paints what it makes, one measures it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparring import pictures
from sparring.data import Source, to_tensor
from sparring.engine import Judge
from sparring.features import choose
from sparring.generation import as_saved
from sparring.metrics.distances import discrepancy
from sparring.preparation import Setup, some
from sparring.protocol import Game, Generates, Reconstructs
from sparring.sampling import Recalls

CLASSES = 20  # rows at most in a grid of samples by class
MADE = 2000  # examples at most that a look measures
DISTANCE, CLOSENESS = "kernel_distance", "closeness"  # noted in the journal; the second is minus the first


class Painter:
    """Paint a grid of what the model makes into the run's samples/."""

    def __init__(self, folder: Path, source: Source) -> None:
        self.folder = folder / "samples"
        self.x = to_tensor(source.read(some(len(source), 0)[:16]))

    def __call__(self, game: Game, phase: str, done: int) -> Mapping[str, float]:
        image = self.paint(game)
        if image is not None and bool(torch.isfinite(image).all()):  # of what is not, the engine complains
            pictures.save(pictures.grid(image, columns=8), self.folder / f"{done:07d}.png")
        return {}

    def paint(self, game: Game) -> Tensor | None:
        """64 samples (8 of each class or caption), or images above their reconstruction; None where none are made."""
        if isinstance(game, Generates):
            torch.manual_seed(0)
            if isinstance(game, Recalls):
                return game.generate(64, caption=game.recall(8).repeat_interleave(8, 0)).cpu()  # type: ignore[call-arg]
            if not game.conditional:
                return game.generate(64).cpu()
            label = torch.arange(min(len(game.spec.classes), CLASSES)).repeat_interleave(8)
            return game.generate(len(label), label=label.to(self._device(game))).cpu()  # type: ignore[call-arg]
        if isinstance(game, Reconstructs):
            x = self.x.to(self._device(game))
            pairs = zip(x.split(8), game.reconstruct(x).split(8), strict=True)
            return torch.cat([part for pair in pairs for part in pair]).cpu()
        return None

    def _device(self, game: Game) -> torch.device:
        return next(game.parameters()).device


class Examiner:
    """Measure the kernel distance from what a generator makes to real examples that it never trains on.

    The features are those of `sparring.features.choose("default", ...)`, learnt from the training examples. The
    estimate is unbiased at any number of examples, so that few of them do for choosing between weights.
    """

    def __init__(self, setup: Setup) -> None:
        assert setup.held is not None
        self.extractor = choose("default", setup.fit)
        self.real = self.extractor.describe(setup.held.limited(MADE)).features.astype(np.float64)

    def __call__(self, game: Game, phase: str, done: int) -> Mapping[str, float]:
        assert isinstance(game, Generates)
        torch.manual_seed(1)
        made = self.extractor(self._shown(game.generate(min(64, MADE - k))) for k in range(0, MADE, 64)).features
        if not np.isfinite(made).all():  # of that, the engine complains
            return {}
        distance = discrepancy(self.real, made.astype(np.float64))
        return {DISTANCE: distance, CLOSENESS: -distance}

    def _shown(self, x: Tensor) -> Tensor:
        return as_saved(x.cpu()) if x.ndim == 4 else x.cpu()


def panel(judges: Sequence[Judge]) -> Judge | None:
    """Let several judges look as one; None for none."""

    def judge(game: Game, phase: str, done: int) -> dict[str, float]:
        return {name: score for one in judges for name, score in one(game, phase, done).items()}

    return judge if judges else None
