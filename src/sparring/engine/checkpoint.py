"""Checkpoints: everything a training needs to go on, taken between rounds, written whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from sparring.errors import UserError
from sparring.files import write_bytes

FORMAT = 1


def save(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values atomically, without pickled code."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    write_bytes(path, buffer.getbuffer())


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are accepted.

    Raises:
        UserError: For a file that is missing, cut short, or no checkpoint of this library.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"'{path}' is not there: this run has not reached its first checkpoint, train it.") from None
    except Exception as error:  # torch names a dozen ways in which a file can be damaged
        raise UserError(
            f"'{path}' is damaged or cut short ({type(error).__name__}): restore it, or train again with --force."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"'{path}' is not a checkpoint that this version reads: train the run again with --force.")
    return content
