"""How well anomaly maps find the damaged pixels."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparring.errors import UserError

LIMIT = 10_000_000  # pixels kept of each kind: exact up to here, and 40 MB
_END = object()


def pixel_auroc(
    maps: Iterable[NDArray[np.floating]], masks: Iterable[NDArray[np.generic] | None], limit: int = LIMIT
) -> float | None:
    """AUROC of single pixels, all images together: P(damaged > sound) + P(damaged = sound) / 2.

    Maps and masks are consumed one image at a time, in bounded memory. The result is exact as long as there
    are at most `limit` damaged and `limit` sound pixels; beyond that each kind is a random sample (of a
    fixed seed) of more than limit / 2 pixels, and the standard error is below 0.5 / sqrt(limit / 2) = 0.0003.

    Args:
        maps: Per image (H, W), higher is stranger; sizes may differ between images.
        masks: Per image (H, W), non-zero where damaged, or None for a normal image. Where the size is another
            than the map's, the map is resized to it (bilinear).
        limit: Pixels kept of each kind.

    Returns:
        A number in [0, 1], or None where there are no damaged or no sound pixels.

    Raises:
        UserError: For a map that is not finite, or maps and masks that do not belong together.
    """
    rng = np.random.default_rng(0)
    damaged, sound = _Sample(limit, rng), _Sample(limit, rng)
    pairs: Iterable[tuple[Any, Any]] = zip_longest(maps, masks, fillvalue=_END)
    for index, (values, mask) in enumerate(pairs):
        if values is _END or mask is _END:
            raise UserError(f"There are {'fewer' if values is _END else 'more'} anomaly maps than masks.")
        values, where = _aligned(index, values, mask)
        damaged.add(values[where])
        sound.add(values[~where])
    return auroc(damaged.values(), sound.values())


def auroc(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> float | None:
    """AUROC of two sets of scores (ties count half), or None where one is empty.

    By rank in the sorted negatives: a third of the memory that a full ROC curve takes.
    """
    if not len(positive) or not len(negative):
        return None
    negative, positive = np.sort(negative), np.sort(positive)
    below = np.searchsorted(negative, positive, side="left").sum(dtype=np.float64)
    up_to = np.searchsorted(negative, positive, side="right").sum(dtype=np.float64)
    return float((below + up_to) / 2 / len(positive) / len(negative))


class _Sample:
    """Keep a fair sample of a stream: all of it at first, then halved whenever it outgrows the limit."""

    def __init__(self, limit: int, rng: np.random.Generator) -> None:
        self.limit, self.rng = limit, rng
        self.parts: list[NDArray[np.float32]] = []
        self.count, self.rate = 0, 1.0

    def add(self, values: NDArray[np.float32]) -> None:
        if self.rate < 1:
            values = values[self.rng.random(len(values)) < self.rate]
        self.parts.append(values)
        self.count += len(values)
        while self.count > self.limit:
            kept = self.values()
            self.rng.shuffle(kept)
            self.parts = [kept[: len(kept) // 2].copy()]
            self.count, self.rate = len(self.parts[0]), self.rate / 2

    def values(self) -> NDArray[np.float32]:
        return np.concatenate(self.parts) if self.parts else np.empty(0, np.float32)


def _aligned(index: int, values: NDArray, mask: NDArray | None) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The map as float32 (H, W) and where it is damaged, both of the mask's size."""
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 2:
        raise UserError(f"Anomaly map {index} must be (height, width); got the shape {values.shape} instead.")
    if not np.isfinite(values).all():
        raise UserError(f"Anomaly map {index} holds NaN or infinite values: the model is broken; train it again.")
    if mask is None:
        return values, np.zeros(values.shape, dtype=bool)
    where = np.asarray(mask) != 0
    if where.ndim == 3 and where.shape[-1] == 1:
        where = where[..., 0]
    if where.shape == values.shape:
        return values, where
    h, w = values.shape
    # Another side ratio means that the image was cropped and its mask was not: no resizing mends that.
    if where.ndim != 2 or abs(where.shape[0] * w - where.shape[1] * h) >= max(where.shape):
        raise UserError(f"Anomaly map {index} is {values.shape} but its mask is {where.shape}: crop both alike.")
    resized = Image.fromarray(values).resize(where.shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32), where
