"""What a report is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image


@dataclass(frozen=True)
class Example:
    """One judged image.

    Attributes:
        name: What the user calls it, such as its file name.
        thumbnail: The image, or the central square of it that the model sees.
        heat: The same with its anomaly map, see `pictures.heat`.
        score: Higher is stranger.
        p_value: Share of normal calibration images at least as strange.
        anomalous: The truth, where it is known.
        kind: Name of the defect or class.
        flagged: The verdict.
    """

    name: str
    thumbnail: Image.Image
    score: float
    p_value: float
    flagged: bool
    heat: Image.Image | None = None
    anomalous: bool | None = None
    kind: str = ""


@dataclass(frozen=True)
class Unknown:
    """One example that an open-set model called unknown.

    Attributes:
        name: What the user calls it.
        kind: Its class, where that is known; else "".
        predicted: The most likely of the known classes.
        p_value: Share of known calibration examples at least as open.
        image: As the model sees it, where the data hold images.
        nearest: Name, class and image of the most similar known examples.
    """

    name: str
    kind: str
    predicted: str
    p_value: float
    image: Image.Image | None
    nearest: list[tuple[str, str, Image.Image | None]]


@dataclass(frozen=True)
class Evidence:
    """Everything that a report may show; a part that is empty or None has no section.

    Attributes:
        title: Of the page.
        facts: Model, paper, data, seed, date, versions, machine, ...
        journal: Lines of journal.jsonl: "phase", "round" (counted over all phases), "seconds",
            "images_per_second", means of the loss terms under "player/term", and "gradient_norm" by player.
        samples: (round, PNG file) of grids made during the training.
        legend: What stands where in such a grid.
        detection: What `metrics.detection.judge` returned.
        scores: (n,) of the judged examples.
        anomalous: (n,) the truth, where it is known.
        calibration: Scores of the normal examples that the verdicts rest on.
        false_alarms: The share asked for; taken from `detection` where that is given.
        pixel_auroc: See `metrics.pixels`; aupro likewise.
        baselines: What `judge` returned for simple detectors on the same examples, by name; with
            "pixel_auroc" and "aupro" where they localise.
        examples: Judged images to choose from; see `pick`.
        generation: Named numbers on what is generated. A value is a number, a text, or a dictionary with
            "value" (or "mean"), and optionally "standard_error", "low" and "high", and "note".
        nearest: Whether made images are copies, in a sentence under "verdict", and under "pictures", by what they
            were compared by, made images above the training images nearest to them.
        opponent: What `opponent.discrimination` returned, and under "clipping" what `opponent.clipping` did.
        recognition: Of an open-set model: what `recognised` returned.
        unknown: What it called unknown.
        notes: Sentences that the reader must know.
    """

    title: str
    facts: dict[str, str] = field(default_factory=dict)
    journal: list[dict[str, Any]] = field(default_factory=list)
    samples: list[tuple[int, Path]] = field(default_factory=list)
    legend: str = ""
    detection: dict[str, Any] | None = None
    scores: NDArray[np.floating] | None = None
    anomalous: NDArray[np.bool_] | None = None
    calibration: NDArray[np.floating] | None = None
    false_alarms: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None
    baselines: dict[str, dict[str, Any]] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    generation: dict[str, Any] | None = None
    nearest: dict[str, Any] | None = None
    opponent: dict[str, Any] | None = None
    recognition: dict[str, Any] | None = None
    unknown: list[Unknown] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def asked(self) -> float | None:
        """The share of false alarms that was asked for."""
        return self.detection["asked"] if self.detection else self.false_alarms


def pick(
    score: ArrayLike, flagged: ArrayLike, anomalous: ArrayLike | None = None, each: int = 8
) -> dict[str, list[int]]:
    """Choose the examples that a person should look at, so that only their images need be loaded.

    Args:
        score: (n,), higher is stranger.
        flagged: (n,), the verdicts.
        anomalous: (n,), the truth, where it is known.
        each: At most so many of each group.

    Returns:
        Positions under "strangest" and "plainest", most extreme first, and where the truth is known under
        "missed" (anomalies that pass, the least strange first) and "false" (normal ones that are flagged,
        the strangest first).
    """
    order = np.argsort(-np.asarray(score, dtype=np.float64), kind="stable")
    groups = {"strangest": order, "plainest": order[::-1]}
    if anomalous is not None:
        verdict, truth = np.asarray(flagged, dtype=bool), np.asarray(anomalous, dtype=bool)
        groups["missed"] = order[::-1][(truth & ~verdict)[order[::-1]]]
        groups["false"] = order[(~truth & verdict)[order]]
    return {name: chosen[:each].tolist() for name, chosen in groups.items()}
