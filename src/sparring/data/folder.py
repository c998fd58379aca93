"""A folder of images: flat, one folder per class, with splits, or in the MVTec layout."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import numpy as np
from PIL import Image

from sparring.data.captions import with_metadata
from sparring.data.source import Examples, Pictures, natural
from sparring.errors import UserError

# Every form of data is told as its splits: a name (None for data without splits) and how to open it.
Splits: TypeAlias = "dict[str | None, Callable[[], Examples]]"

SPLITS = ("train", "test", "val", "valid", "validation")
TRUTH = "ground_truth"


@dataclass(frozen=True)
class File:
    """A file within a folder: where it is, its path from there as text, and what tells whether it changed."""

    path: Path
    relative: PurePosixPath
    size: int
    changed: int

    @property
    def top(self) -> str:
        """The first folder on its way; empty when it lies in none."""
        return self.relative.parts[0] if len(self.relative.parts) > 1 else ""

    def below(self) -> File:
        """The same file, as seen from that folder."""
        return File(self.path, PurePosixPath(*self.relative.parts[1:]), self.size, self.changed)

    def stamp(self) -> tuple[str, int, int]:
        return str(self.relative), self.size, self.changed


@cache
def image_suffixes() -> frozenset[str]:
    """Endings of the files that Pillow opens."""
    Image.preinit()  # first, so that the common formats are tried first
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN)


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in image_suffixes()


def walk(root: Path) -> list[File]:
    """All files below a folder, in natural order; links are followed, hidden ones are not seen.

    Raises:
        UserError: When the folder itself cannot be read.
    """
    if not os.access(root, os.R_OK | os.X_OK):
        raise UserError(f"The folder '{root}' cannot be read: allow it, or give another.")
    found: list[File] = []
    seen: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in seen else [name for name in below if not name.startswith((".", "__MACOSX"))]
        if real in seen:  # a link back to a folder that we have been in
            continue
        seen.add(real)
        for name in names:
            path = Path(folder, name)
            facts = None if name.startswith(".") else facts_of(path)
            if facts is not None and stat.S_ISREG(facts.st_mode):
                relative = PurePosixPath(printable(str(path.relative_to(root))))
                found.append(File(path, relative, facts.st_size, facts.st_mtime_ns))
    return sorted(found, key=lambda file: natural(str(file.relative)))


def printable(name: str) -> str:
    """The name of a file as text that can be written, whatever bytes it consists of."""
    return os.fsencode(name).decode(errors="backslashreplace")


def facts_of(path: Path) -> os.stat_result | None:
    """Size, date and kind of a file; None where it is gone meanwhile."""
    try:
        return path.stat()
    except OSError:
        return None


def images_in(root: Path) -> Iterator[File]:
    """The image files below a folder, in natural order."""
    return (file for file in walk(root) if is_image_name(file.relative.name))


def open_folder(root: Path, name: str, files: Sequence[File]) -> Splits:
    """The splits of a folder, given all its files."""
    images = [file for file in files if is_image_name(file.relative.name)]
    if not images:
        raise UserError(
            f"'{name}' has no image files: give a folder with images that Pillow reads (.png, .jpg, .webp, .tif, ...), "
            f"with .parquet files, or with the IDX files of MNIST."
        )
    tops = {file.top for file in images}

    def told(split: str | None, own: Sequence[File], classes: Sequence[str] | None = None) -> Examples:
        return with_metadata(by_class(root, name, split, own, classes), own, files)

    if not {"train", "test"} <= tops and not (tops - {TRUTH} <= set(SPLITS) and tops - {TRUTH}):
        return {None: partial(told, None, images)}
    parts = {split: [f.below() for f in images if f.top == split] for split in SPLITS if split in tops}
    classes = sorted({file.top for part in parts.values() for file in part}, key=natural)
    if is_mvtec(parts):
        truth = [file.below() for file in images if file.top == TRUTH]
        return {split: partial(mvtec, root, name, split, own, classes, truth) for split, own in parts.items()}
    return {split: partial(told, split, own, classes) for split, own in parts.items()}


def by_class(
    root: Path, name: str, split: str | None, files: Sequence[File], classes: Sequence[str] | None = None
) -> Pictures:
    """Images whose class is the folder they lie in; without labels when some lie in none."""
    tops = [file.top for file in files]
    flat = "" in tops or (classes is not None and "" in classes)
    note = f"Images lie both in '{name}' itself and in folders below it, so that folders are not taken for classes."
    if classes is None:
        classes = sorted(set(tops), key=natural)
    number = {c: k for k, c in enumerate(classes)}
    return Pictures(
        name=name,
        split=split,
        names=tuple(str(file.relative) if split is None else f"{split}/{file.relative}" for file in files),
        labels=None if flat else np.array([number[top] for top in tops], np.int64),
        classes=() if flat else tuple(classes),
        originals=tuple(file.path for file in files),
        notes=(note,) if flat and len(set(classes)) > 1 else (),
        opened=opened_files(files),
        stamp=[str(root.resolve()), split, [file.stamp() for file in files]],
    )


def opened_files(files: Sequence[File]) -> Callable[[np.ndarray], Iterator[Path]]:
    return lambda rows: (files[row].path for row in rows)


def is_mvtec(parts: dict[str, list[File]]) -> bool:
    """Whether all training images lie in train/good and all test images in folders named after defects."""
    train = {file.top for file in parts.get("train", [])}
    test = {file.top for file in parts.get("test", [])}
    return train == {"good"} and bool(test) and "" not in test


def mvtec(
    root: Path, name: str, split: str, files: Sequence[File], classes: Sequence[str], truth: Sequence[File]
) -> Pictures:
    """A split of the MVTec layout; both splits have the same classes, "good" first."""
    found = by_class(root, name, split, files, ["good", *(c for c in classes if c != "good")])
    masks = {(file.top, file.relative.stem.removesuffix("_mask")): file.path for file in truth}
    own = tuple(masks.get((file.top, file.relative.stem)) for file in files)
    return replace(found, normal=("good",), masks=own if any(own) else None)
