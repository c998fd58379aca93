"""Decoded images, kept on disk so that they are decoded once.

A set becomes one .npy file, uint8 (N, H, W, C), beside a .json file that lists what could not be read. The
names of both are a hash of everything that the pixels follow from, so that nothing in here is ever stale;
any file may be deleted at any time.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sparring.data.decode import Picture, decode, pillow_quiet
from sparring.data.rows import fits, load_rows
from sparring.data.source import Pictures
from sparring.errors import UserError
from sparring.files import replacing

FORMAT = 1  # counts the changes to what a decoded image looks like
GROUP = 64  # pictures that a thread takes at a time,
GROUP_BYTES = 4 * 2**20  # or fewer, when they come as the bytes of large files
HEADER = 128  # bytes before the first row of a .npy file

Shape = tuple[int, int, int]
Skipped = dict[int, str]  # number of an example -> why it cannot be read
Result = TypeVar("Result")
Work = Callable[[Picture], "np.ndarray | str"]  # the rows (n, H, W, C) of a picture, or why there are none


def cache_folder() -> Path:
    """Where decoded images are kept: SPARRING_CACHE, else a folder in the user's cache."""
    return Path(os.environ.get("SPARRING_CACHE") or Path.home() / ".cache" / "sparring" / "decoded")


def key_of(pictures: Pictures, *more: Any) -> str:
    """A name for the content of these pictures and for what is made of it."""
    digest = hashlib.sha256(json.dumps([FORMAT, pictures.stamp, len(pictures), *more]).encode())
    if pictures.index is not None:
        digest.update(pictures.index.tobytes())
    return digest.hexdigest()[:40]


def remembered(pictures: Pictures, make: Callable[[], Any], *more: Any) -> Any:
    """The result of `make`, a JSON value, from the cache where it is known; a cache that fails is done without."""
    if pictures.stamp is None:
        return make()
    path = cache_folder() / f"{key_of(pictures, *more)}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        value = make()
    with suppress(OSError):
        write_json(path, value)
    return value


def decoded(
    pictures: Pictures, shape: Shape, *more: Any, work: Work | None = None, count: int | None = None
) -> tuple[np.ndarray, Skipped, tuple[str, ...]]:
    """Pixels (N, *shape) of the pictures that can be read, the others with the reason, and notes.

    Args:
        more: What the pixels follow from beside the pictures and the shape.
        work: Makes the rows of a picture; by default one, the decoded picture.
        count: Rows at most; by default one a picture.

    Raises:
        UserError: When not one can be read, or when there is room for them neither on disk nor in memory.
    """
    work = work or partial(decode_row, shape=shape)
    count = len(pictures) if count is None else count
    size = count * math.prod(shape)
    if pictures.stamp is None:
        return *in_memory(pictures, shape, work, count), ()
    path = cache_folder() / f"{key_of(pictures, shape, *more)}.npy"
    found = load(path, shape, pictures.mapped)
    if found is not None:
        return *found, ()
    try:
        build(path, pictures, shape, work, count)
        found = load(path, shape, pictures.mapped)
        if found is not None:
            return *found, ()
        trouble = "it was removed at once"
    except OSError as error:
        trouble = error.strerror or str(error)
    if not fits(size):
        raise UserError(
            f"The {size / 2**20:,.0f} MB of decoded images cannot be written to '{path.parent}' ({trouble}): make "
            f"room there, or set SPARRING_CACHE to a folder that can be written."
        )
    note = f"Decoded images were not kept, because '{path.parent}' cannot be written ({trouble}); see SPARRING_CACHE."
    return *in_memory(pictures, shape, work, count), (note,)


def decode_row(picture: Picture, shape: Shape) -> np.ndarray | str:
    found = decode(picture, shape)
    return found if isinstance(found, str) else found[None]


