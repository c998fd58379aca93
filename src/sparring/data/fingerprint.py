"""What examples are known by: a hash of their content."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparring.data.source import Source

ROWS = 1024  # examples at a time


def fingerprint(source: Source) -> str:
    """40 hexadecimal digits that follow from the rows, the labels and the classes, in their order."""
    about = [source.items.dtype.str, source.items.shape[1:], len(source), source.classes]
    digest = hashlib.sha256(json.dumps(about).encode())
    if source.labels is not None:
        digest.update(source.labels.tobytes())
    for start in range(0, len(source), ROWS):
        digest.update(source.read(slice(start, start + ROWS)).tobytes())
    return digest.hexdigest()[:40]
