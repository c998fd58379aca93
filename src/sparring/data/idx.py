"""IDX files, the format of MNIST, gzipped or not."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sparring.data.arrays import from_array, stamp_of
from sparring.data.folder import File, Splits
from sparring.data.rows import brief
from sparring.data.source import Examples
from sparring.errors import UserError

IMAGES = re.compile(r"images?[-.]idx3-ubyte(\.gz)?$")
UNSIGNED_BYTE = 8  # the third byte of the file


def is_idx(name: str) -> bool:
    """Whether a file is named as MNIST names its images."""
    return IMAGES.search(name) is not None


def open_idx(path: Path, name: str) -> Splits:
    return {None: partial(from_idx, path, name, None)}


def open_idx_folder(files: Sequence[File], name: str) -> Splits:
    """The official files of MNIST and its likes: train-... and t10k-... (or test-...)."""
    found: Splits = {}
    for file in files:
        if is_idx(file.relative.name) and file.top == "":
            split = "train" if file.relative.name.startswith("train") else "test"
            found.setdefault(split, partial(from_idx, file.path, name, split))
    return {split: found[split] for split in ("train", "test") if split in found}


def from_idx(path: Path, name: str, split: str | None) -> Examples:
    """Images from one file, and labels from the file beside it where there is one."""
    images = read_idx(path)
    if images.ndim != 3:
        raise UserError(f"'{path}' holds an array of shape {images.shape}: give the IDX file of the images (N, H, W).")
    beside = labels_beside(path)
    return from_array(images, name, None if beside is None else read_idx(beside), stamp_of(path), split)


def labels_beside(path: Path) -> Path | None:
    """train-labels-idx1-ubyte(.gz) for train-images-idx3-ubyte(.gz)."""
    plain = re.sub(r"image(s?[-.])idx3", r"label\1idx1", path.name).removesuffix(".gz")
    return next((p for p in (path.with_name(plain), path.with_name(plain + ".gz")) if p.is_file()), None)


def read_idx(path: Path) -> np.ndarray:
    """An array of unsigned bytes from an IDX file.

    Raises:
        UserError: When it is no such file, of another type, or cut short.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"'{path}' cannot be unpacked ({brief(error)}): fetch it anew.") from None
    if len(content) < 4 or content[:3] != bytes([0, 0, UNSIGNED_BYTE]):
        raise UserError(f"'{path}' is not an IDX file of unsigned bytes: fetch it anew.")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist()) if len(content) >= start else ()
    if len(shape) != content[3] or len(content) - start != math.prod(shape):
        raise UserError(f"'{path}' does not hold the {math.prod(shape)} values that it announces: fetch it anew.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
