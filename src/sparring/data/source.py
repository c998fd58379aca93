"""What every form of data becomes: numbered examples with names and classes, and their rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from PIL import Image

from sparring.data.decode import as_image, original, own_side
from sparring.data.rows import pages_of, read_rows
from sparring.errors import UserError, unknown

if TYPE_CHECKING:
    from typing import Self

    from sparring.data.decode import Picture
    from sparring.data.region import Region
    from sparring.protocol import Spec

LIMIT_SEED = 0  # the same --limit gives the same examples in every run


class Numbered(Sequence[str]):
    """The names "mnist/test/0", "mnist/test/1" and so on, written out only where they are asked for."""

    def __init__(self, prefix: str, numbers: Sequence[int] | np.ndarray) -> None:
        self.prefix = prefix
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Numbered: ...
    def __getitem__(self, at: int | slice) -> str | Numbered:
        if isinstance(at, slice):
            return Numbered(self.prefix, self.numbers[at])
        return f"{self.prefix}/{self.numbers[at]}"

    def __iter__(self) -> Iterator[str]:
        return (f"{self.prefix}/{number}" for number in self.numbers)


@dataclass(frozen=True, eq=False, kw_only=True)
class Examples:
    """Examples by number: what is known of them apart from their content.

    Attributes:
        name: What the user wrote, such as "mnist" or "./photos".
        split: "train", "test", ...; None when the data has no splits.
        names: Where each example came from: a relative path, or "mnist/test/123".
        labels: Class numbers (N,), int64; None without labels.
        classes: Names of the classes by number; empty without labels.
        masks: Files with the ground truth for pixels, None for an example without; None when there are none at all.
        originals: Image files on disk, when there are some.
        captions: Texts that describe each example, any number of them; None when there are none at all.
        normal: Names of the classes that count as normal by the layout itself.
        skipped: (name, reason) of the images that cannot be read.
        notes: Sentences worth telling the user.
        index: Which stored rows the examples are, in order; None stands for all of them.
    """

    name: str
    split: str | None = None
    names: Sequence[str]
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    masks: Sequence[Path | None] | None = None
    originals: Sequence[Path] | None = None
    captions: Sequence[tuple[str, ...]] | None = None
    normal: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    index: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, indices: Any) -> np.ndarray:
        """Numbers of the stored rows of these examples (a list, an array, a boolean mask or a slice)."""
        if isinstance(indices, slice):
            indices = range(*indices.indices(len(self)))
        at = np.asarray(indices)
        at = np.flatnonzero(at) if at.dtype == bool else at.astype(np.int64, copy=False)
        return at if self.index is None else self.index[at]

    def take(self, indices: Any) -> Self:
        """These examples only, in this order; their content is neither read nor copied."""
        at = replace(self, index=None).rows(indices)
        numbers = at.tolist()

        def pick(values: Any) -> Any:
            if isinstance(values, Numbered):
                return Numbered(values.prefix, np.asarray(values.numbers)[at])
            return None if values is None else tuple(values[i] for i in numbers)

        return replace(
            self,
            names=pick(self.names),
            labels=None if self.labels is None else self.labels[at],
            masks=pick(self.masks),
            originals=pick(self.originals),
            captions=pick(self.captions),
            index=self.rows(at),
        )

    def of(self, classes: Sequence[str]) -> Self:
        """Only the examples of these classes, which are then numbered anew in their old order.

        A class goes by its name, or by its number where no class is named by one.

        Raises:
            UserError: For a class that does not exist or is empty here, or when there are no labels.
        """
        if self.labels is None:
            raise UserError(f"'{self.name}' has no labels to choose classes by: leave the classes out, or add labels.")
        kept = sorted({self.class_number(str(name)) for name in classes})
        renumbered = np.full(len(self.classes), -1, np.int64)
        renumbered[kept] = np.arange(len(kept))
        chosen = self.take(renumbered[self.labels] >= 0)
        if len(chosen) == 0:
            raise UserError(f"'{self.name}' has no example of {', '.join(map(str, classes)) or 'no class'} here.")
        assert chosen.labels is not None
        return replace(
            chosen,
            labels=renumbered[chosen.labels],
            classes=tuple(self.classes[k] for k in kept),
            normal=tuple(name for name in self.normal if self.classes.index(name) in kept),
        )

    def class_number(self, name: str) -> int:
        """The number of a class, by its name or its number."""
        if name in self.classes:
            return self.classes.index(name)
        numbered = any(known.isdecimal() for known in self.classes)  # "0" is no other class where a "1" is named
        if name.isdecimal() and int(name) < len(self.classes) and not numbered:
            return int(name)
        raise unknown("class", name, self.classes)

    def limited(self, count: int) -> Self:
        """A random subset, always the same one, in the old order; each class keeps its share in expectation.

        Raises:
            UserError: When `count` is below 1.
        """
        if count < 1:
            raise UserError(f"--limit is the number of examples to use and must be 1 or more; got {count}.")
        if count >= len(self):
            return self
        chosen = np.random.default_rng(LIMIT_SEED).permutation(len(self))[:count]
        return self.take(np.sort(chosen))


@dataclass(frozen=True, eq=False, kw_only=True)
class Pictures(Examples):
    """Images that are not decoded yet.

    Attributes:
        opened: Gives the pictures of these stored rows, in their order.
        stamp: What their content is known by (paths, sizes, times), for the cache; None: lives in memory only.
        array: The stored pixels (M, H, W, C), uint8 or floats in [0, 1], when they are an array already.
        mapped: Whether decoded ones are read from disk each time even where they fit in memory.
        alike: Width, height and greyness of every picture, where all are known to share them.
    """

    opened: Callable[[np.ndarray], Iterable[Picture]]
    stamp: Any = None
    array: np.ndarray | None = None
    mapped: bool = False
    alike: tuple[int, int, bool] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Source(Examples):
    """Examples whose content can be read by number.

    Attributes:
        items: Stored rows: images uint8 (M, H, W, C) with C 1 or 3, or features float32 (M, D); possibly on
            disk. After `take` only the rows in `index` belong to the source: go through `read`.
        region: Where images count, and outside of which they are grey; None for everywhere.
    """

    items: np.ndarray
    region: Region | None = None

    @property
    def is_image(self) -> bool:
        return self.items.ndim == 4

    @property
    def on_disk(self) -> bool:
        """Whether the rows are read from disk each time, because they are large beside the memory."""
        return pages_of(self.items) is not None

    def read(self, indices: Any) -> np.ndarray:
        """Copy the content of these examples (a list, an array, a boolean mask or a slice)."""
        return read_rows(self.items, self.rows(indices))

    def parts(self, size: int) -> Iterator[np.ndarray]:
        """All examples in order, `size` at a time."""
        return (self.read(slice(start, start + size)) for start in range(0, len(self), size))

    def scores(self, score: Callable[[np.ndarray], np.ndarray], size: int) -> np.ndarray:
        """One number an example, (N,) float64, by what scores up to `size` rows."""
        return np.concatenate([score(rows) for rows in self.parts(size)]).astype(np.float64)

    def maps(self, anomaly_map: Callable[[np.ndarray], np.ndarray], size: int) -> Iterator[np.ndarray]:
        """One map an image, (S, S) float32, by what maps up to `size` rows; 0 outside the region.

        S is the side of the central square of the image's file, where there is one, else that of the stored image.
        """
        numbers = iter(range(len(self)))
        for rows in self.parts(size):
            for values, number in zip(anomaly_map(rows), numbers):  # noqa: B905  # the maps end first
                inside = self.inside(number)
                whole = values if self.originals is None else resized(values, own_side(self.originals[number]))
                yield whole if inside is None else np.where(inside, whole, np.float32(0))

    def inside(self, number: int, mask: Path | None = None) -> np.ndarray | None:
        """Where the map of an image counts, (S, S) bool, at the side of its mask if that is given; None: all of it."""
        if self.region is None:
            return None
        file = mask or (self.originals[number] if self.originals is not None else None)
        side = self.items.shape[1] if file is None else own_side(file)
        return self.region.at(side, side, True)

    def picture(self, number: int) -> Image.Image:
        """The central square of an image's file, where there is one, else the stored image."""
        return as_image(self.read([number])[0]) if self.originals is None else original(self.originals[number])

    def spec(self) -> Spec:
        """What the data dictate to a model."""
        from sparring.protocol import Spec  # here, because it brings torch

        shape = self.items.shape[1:]
        if self.is_image:
            shape = (shape[2], shape[0], shape[1])
        return Spec(shape=tuple(shape), count=len(self), classes=self.classes)


