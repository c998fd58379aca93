"""What a detector says of each example, and the table that keeps it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparring.data import Source, Tiled
from sparring.errors import UserError
from sparring.files import write_bytes
from sparring.metrics.conformal import Calibration


@dataclass(frozen=True)
class Verdicts:
    """What a detector says of each example of a source.

    Attributes:
        source: The examples, in order.
        score: Higher is stranger, (N,).
        p_value: Share of held-out normal examples at least as strange, (N,); small is strange.
        flagged: Whether p_value <= false_alarms, (N,).
        false_alarms: Share of normal examples that may be flagged.
        threshold: The score above which an example is flagged.
        predicted: Of a model of known classes: the most likely one of each example; None of others.
        probability: The probability of that class among the known ones, (N,).
    """

    source: Source | Tiled
    score: np.ndarray
    p_value: np.ndarray
    flagged: np.ndarray
    false_alarms: float
    threshold: float
    predicted: list[str] | None = None
    probability: np.ndarray | None = None

    @classmethod
    def of(
        cls, source: Source | Tiled, score: np.ndarray, calibration: Calibration, false_alarms: float,
        predicted: list[str] | None = None, probability: np.ndarray | None = None,
    ) -> Verdicts:  # fmt: skip
        """Judge examples by their scores (N,) and those of held-out normal examples."""
        flagged, threshold = calibration.strange(score, false_alarms), calibration.threshold(false_alarms)
        p_value = calibration.p_value(score)
        return cls(source, score, p_value, flagged, false_alarms, threshold, predicted, probability)

    @property
    def kinds(self) -> list[str] | None:
        """Class name of each example, where there are labels."""
        labels = self.source.labels
        return None if labels is None else [self.source.classes[k] for k in labels]

    def anomalous(self, normal: Sequence[str]) -> np.ndarray | None:
        """Whether each example is of a class that is not normal, (N,); None where that is not known."""
        return None if self.kinds is None or not normal else np.array([kind not in normal for kind in self.kinds])

    def table(self) -> dict[str, list[Any]]:
        """Columns of the result, by name."""
        verdicts = ["strange" if flag else "normal" for flag in self.flagged]
        named: dict[str, list[Any]] = {}
        if self.predicted is not None and self.probability is not None:
            verdicts = [
                "unknown" if u else f"known: {name}" for u, name in zip(self.flagged, self.predicted, strict=True)
            ]
            named = {"predicted": self.predicted, "probability": self.probability.tolist()}
        kinds = {} if self.kinds is None else {"class": self.kinds}
        return {
            "name": list(self.source.names), "score": self.score.tolist(), "p_value": self.p_value.tolist(),
            "verdict": verdicts, **named, **kinds,
        }  # fmt: skip

    def save(self, path: Path) -> None:
        """Write the table as .csv or .parquet, whole or not at all."""
        check_table(path)
        table = self.table()
        if path.suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            sink = pyarrow.BufferOutputStream()
            pyarrow.parquet.write_table(pyarrow.table(table), sink)
            write_bytes(path, sink.getvalue().to_pybytes())
        else:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))
            write_bytes(path, text.getvalue().encode())


def check_table(path: Path) -> None:
    """Raise a UserError for a file that is neither .csv nor .parquet."""
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"'{path}' is no table that can be written: give a file that ends in .csv or .parquet.")
