"""Files that appear under their name complete and on disk, or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sparring.errors import UserError

FAILURES = {
    errno.ENOSPC: "the disk is full, free some space",
    errno.EDQUOT: "the disk quota is used up, free some space",
    errno.EACCES: "the folder may not be written to, choose another",
    errno.EPERM: "the folder may not be written to, choose another",
    errno.EROFS: "the folder is read-only, choose another",
    errno.EEXIST: "a part of that path is a file, choose another",
    errno.ENOTEMPTY: "another run was put there meanwhile, choose another",
    errno.EISDIR: "it is a folder, name a file",
    errno.ENOTDIR: "a part of that path is a file, choose another",
    errno.ENAMETOOLONG: "a name in it is too long, choose a shorter one",
    errno.EINVAL: "the disk takes no such name, choose another",
    errno.EFBIG: "the disk takes no file of that size, choose another",
}

UMASK = os.umask(0)
os.umask(UMASK)


def expanded(path: str | Path) -> Path:
    """A path to read from, with the home of a user in place of ~.

    Raises:
        UserError: For a user who is not there, and a path that cannot be looked at.
    """
    try:
        found = Path(path).expanduser()
        found.exists()
    except RuntimeError:
        raise UserError(f"'{path}' begins with a user who has no home here: write ./{path} for a name.") from None
    except OSError as error:
        raise UserError(f"'{path}' cannot be looked for ({error.strerror}): give another path or name.") from None
    return found


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the failures to write that are the user's to mend into one sentence.

    Raises:
        UserError: For a full disk, a read-only folder and the like.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FAILURES:
            raise
        raise UserError(f"'{path}' could not be written: {FAILURES[error.errno]}; what was there is intact.") from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of `path` once the block has ended; on any error nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~UMASK)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """The same, and failures that are the user's to mend are one sentence.

    Raises:
        UserError: For a full disk, a read-only folder and the like.
    """
    with writing(path), replacing(path) as file:
        yield file


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file whole or not at all."""
    with whole(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, text.encode())
