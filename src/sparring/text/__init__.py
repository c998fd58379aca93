"""Text encoders: the one that is built in, trained ones by name, and embeddings out of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sparring.data import Source
from sparring.errors import UserError
from sparring.text.characters import CHARACTERS, FILE, is_learnt, learnt, restored
from sparring.text.encoder import TextEncoder, cut, embed
from sparring.text.pretrained import Pretrained
from sparring.text.table import SUFFIXES, Table

__all__ = ["CHARACTERS", "FILE", "TextEncoder", "choose", "cut", "embed", "facts", "is_learnt", "restore"]


def choose(
    name: str | None, source: Callable[[], Source], tell: Callable[[str], None] = lambda text: None
) -> TextEncoder:
    """The text encoder that a user asks for.

    Args:
        name: None or "characters" for the one that is built in and learns from the training set, "characters-recurrent"
            for that of the paper; a file with embeddings; else the name of a trained one, or its folder.
        source: Opens the training set.
        tell: Is told what takes long.

    Raises:
        UserError: For one that cannot be had.
    """
    if name is None or is_learnt(name):
        tell("The text encoder learns from the images and captions first, which takes some minutes; it is kept.")
        return learnt(source(), name=name or CHARACTERS)[0]
    return Table(Path(name), source) if Path(name).suffix in SUFFIXES else Pretrained(name)


def facts(encoder: TextEncoder) -> dict[str, Any]:
    """What a run notes of its encoder."""
    return {"encoder": encoder.name, "hash": encoder.hash, "width": encoder.width}


def restore(folder: Path, name: str | None, noted: Mapping[str, Any], source: Callable[[], Source]) -> TextEncoder:
    """The encoder that a run was trained with.

    Raises:
        UserError: Where it cannot be had on this machine, or is another one by now.
    """
    encoder = restored(folder / FILE) if is_learnt(name) else choose(name, source)
    if encoder.hash != noted["hash"]:
        raise UserError(
            f"'{folder}' was trained with the text encoder {noted['encoder']} of hash {noted['hash']}, and the one "
            f"that is found has the hash {encoder.hash}: restore the other."
        )
    return encoder
