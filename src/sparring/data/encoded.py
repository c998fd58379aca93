"""Features of a network, with what it said of the examples: the .npz files of `sparring features`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sparring.data.arrays import features, names_of
from sparring.data.folder import Splits
from sparring.data.source import Source
from sparring.errors import UserError
from sparring.files import whole

COLUMNS = ("features", "labels", "logits", "unseen", "names")  # of each split; the first alone is always there


@dataclass(frozen=True, eq=False, kw_only=True)
class Features(Source):
    """Features (N, D) that an encoder gave, by stored rows as `items`.

    Attributes:
        encoder: The hash of the encoder; "" where it is not known.
        logits: What its last layer said, (M, K) float32; None where there is none.
        outputs: Names of the K classes that it tells apart; empty where they have none.
        unseen: Which examples the encoder was not trained on, (M,) bool; None where that is not known.
    """

    encoder: str = ""
    logits: np.ndarray | None = None
    outputs: tuple[str, ...] = ()
    unseen: np.ndarray | None = None

    def logits_now(self) -> np.ndarray | None:
        """Logits of these examples, in their order, (N, K)."""
        return None if self.logits is None else self.logits[self.rows(slice(None))]

    def unseen_now(self) -> np.ndarray | None:
        """Which of these examples the encoder was not trained on, in their order, (N,)."""
        return None if self.unseen is None else self.unseen[self.rows(slice(None))]


def save_features(path: Path, parts: Mapping[str | None, Features]) -> None:
    """Write features by split, whole or not at all; one split alone may go without a name, None."""
    some = next(iter(parts.values()))
    arrays: dict[str, Any] = {"encoder": np.array(some.encoder), "outputs": np.array(some.outputs, dtype=str)}
    for split, part in parts.items():
        columns = {
            "features": part.read(slice(None)), "labels": part.labels, "logits": part.logits_now(),
            "unseen": part.unseen_now(), "names": np.array(list(part.names), dtype=str),
            "classes": np.array(part.classes, dtype=str) if part.labels is not None else None,
        }  # fmt: skip
        arrays |= {spelt(name, split): values for name, values in columns.items() if values is not None}
    with whole(path) as file:
        np.savez(file, **arrays)


def spelt(name: str, split: str | None) -> str:
    return name if split is None else f"{name}_{split}"


def open_encoded(arrays: dict[str, np.ndarray], name: str) -> Splits:
    """The splits of what `save_features` wrote."""
    ends = [key.removeprefix("features").removeprefix("_") or None for key in arrays if key.startswith("features")]
    return {split: partial(encoded, arrays, name, split) for split in ends}


def encoded(arrays: dict[str, np.ndarray], name: str, split: str | None) -> Features:
    """One split.

    Raises:
        UserError: For features that are NaN, and columns that do not fit together.
    """
    own = {column: arrays.get(spelt(column, split)) for column in (*COLUMNS, "classes")}
    x = own["features"]
    assert x is not None
    wrong = [c for c in COLUMNS if (v := own[c]) is not None and len(v) != len(x)]
    if x.ndim != 2 or wrong:
        raise UserError(f"'{name}' has {wrong[0] if wrong else 'features'} of another length or shape than its "
                        "examples: make it anew with sparring features.")  # fmt: skip
    classes, labels, names = own["classes"], own["labels"], own["names"]
    known = np.arange(0 if classes is None else len(classes))
    if labels is not None and not (labels.ndim == 1 and np.isin(labels, known).all()):
        raise UserError(f"'{name}' has labels that are no numbers of its classes: make it anew with sparring features.")
    return Features(
        name=name, split=split, items=features(x, name),
        names=names_of(name, split, len(x)) if names is None else tuple(names.tolist()),
        labels=None if labels is None else labels.astype(np.int64),
        classes=() if classes is None or labels is None else tuple(classes.tolist()),
        encoder=str(arrays["encoder"]), logits=own["logits"], unseen=own["unseen"],
        outputs=tuple(arrays["outputs"].tolist()) if "outputs" in arrays else (),
    )  # fmt: skip
