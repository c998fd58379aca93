"""The judges that look at a game while it trains: one paints what it makes, two measure it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring import pictures
from sparring.data import Source, Tiled, open_source, open_tiled, to_tensor
from sparring.engine import Judge
from sparring.features import choose
from sparring.generation import as_saved
from sparring.metrics.detection import auroc
from sparring.metrics.distances import discrepancy
from sparring.opening import form, grid_of, some
from sparring.preparation import Setup
from sparring.protocol import Game, Generates, Reconstructs, Translates
from sparring.sampling import Recalls
from sparring.scoring import scores_of

BATCH = 64
CLASSES = 20  # rows at most in a grid of samples by class
MADE = 2000  # examples at most that a look measures
INSPECTED = 500  # normal examples at most, and as many strange ones, that a look at a detector scores
SELECT, REPORT = "auroc_select", "auroc_report"  # noted in the journal; the second must choose nothing
DISTANCE, CLOSENESS = "kernel_distance", "closeness"  # noted in the journal; the second is minus the first


class Painter:
    """Paint a grid of what the model makes into the run's samples/."""

    def __init__(self, folder: Path, source: Source, partner: Source | None = None) -> None:
        self.folder = folder / "samples"
        self.x = to_tensor(source.read(some(len(source), 0)[:16]))
        self.partner = None if partner is None else to_tensor(partner.read(some(len(partner), 0)[:16]))

    def __call__(self, game: Game, phase: str, done: int) -> Mapping[str, float]:
        image = self.paint(game)
        if image is not None and bool(torch.isfinite(image).all()):  # of what is not, the engine complains
            pictures.save(pictures.grid(image, columns=8), self.folder / f"{done:07d}.png")
        return {}

    def paint(self, game: Game) -> Tensor | None:
        """64 samples (8 of each class or caption), images above reconstructions, or round trips; None for nothing."""
        if isinstance(game, Generates):
            torch.manual_seed(0)
            if isinstance(game, Recalls):
                return game.generate(64, caption=game.recall(8).repeat_interleave(8, 0)).cpu()  # type: ignore[call-arg]
            if not game.conditional:
                return game.generate(64).cpu()
            label = torch.arange(min(len(game.spec.classes), CLASSES)).repeat_interleave(8)
            return game.generate(len(label), label=label.to(self._device(game))).cpu()  # type: ignore[call-arg]
        if isinstance(game, Translates) and self.partner is not None:
            return torch.cat([self.trip(game, self.x, "b", "a"), self.trip(game, self.partner, "a", "b")]).cpu()
        if isinstance(game, Reconstructs):
            x = self.x.to(self._device(game))
            pairs = zip(x.split(8), game.reconstruct(x).split(8), strict=True)
            return torch.cat([part for pair in pairs for part in pair]).cpu()
        return None

    def trip(self, game: Translates, x: Tensor, there: str, back: str) -> Tensor:
        """Rows of 8 images, of what they are in the other domain, and of what these are back in their own."""
        x = x[:8].to(self._device(game))  # type: ignore[arg-type]
        x = torch.cat([x, x.new_ones(8 - len(x), *x.shape[1:])])
        made = game.translate(x, there)
        return torch.cat([x, made, game.translate(made, back)])

    def _device(self, game: Game) -> torch.device:
        return next(game.parameters()).device


class Examiner:
    """Measure the kernel distance from what a generator makes to real examples that it never trains on.

    The features are those of `sparring.features.choose("default", ...)`, learnt from the training examples. The
    estimate is unbiased at any number of examples, so that few of them do for choosing between weights.
    """

    def __init__(self, setup: Setup) -> None:
        assert isinstance(setup.held, Source)
        self.extractor = choose("default", setup.fit)
        self.real = self.extractor.describe(setup.held.limited(MADE)).features.astype(np.float64)
        labels = setup.fit.labels if setup.game.conditional else None  # classes as often as the data have them
        self.asked = None if labels is None else torch.from_numpy(np.random.default_rng(0).choice(labels, MADE))

    def __call__(self, game: Game, phase: str, done: int) -> Mapping[str, float]:
        torch.manual_seed(1)
        made = self.extractor(self._made(game, k, min(k + 64, MADE)) for k in range(0, MADE, 64)).features
        if not np.isfinite(made).all():  # of that, the engine complains
            return {}
        distance = discrepancy(self.real, made.astype(np.float64))
        return {DISTANCE: distance, CLOSENESS: -distance}

    def _made(self, game: Game, start: int, stop: int) -> Tensor:
        assert isinstance(game, Generates)
        if self.asked is None:
            x = game.generate(stop - start)
        else:
            label = self.asked[start:stop].to(next(game.parameters()).device)
            x = game.generate(stop - start, label=label)  # type: ignore[call-arg]
        return as_saved(x.cpu()) if x.ndim == 4 else x.cpu()


class Inspector:
    """Measure how well a detector in training tells normal examples from strange ones; it trains on neither.

    `auroc_select` is of the normal examples held out of training and of the other classes of the same split, where it
    has any. `auroc_report` is of the split that is reported on: a curve to look at, and nothing to choose by.

    Args:
        setup: The job, opened.
        normal: Names of the normal classes.
        split: The split that is reported on; None leaves it alone.
        most: Normal and strange examples at most, of each, the same ones at every look; None takes all.
    """

    def __init__(
        self, setup: Setup, normal: Sequence[str], split: str | None = None, most: int | None = INSPECTED
    ) -> None:
        self.parts: dict[str, tuple[Source | Tiled, Source | Tiled]] = {}
        assert setup.held is not None
        found = {SELECT: (setup.held, strange(opened(setup, setup.job.split), normal))}
        if split is not None:
            reported = opened(setup, split)
            found[REPORT] = (reported.of(normal), strange(reported, normal))
        for name, (sound, odd) in found.items():
            if odd is not None:
                self.parts[name] = (sound, odd) if most is None else (sound.limited(most), odd.limited(most))

    def __call__(self, game: Game, phase: str, done: int) -> dict[str, float]:
        found = {name: [scored(game, part) for part in parts] for name, parts in self.parts.items()}
        found = {name: scores for name, scores in found.items() if all(np.isfinite(s).all() for s in scores)}
        return {name: round(auroc(odd, sound), 6) for name, (sound, odd) in found.items()}


def scored(game: Game, source: Source | Tiled) -> NDArray[np.float64]:
    """Score every example with a game in training, (N,); an image that is seen through tiles by its strangest one."""
    return source.scores(lambda rows: scores_of(game, [to_tensor(rows)]), BATCH)


def strange(source: Source | Tiled, normal: Sequence[str]) -> Source | Tiled | None:
    """The examples of all other classes than these; None where there are none."""
    if source.labels is None:
        return None
    others = [source.classes[k] for k in np.unique(source.labels) if source.classes[k] not in normal]
    return source.of(others) if others else None


def opened(setup: Setup, split: str | None) -> Source | Tiled:
    """Another split of a job's data, as its model sees them."""
    job, seen = setup.job, form(setup.fit)
    options: dict[str, Any] = {"split": split, "classes": job.classes or None, "limit": job.limit}
    grid = grid_of(job)
    if grid is not None:
        return open_tiled(job.data, grid, channels=seen["channels"], region=setup.region, **options)
    return open_source(job.data, region=setup.region, **options, **seen)


def panel(judges: Sequence[Judge]) -> Judge | None:
    """Let several judges look as one; None for none."""

    def judge(game: Game, phase: str, done: int) -> dict[str, float]:
        return {name: score for one in judges for name, score in one(game, phase, done).items()}

    return judge if judges else None
