"""The promise on false alarms: what a detector's verdicts and the colours of its maps are set by."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
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
from sparring.opening import of_normal
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


def calibrate_anew(
    run: Run, data: str | Path, split: str | None = None, normal: Sequence[str] = (), **options: Any
) -> int:
    """Calibrate a run on other normal examples than it was trained with; give their number.

    Args:
        data: Normal examples, never learnt from.
        normal: Their classes, where the data have some; by default the normal ones of the training, or of the layout.
        options: As for `Run.look`.

    Raises:
        UserError: For data that share examples with the run's training, or classes of which none is known as normal.
    """
    run.can(Scores, "be calibrated", "train a detector, such as ganomaly")
    if learnt_from(run, data, split):
        raise UserError(
            f"'{data}' holds examples that the run learnt from, and they say nothing about new images: give others, "
            "all of them good."
        )
    held = run.look(data, split, **options)
    known = [name for name in run.normal if name in held.classes]
    held = of_normal(held, normal or known, "A calibration")
    calibrate(run, held)
    facts = {
        "data": settled(data), "split": split, "normal": list(held.classes), "examples": len(held),
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    write_run(run.folder, run.job, {**run.facts, "calibrated": facts})
    return len(held)
