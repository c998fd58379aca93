"""Images larger than a network, seen through overlapping tiles at their own resolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sparring.data.cache import decoded, in_threads, none_of, remembered
from sparring.data.decode import Picture, as_image, decode_whole, pillow_quiet, read_mask
from sparring.data.pixels import as_source, look_at_array, look_at_files, refusal
from sparring.data.region import Region
from sparring.data.source import Numbered, Pictures, Source
from sparring.errors import UserError

if TYPE_CHECKING:
    from sparring.protocol import Spec


def overlapping(tile: int, overlap: int | None) -> int:
    """By how many pixels tiles of this side overlap: a quarter where nothing else is asked."""
    return tile // 4 if overlap is None else overlap


@dataclass(frozen=True)
class Grid:
    """Square tiles that cover an image of any size, evenly.

    Attributes:
        side: Of a tile, in pixels.
        overlap: Pixels that neighbours share, at least.
    """

    side: int
    overlap: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.side:
            raise UserError(f"--overlap must be from 0 to less than --tile {self.side}; got {self.overlap}.")

    def starts(self, length: int) -> np.ndarray:
        """Where tiles begin along a side of so many pixels."""
        count = math.ceil((length - self.side) / (self.side - self.overlap)) + 1
        return np.rint(np.linspace(0, length - self.side, count)).astype(int)

    def corners(self, height: int, width: int, inside: np.ndarray | None = None) -> np.ndarray:
        """Upper left corners (T, 2) of the tiles of an image; only of those that touch what is `inside` (H, W)."""
        y, x = np.meshgrid(self.starts(height), self.starts(width), indexing="ij")
        corners = np.stack([y.ravel(), x.ravel()], 1)
        if inside is None:
            return corners
        return corners[[bool(tile.any()) for tile in self.cut(inside, corners)]]

    def cut(self, image: np.ndarray, corners: np.ndarray) -> Iterator[np.ndarray]:
        """The tiles (side, side, ...) at these corners."""
        for y, x in corners:
            yield image[y : y + self.side, x : x + self.side]

    def ramp(self) -> np.ndarray:
        """Weight of each pixel along a side of a tile, (side,): it falls smoothly over the overlap, never to 0."""
        inward = np.minimum(np.arange(self.side), np.arange(self.side)[::-1]) + 0.5
        return np.sin(np.pi / 2 * np.minimum(1, inward / max(self.overlap, 0.5))).astype(np.float32) ** 2

    def blended(self, height: int, width: int, parts: Iterator[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Lay maps of tiles (side, side), each with its corner, together to one (height, width).

        Where tiles overlap, the result is their weighted mean by `ramp`, so that it passes smoothly from one to the
        next. What no tile covers is 0.
        """
        ramp = self.ramp()
        window = np.outer(ramp, ramp)
        total = np.zeros((height, width), np.float32)
        for tile, (y, x) in parts:
            total[y : y + self.side, x : x + self.side] += window * tile
        for axis, length in enumerate((height, width)):  # the weights of a grid of products are a product
            weight = np.zeros(length, np.float32)
            for start in self.starts(length):
                weight[start : start + self.side] += ramp
            total /= weight[:, None] if axis == 0 else weight
        return total


