"""How well anomaly maps find the damaged pixels, in one pass over any number of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label

from sparring.errors import UserError

LIMIT = 0.3  # false-positive rate up to which the per-region overlap counts
BITS = 24  # of a float32 that tell two values apart
TOUCHING = np.ones((3, 3), dtype=bool)  # pixels of a region may meet at their corners
_END = object()

Curve = NDArray[np.float64]


def judge_pixels(
    maps: Iterable[NDArray[np.floating]],
    masks: Iterable[NDArray[np.generic] | None],
    regions: Iterable[NDArray[np.bool_] | None] | None = None,
) -> dict[str, float | None]:
    """Measure anomaly maps against the truth for every pixel, all images together.

    * "pixel_auroc" is P(damaged > sound) + P(damaged = sound) / 2 of a damaged and a sound pixel.
    * "aupro" is the area under the per-region overlap: the share of a damaged region above a threshold, mean over
      all regions of all images, so that small ones count as much as large ones, against the false-positive rate
      of the sound pixels of all images, from 0 to 0.3, divided by 0.3. Regions are what touches, also at corners.

    Maps and masks are consumed one at a time and kept as a `Histogram`. Two values that agree to one part in
    65,536 count as equal; so the AUROC is off by half the chance of that for a damaged and a sound pixel, at most.

    Reference: The MVTec Anomaly Detection Dataset: A Comprehensive Real-World Dataset for Unsupervised Anomaly
    Detection (Bergmann, Batzner, Fauser, Sattlegger, Steger, 2021), doi:10.1007/s11263-020-01400-4.

    Args:
        maps: Per image (H, W), higher is stranger; sizes may differ between images.
        masks: Per image (H, W), non-zero where damaged, or None for a normal image. Where the size is another
            than the map's, the map is resized to it (bilinear).
        regions: Per image (H, W), which pixels count, of the mask's size or the map's where there is none; None for
            all of them.

    Returns:
        Numbers in [0, 1], or None where there are no damaged or no sound pixels.

    Raises:
        UserError: For a map that is not finite, or maps and masks that do not belong together.
    """
    sound, damaged, overlaps = Histogram(), Histogram(), Histogram()
    count = 0
    inside: Iterator[NDArray[np.bool_] | None] = repeat(None) if regions is None else iter(regions)
    pairs: Iterable[tuple[Any, Any]] = zip_longest(maps, masks, fillvalue=_END)
    for index, (values, mask) in enumerate(pairs):
        if values is _END or mask is _END:
            raise UserError(f"There are {'fewer' if values is _END else 'more'} anomaly maps than masks.")
        values, where = _aligned(index, values, mask)
        region = next(inside)
        sound.add(values[~where if region is None else ~where & region])
        numbered, found = label(where if region is None else where & region, TOUCHING)
        hit = numbered > 0
        damaged.add(values[hit])
        overlaps.add(values[hit], 1 / np.bincount(numbered[hit], minlength=1)[numbered[hit]])
        count += found
    at = np.union1d(sound.levels, damaged.levels)[::-1]
    if not sound.total or not damaged.total:
        return {"pixel_auroc": None, "aupro": None}
    rate, recall, overlap = (
        np.append(0, np.cumsum(found.counts[at])) / total
        for found, total in ((sound, sound.total), (damaged, damaged.total), (overlaps, count))
    )
    return {"pixel_auroc": area(rate, recall), "aupro": area(rate, overlap, LIMIT)}


def area(x: Curve, y: Curve, limit: float = 1.0) -> float:
    """The mean height of a curve over [0, limit], by trapezia; x rises from 0 to 1."""
    kept = x <= limit
    x, y = np.append(x[kept], limit), np.append(y[kept], np.interp(limit, x, y))
    return min(1.0, float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / limit))  # sums of shares round past 1


class Histogram:
    """Count float32 values without end and without knowing their range.

    A value is known by the first 24 bits of its float32: sign, exponent and 15 bits of the mantissa. So values
    are told apart to one part in 65,536, and memory is bounded: an octave of values takes 256 KB.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(1 << BITS)  # the system lends memory for what is touched only
        self.low, self.high = len(self.counts), 0  # of what was touched

    def add(self, values: NDArray[np.floating], weight: Any = 1.0) -> None:
        """Count these values (N,), each with its weight."""
        if len(values):
            levels = _ordered(values)
            self.low, self.high = min(self.low, int(levels.min())), max(self.high, int(levels.max()) + 1)
            np.add.at(self.counts, levels, weight)

    @property
    def levels(self) -> NDArray[np.intp]:
        """Where something was counted, in the order of the values."""
        return self.low + np.flatnonzero(self.counts[self.low : self.high])

    @property
    def total(self) -> float:
        return float(self.counts[self.low : self.high].sum())

    def quantile(self, share: float) -> float:
        """The value that this share of the counted ones does not exceed, to one part in 65,536."""
        at = self.levels
        reached = np.cumsum(self.counts[at])
        level = np.uint32(at[np.searchsorted(reached, share * reached[-1])] << (32 - BITS))
        bits = level ^ np.uint32(1 << 31) if level >> 31 else ~level
        return float(np.asarray(bits, np.uint32).view(np.float32))


def _ordered(values: NDArray[np.floating]) -> NDArray[np.uint32]:
    """The first bits of float32 numbers, as whole numbers of the same order."""
    bits = (np.asarray(values, np.float32) + np.float32(0)).view(np.uint32)  # + 0 turns -0 into 0
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)) >> np.uint32(32 - BITS)


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
