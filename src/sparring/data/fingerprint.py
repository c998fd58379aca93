"""What examples are known by: a hash of their content, or of all that is known without it."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from sparring.data.source import Examples, Numbered, Source

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


def identity(examples: Examples) -> str:
    """40 hexadecimal digits that follow from names, labels, classes and the sizes of files: no content is read."""
    names = examples.names.numbers if isinstance(examples.names, Numbered) else examples.names
    labels = [] if examples.labels is None else examples.labels.tolist()
    sizes = [path.stat().st_size for path in examples.originals or ()]
    about = [np.asarray(names).tolist(), labels, examples.classes, sizes]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:40]
