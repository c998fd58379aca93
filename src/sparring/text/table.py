"""Text embeddings that were computed before, from a file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sparring.data import Source
from sparring.data.captions import need_captions
from sparring.errors import UserError
from sparring.text.encoder import digest

SUFFIXES = (".npz", ".npy")


class Table:
    """The vectors of some texts, and of no others.

    Args:
        path: An .npz file with `captions` (M,) and `embeddings` (M, W); or, without captions, a file whose
            embeddings, (N, W) or (N, K, W), stand in the order of the captions of the data.
        source: Opens these data, where they are needed.

    Raises:
        UserError: For a file that is missing, damaged or something else.
    """

    def __init__(self, path: Path, source: Callable[[], Source]) -> None:
        self.name = str(path)
        captions, vectors = read(path)
        if captions is None:
            captions = [text for own in need_captions(source()) for text in own]
        if len(captions) != len(vectors):
            raise UserError(
                f"'{path}' holds {len(vectors)} embeddings, and there are {len(captions)} captions: give one each, "
                "in their order, or name the captions in the file."
            )
        self.vectors = dict(zip(captions, vectors, strict=True))
        self.hash = digest(vectors.tobytes(), *(text.encode() for text in captions))
        self.width = vectors.shape[1]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        for text in texts:
            if text not in self.vectors:
                raise UserError(
                    f"'{self.name}' holds no embedding of '{text}': ask for one of its {len(self.vectors)} texts, or "
                    "train with an encoder that reads any text."
                )
        return np.stack([self.vectors[text] for text in texts])

    def read(self, text: str) -> int:
        return len(text)


def read(path: Path) -> tuple[list[str] | None, np.ndarray]:
    """Captions, where the file names them, and embeddings (M, W) float32."""
    try:
        found = np.load(path, allow_pickle=False)
        arrays = dict(found) if isinstance(found, np.lib.npyio.NpzFile) else {"embeddings": found}
        vectors = arrays["embeddings"].astype(np.float32)
        captions = [str(text) for text in arrays["captions"]] if "captions" in arrays else None
    except FileNotFoundError:
        raise UserError(f"There is no file '{path}' with embeddings of texts: give its path, or an encoder.") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError(
            f"'{path}' holds no embeddings of texts: write arrays `captions` and `embeddings` with numpy.savez."
        ) from None
    if vectors.ndim == 3:
        vectors = vectors.reshape(-1, vectors.shape[2])
    if vectors.ndim != 2 or 0 in vectors.shape or not np.isfinite(vectors).all():
        raise UserError(f"The embeddings in '{path}' must be finite vectors (N, W); got shape {vectors.shape}.")
    return captions, vectors