@dataclass(frozen=True, eq=False, kw_only=True)
class Tiled(Pictures):
    """Images read one at a time at their own resolution, each judged by its tiles.

    Attributes:
        grid: How an image is cut.
        channels: 1 or 3.
        sizes: (N, 2) heights and widths of the images.
        region: Where images count; None for everywhere.
    """

    grid: Grid
    channels: int
    sizes: np.ndarray
    region: Region | None = None

    def take(self, indices: Any) -> Tiled:
        """These images only, in this order."""
        at = replace(self, index=None).rows(indices)
        return replace(super().take(indices), sizes=self.sizes[at])

    def spec(self) -> Spec:
        """What the data dictate to a model, which sees one tile at a time."""
        from sparring.protocol import Spec  # here, because it brings torch

        return Spec((self.channels, self.grid.side, self.grid.side), len(self), self.classes)

    def images(self) -> Iterator[np.ndarray]:
        """Every image (H, W, C) uint8, in order; one is in memory at a time."""
        for number, picture in enumerate(self.opened(self.rows(slice(None)))):
            with pillow_quiet():
                image = decode_whole(picture, self.channels)
            if isinstance(image, str):
                raise refusal(self.names[number], image)
            yield image

    def picture(self, number: int) -> Image.Image:
        """An image at its own resolution."""
        return as_image(next(self.take([number]).images()))

    def inside(self, number: int, mask: Path | None = None) -> np.ndarray | None:
        """Where an image counts, (H, W) bool, at the size of its mask where one is given; None for everywhere."""
        if self.region is None:
            return None
        height, width = map(int, self.sizes[number]) if mask is None else read_mask(mask).shape
        return self.region.at(height, width, False)

    def tiles(self, image: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Up to `size` tiles of an image at a time, (B, side, side, C), and their corners (B, 2)."""
        height, width = image.shape[:2]
        inside = None
        if self.region is not None:
            image, inside = self.region.blank(image), self.region.at(height, width, False)
        corners = self.grid.corners(height, width, inside)
        for start in range(0, len(corners), size):
            part = corners[start : start + size]
            yield np.stack(list(self.grid.cut(image, part))), part

    def scores(self, score: Callable[[np.ndarray], np.ndarray], size: int) -> np.ndarray:
        """One number an image, (N,) float64: that of its strangest tile."""
        best = [max(score(rows).max() for rows, _ in self.tiles(image, size)) for image in self.images()]
        return np.array(best, np.float64)

    def maps(self, anomaly_map: Callable[[np.ndarray], np.ndarray], size: int) -> Iterator[np.ndarray]:
        """One map an image, (H, W) float32 at its own resolution: those of its tiles, blended; 0 outside the region."""
        for number, image in enumerate(self.images()):
            found = self.tiles(image, size)
            parts = ((tile, at) for rows, corners in found for tile, at in zip(anomaly_map(rows), corners, strict=True))
            height, width = image.shape[:2]
            whole = self.grid.blended(height, width, parts)
            inside = self.inside(number)
            yield whole if inside is None else np.where(inside, whole, np.float32(0))

    def cut(self) -> Source:
        """All tiles of all images as examples of their own, decoded once and kept on disk."""
        counts = [
            len(self.grid.corners(height, width, self.inside(k)))
            for k, (height, width) in enumerate(self.sizes.tolist())
        ]
        shape = (self.grid.side, self.grid.side, self.channels)
        about = [self.grid.overlap, None if self.region is None else self.region.stamp]
        items, skipped, notes = decoded(self, shape, *about, work=self.cut_one, count=sum(counts))
        for number, why in skipped.items():  # they could be read a moment ago
            raise refusal(self.names[number], why)
        return as_source(
            self, items, index=None, names=Numbered(f"{self.name}/tile", range(len(items))), masks=None,
            originals=None, labels=None if self.labels is None else np.repeat(self.labels, counts),
            notes=(*self.notes, *notes),
        )  # fmt: skip

    def cut_one(self, picture: Picture) -> np.ndarray | str:
        """The tiles (T, side, side, C) of a picture, or the reason why there are none."""
        image = decode_whole(picture, self.channels)
        return image if isinstance(image, str) else np.concatenate([rows for rows, _ in self.tiles(image, 1024)])


def tiled(pictures: Pictures, grid: Grid, channels: int | None, strict: bool, region: Region | None) -> Tiled:
    """See images through tiles; those that cannot be read, or are smaller than a tile, are skipped.

    Raises:
        UserError: When none is left; with `strict`, when one is skipped; where a region has other proportions.
    """
    found = measured(pictures)
    skipped = {}
    for number, size in enumerate(found):
        if isinstance(size, str):
            skipped[number] = size
        elif min(size) < grid.side:
            skipped[number] = f"it is {size[1]}x{size[0]} pixels, less than a tile of {grid.side}"
        elif region is not None:
            region.check(pictures.names[number], *size)
    if skipped and strict:
        raise refusal(pictures.names[min(skipped)], skipped[min(skipped)])
    kept = np.array([number for number in range(len(pictures)) if number not in skipped], int)
    if not len(kept):
        raise none_of(pictures, min(skipped), skipped[min(skipped)])
    if channels is None:
        array = pictures.array
        seen = look_at_array(pictures, array) if array is not None else look_at_files(pictures, strict)
        channels = 1 if seen.grey else 3
    about = {field.name: getattr(pictures, field.name) for field in fields(Pictures)}
    about["skipped"] = tuple((pictures.names[number], why) for number, why in skipped.items())
    sizes: Sequence[Any] = [size if isinstance(size, list) else (0, 0) for size in found]
    return Tiled(**about, grid=grid, channels=channels, sizes=np.array(sizes, int), region=region).take(kept)


def measured(pictures: Pictures) -> list[list[int] | str]:
    """Height and width of every picture, or the reason why it cannot be read: each is decoded once to know."""
    if pictures.array is not None:
        return [list(pictures.array.shape[1:3])] * len(pictures)
    return remembered(pictures, lambda: [found for group in in_threads(pictures, measure) for found in group], "sizes")


def measure(picture: Picture) -> list[int] | str:
    found = decode_whole(picture, 1)
    return found if isinstance(found, str) else list(found.shape[:2])