def resized(values: np.ndarray, side: int) -> np.ndarray:
    """A map (H, W) float32 at this side, (side, side), bilinear."""
    if values.shape == (side, side):
        return values
    return np.asarray(Image.fromarray(values).resize((side, side), Image.Resampling.BILINEAR))


def natural(name: str) -> list[str | int]:
    """Sort key by which "9" comes before "10"."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]


def number_labels(
    values: np.ndarray, name: str, count: int, others: Sequence[np.ndarray] = ()
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turn labels as given into class numbers (N,) int64 and the names of the classes, with those of other splits.

    Whole numbers from 0 stay what they are; anything else is numbered in sorted order.

    Raises:
        UserError: For labels of another length or shape, or that are no class labels.
    """
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (count,):
        raise UserError(f"'{name}' has {count} examples but labels of shape {values.shape}: give one label an example.")
    values = np.concatenate([values, *(np.ravel(other) for other in others)])
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    plain = values.dtype.kind != "O" or all(isinstance(value, (str, int)) for value in values)
    if values.dtype.kind not in "biuUSO" or not plain:
        raise UserError(f"'{name}' has labels of type {values.dtype}: labels are whole numbers or names.")
    if values.dtype.kind in "iub" and len(values) and values.min() >= 0 and values.max() < max(1000, len(values)):
        labels = values.astype(np.int64)
        return labels[:count], tuple(str(k) for k in range(int(labels.max()) + 1))
    found, labels = np.unique(values if values.dtype.kind in "iub" else values.astype(str), return_inverse=True)
    order = list(range(len(found)))
    if found.dtype.kind == "U":
        order.sort(key=lambda k: natural(str(found[k])))
    rank = np.empty(len(found), np.int64)
    rank[order] = np.arange(len(found))
    return rank[labels[:count]], tuple(str(found[k]) for k in order)