def load(path: Path, shape: Shape, mapped: bool) -> tuple[np.ndarray, Skipped] | None:
    """What `build` left here; None when there is nothing, or it is damaged."""
    try:
        facts = json.loads(path.with_suffix(".json").read_text())
        items = load_rows(path, mapped)
        if items.dtype == np.uint8 and items.shape == (facts["count"], *shape):
            return items, {int(number): why for number, why in facts["skipped"]}
    except (OSError, ValueError, KeyError, TypeError):  # UserError is a ValueError
        pass
    return None


def build(path: Path, pictures: Pictures, shape: Shape, work: Work, most: int) -> None:
    """Decode into a new file. It appears whole or not at all, also where two processes build it at once."""
    size = most * math.prod(shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < size + 2**20:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    sweep(path.parent)
    skipped: Skipped = {}
    count = 0
    with replacing(path) as file:
        file.write(header((most, *shape)))
        for block in blocks(pictures, work, most, skipped):
            file.write(block.data)
            count += len(block)
        refuse_nothing(pictures, count, skipped)
        file.seek(0)
        file.write(header((count, *shape)))
    write_json(path.with_suffix(".json"), {"count": count, "skipped": list(skipped.items())})


def in_memory(pictures: Pictures, shape: Shape, work: Work, most: int) -> tuple[np.ndarray, Skipped]:
    """Decode without the disk."""
    skipped: Skipped = {}
    items = np.empty((most, *shape), np.uint8)
    count = 0
    for block in blocks(pictures, work, most, skipped):
        items[count : count + len(block)] = block
        count += len(block)
    refuse_nothing(pictures, count, skipped)
    return items[:count], skipped


def blocks(pictures: Pictures, work: Work, most: int, skipped: Skipped) -> Iterator[np.ndarray]:
    """Decode on all cores; gives rows (about GROUP, or of one picture) in order and fills in what is skipped."""
    start = 0
    for group in in_threads(pictures, work, max(1, GROUP * len(pictures) // most)):
        skipped.update({start + i: result for i, result in enumerate(group) if isinstance(result, str)})
        start += len(group)
        good = [result for result in group if not isinstance(result, str)]
        if good:
            yield np.concatenate(good)


def in_threads(pictures: Pictures, work: Callable[[Picture], Result], most: int = GROUP) -> Iterator[list[Result]]:
    """Do the work on each picture, in order, a group of at most so many at a time; few groups are in memory."""

    def do(group: list[Picture]) -> list[Result]:
        return [work(picture) for picture in group]

    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    waiting: deque[Future[list[Result]]] = deque()
    rows = pictures.rows(slice(None))
    with pillow_quiet(), ThreadPoolExecutor(threads) as pool:  # Pillow decodes outside of Python's lock
        for group in groups(pictures.opened(rows), most):
            waiting.append(pool.submit(do, group))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def groups(pictures: Iterable[Picture], most: int) -> Iterator[list[Picture]]:
    group: list[Picture] = []
    size = 0
    for picture in pictures:
        group.append(picture)
        size += len(picture) if isinstance(picture, bytes) else 0
        if len(group) == most or size > GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def refuse_nothing(pictures: Pictures, count: int, skipped: Skipped) -> None:
    """Raise a UserError when no picture could be read."""
    if count == 0:
        raise none_of(pictures, *next(iter(skipped.items())))


def none_of(pictures: Pictures, number: int, why: str) -> UserError:
    """What to say where no picture can be read, such as the one of this number."""
    name = pictures.names[number]
    if len(pictures) == 1:
        return UserError(f"'{name}' cannot be read because {why}: give an image file that Pillow reads.")
    return UserError(
        f"Not one of the {len(pictures)} images of '{pictures.name}' can be read, '{name}' for instance because {why}: "
        "give image files that Pillow reads."
    )


def header(shape: tuple[int, ...]) -> bytes:
    """The first 128 bytes of a .npy file, of this length for every number of rows."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(HEADER - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1")


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written more than a day ago."""
    for path in folder.glob(".*.part"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > 86_400:
                path.unlink()


def write_json(path: Path, value: Any) -> None:
    with replacing(path) as file:
        file.write(json.dumps(value).encode())
