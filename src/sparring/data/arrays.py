"""Arrays, in memory or in .npy and .npz files: images (N, H, W[, C]) or features (N, D)."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sparring.data.folder import Splits
from sparring.data.rows import brief, load_rows, pages_of, read_rows
from sparring.data.source import Examples, Numbered, Pictures, Source, number_labels
from sparring.errors import UserError

CHUNK = 64 * 2**20  # bytes that are checked at a time, so that a mapped array is not loaded
ITEMS = ("x", "X", "images", "features", "data", "arr_0")
LABELS = ("y", "labels", "label", "targets")


def open_array(data: Any, name: str = "array") -> Splits:
    """An array in memory, or a pair of examples and labels."""
    values, labels = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    try:
        examples = from_array(np.asarray(values), name, labels)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"This {type(data).__name__} is no array ({brief(error)}): give images or features.") from None
    return {None: lambda: examples}


def open_npy(path: Path, name: str) -> Splits:
    return {None: lambda: from_array(load_rows(path), name, stamp=stamp_of(path))}


def open_npz(path: Path, name: str) -> Splits:
    """An .npz file with x and y, or with x_train, y_train, x_test and y_test."""
    try:
        with open(path, "rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise UserError(f"'{path}' is not a readable .npz file ({brief(error)}): write it with numpy.savez.") from None
    if "encoder" in arrays and any(key.startswith("features") for key in arrays):
        from sparring.data.encoded import open_encoded  # here, because it stands on this file

        return open_encoded(arrays, name)
    found: Splits = {}
    labels = {split: first(arrays, LABELS, split) for split in (None, "train", "test", "val")}
    for split, y in labels.items():
        x = first(arrays, ITEMS, split)
        if x is None and split is None and len(arrays) == 1:
            x = next(iter(arrays.values()))
        if x is not None:
            others = [other for key, other in labels.items() if key != split and other is not None]
            found[split] = partial(from_array, x, name, y, [*stamp_of(path), split], split, others)
    if not found:
        raise UserError(
            f"'{name}' has the arrays {', '.join(arrays) or 'none'}: name one x (images or features), and y its labels."
        )
    return found if len(found) == 1 else {split: opener for split, opener in found.items() if split is not None}


def first(arrays: dict[str, np.ndarray], keys: tuple[str, ...], split: str | None) -> np.ndarray | None:
    """The first of these arrays that is there; of a split as x_train or train_x."""
    for key in keys:
        for spelt in (key,) if split is None else (f"{key}_{split}", f"{split}_{key}"):
            if spelt in arrays:
                return arrays[spelt]
    return None


def stamp_of(path: Path) -> list[Any]:
    """What a file's content is known by."""
    facts = path.stat()
    return [str(path.resolve()), facts.st_size, facts.st_mtime_ns]


def from_array(
    values: np.ndarray, name: str, labels: Any = None, stamp: Any = None, split: str | None = None,
    others: Sequence[np.ndarray] = (),
) -> Examples:  # fmt: skip
    """Examples from an array; `others` are the labels of other splits, whose classes are the same.

    Raises:
        UserError: For an array of the wrong shape, type or range, or labels that do not fit it.
    """
    if values.ndim not in (2, 3, 4) or 0 in values.shape:
        raise UserError(
            f"'{name}' has shape {values.shape}: give images (N, H, W) or (N, H, W, C), or features (N, D), "
            f"at least one of them."
        )
    about: dict[str, Any] = {"name": name, "split": split, "names": names_of(name, split, len(values))}
    if labels is not None:
        about["labels"], about["classes"] = number_labels(np.asarray(labels), name, len(values), others)
    if values.ndim == 2:
        return Source(items=features(values, name), **about)
    return pictures(values, name, stamp, about)


def names_of(name: str, split: str | None, count: int) -> Numbered:
    """The names of examples that are known by their number only."""
    plain = Path(name).name or name
    return Numbered(plain if split is None else f"{plain}/{split}", range(count))


def pictures(values: np.ndarray, name: str, stamp: Any, about: dict[str, Any]) -> Pictures:
    """Images (N, H, W[, C]) of uint8, or of floats in [0, 1]."""
    if values.ndim == 3:
        values = values[..., None]
    if values.shape[3] not in (1, 3):
        remedy = "move the channels last: x.transpose(0, 2, 3, 1)" if values.shape[1] in (1, 3) else "use 1 or 3"
        raise UserError(f"'{name}' has images with {values.shape[3]} channels, in shape {values.shape}: {remedy}.")
    if values.dtype.kind == "f":
        for part in parts(values):
            check_finite(part, name)
            if part.min() < 0 or part.max() > 1:
                raise UserError(
                    f"'{name}' has pixels from {part.min():g} to {part.max():g}: floating-point images must be in "
                    f"[0, 1], and others uint8."
                )
    elif values.dtype != np.uint8:
        raise UserError(f"'{name}' has images of type {values.dtype}: give uint8, or floats in [0, 1].")
    return Pictures(opened=opened_rows(values), stamp=stamp, array=values, **about)


def opened_rows(values: np.ndarray) -> Callable[[np.ndarray], Iterator[np.ndarray]]:
    def opened(rows: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(rows), 64):
            yield from read_rows(values, rows[start : start + 64])

    return opened


def features(values: np.ndarray, name: str) -> np.ndarray:
    """Features (N, D) as float32."""
    if values.dtype.kind not in "fiub":
        raise UserError(f"'{name}' has features of type {values.dtype}: give real numbers, such as float32.")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        for part in parts(values):
            check_finite(part.astype(np.float32), name)
        return values if values.dtype == np.float32 else values.astype(np.float32)


def parts(values: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of an array, a stretch at a time."""
    step = max(1, CHUNK // max(1, values[:1].nbytes))
    pages = pages_of(values)
    for start in range(0, len(values), step):
        yield values[start : start + step]
        if pages is not None:
            pages.touch(CHUNK)


def check_finite(part: np.ndarray, name: str) -> None:
    if not np.isfinite(part).all():
        raise UserError(f"'{name}' has values that are NaN, infinite or beyond float32: remove or replace them.")
