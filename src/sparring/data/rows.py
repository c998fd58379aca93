"""Rows of an array, in memory when they fit and else on disk, read without filling the memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

from sparring.errors import UserError

MEMORY_SHARE = 0.25  # of the available memory: a larger array stays on disk and is mapped
RESIDENT = 64 * 2**20  # bytes of one mapped file that may stay in memory before they are handed back
AROUND = 64 * 2**10  # bytes that the kernel maps around each place that is touched


class Pages(mmap.mmap):
    """A file mapped for reading; counts what was touched and hands it back before it piles up."""

    touched: int = 0

    def touch(self, size: int) -> None:
        self.touched += size
        if self.touched > RESIDENT and hasattr(mmap, "MADV_DONTNEED"):
            self.madvise(mmap.MADV_DONTNEED)  # the file cache keeps the pages as long as memory allows
            self.touched = 0


def read_rows(items: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Copy these rows; the memory that a mapped array occupies stays flat, however many are read."""
    pages = pages_of(items)
    if pages is None:
        return np.asarray(items[rows])
    size = items[:1].nbytes + AROUND
    step = max(1, RESIDENT // size)
    taken = np.empty((len(rows), *items.shape[1:]), items.dtype)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        taken[start : start + step] = items[part]
        pages.touch(len(part) * size)
    return taken


def pages_of(items: np.ndarray) -> Pages | None:
    """The mapped file that an array lives in; None when it lives in memory."""
    base: object = items
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, Pages) else None


def load_rows(path: Path, mapped: bool = False) -> np.ndarray:
    """Open a .npy file: loaded when it fits (`MEMORY_SHARE`), else, or where it shall be, mapped.

    Raises:
        UserError: When it is no .npy file, cut short, or holds Python objects.
    """
    on_disk: np.memmap
    try:
        on_disk = np.load(path, mmap_mode="r", allow_pickle=False)
        if not mapped and fits(on_disk.nbytes):
            return np.array(on_disk)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"'{path}' is not a readable .npy file ({brief(error)}): write it anew.") from None
    if not on_disk.flags.c_contiguous or on_disk.nbytes == 0:
        return np.asarray(on_disk)
    with open(path, "rb") as file:
        pages = Pages(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.ndarray(on_disk.shape, on_disk.dtype, buffer=pages, offset=on_disk.offset)


def fits(size: int) -> bool:
    """Whether so many bytes are a small enough share of the memory."""
    return size <= MEMORY_SHARE * available_memory()


def available_memory() -> int:
    """Bytes that this process may still take, without swapping and within its container."""
    bounds = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        bounds += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")
        bounds.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # another system, or no limit ("max")
        pass
    if not bounds and hasattr(os, "sysconf"):
        bounds.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    return max(0, min(bounds, default=2 * 2**30))


def brief(error: BaseException) -> str:
    """The first line of an error, without the full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
