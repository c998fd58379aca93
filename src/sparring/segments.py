"""Open-set recognition of pixels: feature maps with label maps in, maps of how open each position is out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from sparring.errors import UserError
from sparring.metrics.detection import auroc
from sparring.run import Run

CLOSED, OPEN = 0, 1  # in a label map; anything else is neither


def shrunk(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A label map (H, W) at the size of a feature map, by the nearest pixel to each position's centre."""
    rows, columns = (
        ((np.arange(small) + 0.5) * (large / small)).astype(np.int64)
        for small, large in zip(shape, labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]


def pixels(
    maps: Iterable[tuple[np.ndarray, np.ndarray]], each: int = 640, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw features of closed and of open pixels, as many of each map: two arrays (N, D) float32.

    Training mixes the pixels of all maps in its minibatches; the authors take those of one image a step.

    Args:
        maps: Pairs of a feature map (D, H, W) and a label map of any size: 0 closed, 1 open, else left out.
        each: Pixels of a kind that are drawn from a map at most; the authors take 640.
        seed: Of the draw.

    Raises:
        UserError: For maps that are none or of several widths D, or features that are NaN.
    """
    random = np.random.default_rng(seed)
    found: dict[int, list[np.ndarray]] = {CLOSED: [], OPEN: []}
    width: int | None = None
    for features, labels in maps:
        check(features)
        width = len(features) if width is None else width
        if len(features) != width:
            raise UserError(f"One map has {width} features a pixel, another {len(features)}: give maps of one width.")
        if labels.ndim != 2:
            raise UserError(f"A label map is of shape (H, W); got {labels.shape}.")
        flat, kinds = features.reshape(len(features), -1).T, shrunk(labels, features.shape[1:]).ravel()
        for kind, rows in found.items():
            where = np.flatnonzero(kinds == kind)
            rows.append(flat[np.sort(random.permutation(where)[:each])])
    if not sum(map(len, found[CLOSED])):
        raise UserError("These label maps have no closed pixels (0) to learn from: map the known classes to 0.")
    closed, opened = (np.concatenate(rows).astype(np.float32) for rows in found.values())
    return closed, opened


def check(features: np.ndarray) -> None:
    """Raise a UserError for what is no feature map (D, H, W) of finite numbers."""
    if features.ndim != 3 or not np.isfinite(features).all():
        raise UserError(f"A feature map is of shape (D, H, W) and holds finite numbers; got shape {features.shape}.")


@torch.no_grad()
def score_maps(run: Run, maps: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """How open each position of feature maps (D, H, W) is, (H, W) float32 each; higher is more open.

    Raises:
        UserError: For maps of another width than the run's features, or a run of another model.
    """
    score_map: Any = getattr(run.game, "score_map", None)
    if score_map is None or run.spec.is_image:
        raise UserError(
            f"A run of {run.job.model} on {run.job.data} scores no feature maps: train opengan on features."
        )
    for features in maps:
        check(features)
        if len(features) != run.spec.size:
            raise UserError(f"This map has {len(features)} features a pixel, and the run {run.spec.size}: use its own.")
        yield score_map(torch.from_numpy(features.astype(np.float32))[None])[0].numpy()


def pixel_recognition(scores: Iterable[np.ndarray], labels: Iterable[np.ndarray]) -> float:
    """The AUROC of open pixels, the positive ones, against closed ones; others are left out.

    Raises:
        UserError: For no maps, or maps without closed or without open pixels.
    """
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for score, kind in zip(scores, labels, strict=True):
        small = shrunk(kind, score.shape)
        inside = (small == CLOSED) | (small == OPEN)
        kept.append((small[inside] == OPEN, score[inside]))
    if not kept:
        raise UserError("There are no maps to judge: give a score map and a label map at least.")
    truth, score = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    if truth.all() or not truth.any():
        raise UserError("These label maps hold closed pixels only, or open ones only: give both.")
    return auroc(score[truth], score[~truth])
