"""The promise on false alarms: what a detector's verdicts and the colours of its maps are set by."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np

from sparring.apart import learnt_from
from sparring.data import Source, Tiled, settled
from sparring.errors import UserError
from sparring.files import write_bytes
from sparring.job import write_run
from sparring.metrics.conformal import Calibration
from sparring.metrics.pixels import Histogram
from sparring.protocol import Maps, Scores
from sparring.run import Run

MAPPED = 256  # held-out images at most that set the colours of the maps


def calibrate(run: Run, held: Source | Tiled) -> None:
    """Set the scores that verdicts rest on, and the colours of maps, by normal examples that were never learnt from."""
    Calibration(run.raw_scores(held)).save(run.folder / "calibration.npy")
    if isinstance(run.game, Maps) and run.spec.is_image:
        mapped = held.take(slice(MAPPED))
        pixels = Histogram()
        for number, values in enumerate(run.maps(mapped)):
            inside = mapped.inside(number)
            pixels.add(values.ravel() if inside is None else values[inside])
        buffer = io.BytesIO()
        np.save(buffer, np.array([pixels.quantile(share) for share in (0.5, 0.999)]))
        write_bytes(run.folder / "map_scale.npy", buffer.getvalue())


def calibrate_anew(run: Run, data: str | Path, split: str | None = None, **options: Any) -> int:
    """Calibrate a run on other normal examples than it was trained with; give their number.

    Args:
        data: All of it normal, and never learnt from; where it has classes, those of the training's normal ones.
        options: As for `Run.look`.

    Raises:
        UserError: For data that share examples with the run's training.
    """
    run.can(Scores, "be calibrated", "train a detector, such as ganomaly")
    if learnt_from(run, data, split):
        raise UserError(
            f"'{data}' holds examples that the run learnt from, and they say nothing about new images: give others, "
            "all of them good."
        )
    held = run.look(data, split, **options)
    if held.labels is not None and set(run.normal) & set(held.classes):
        held = held.of(run.normal)
    calibrate(run, held)
    facts = {"data": settled(data), "split": split, "examples": len(held), "date": time.strftime("%Y-%m-%d")}
    write_run(run.folder, run.job, {**run.facts, "calibrated": facts})
    return len(held)
