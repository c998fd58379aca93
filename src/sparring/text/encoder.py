"""What every text encoder is: a name, a hash, and vectors for texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as safetensors_bytes

from sparring.data import cache_folder
from sparring.errors import UserError
from sparring.files import write_bytes


class TextEncoder(Protocol):
    """Turns texts into vectors; the same text always into the same one.

    Attributes:
        name: What a user calls it, such as "characters" or "sentence-transformers/all-MiniLM-L6-v2".
        hash: 12 hexadecimal digits that follow from its weights or its content.
        width: Numbers in a vector.
    """

    @property
    def name(self) -> str: ...
    @property
    def hash(self) -> str: ...
    @property
    def width(self) -> int: ...

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (N, width) float32.

        Raises:
            UserError: For a text that it knows nothing of.
        """
        ...

    def read(self, text: str) -> int:
        """How many characters of a text are read; what follows them is cut off."""
        ...


def digest(*parts: bytes) -> str:
    """12 hexadecimal digits of some content."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:12]


def embed(encoder: TextEncoder, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The vector of every text, computed once: from the cache where they are there."""
    distinct = sorted(set(texts))
    key = digest(json.dumps([encoder.name, encoder.hash, *distinct]).encode())
    path = cache_folder() / "text" / f"embeddings-{encoder.hash}-{key}.safetensors"
    vectors = kept(path, (len(distinct), encoder.width))
    if vectors is None:
        vectors = encoder(distinct)
        with suppress(UserError):  # a cache that cannot be written is done without
            write_bytes(path, safetensors_bytes({"vectors": vectors}))
    return dict(zip(distinct, vectors, strict=True))


def kept(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Vectors of this shape out of a file; None where it is missing or damaged."""
    with suppress(FileNotFoundError, SafetensorError, KeyError):
        vectors: np.ndarray = load_file(path)["vectors"]
        return vectors if vectors.shape == shape else None
    return None


def cut(encoder: TextEncoder, texts: Sequence[str]) -> str | None:
    """Say where texts that are too long are cut; None where none is."""
    long = [text for text in texts if encoder.read(text) < len(text)]
    if not long:
        return None
    read = encoder.read(long[0])
    many = "One text is" if len(long) == 1 else f"{len(long)} texts are"
    return (
        f"{many} longer than the encoder '{encoder.name}' reads: of '{shortened(long[0][:read], -30)}' | "
        f"'{shortened(long[0][read:], 30)}' it reads the {read} characters before the bar."
    )


def shortened(text: str, most: int) -> str:
    """The first characters of a text, or the last where `most` is negative."""
    if len(text) <= abs(most):
        return text
    return text[:most] + "..." if most > 0 else "..." + text[most:]
