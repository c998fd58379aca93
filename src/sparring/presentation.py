"""What a report shows of a run: its facts, its journal, and the images worth looking at."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sparring import models, pictures
from sparring.data import Source, Tiled, located
from sparring.engine.journal import read_journal
from sparring.errors import UserError
from sparring.protocol import Maps
from sparring.report import Evidence, Example, pick
from sparring.run import Run
from sparring.verdicts import Verdicts

SHOWN = 256  # pixels a side at most of an image in the report


def gather(run: Run, source: Source | Tiled | None, found: dict[str, Any]) -> Evidence:
    """Put together what the report shows."""
    verdicts: Verdicts | None = found.pop("verdicts", None)
    entry = models.find(run.job.model)
    facts = {
        "Model": f"{run.job.model}: {entry.about}",
        "Paper": entry.reference,
        "Trained on": f"{run.job.data}, {run.spec.count:,} examples of shape {'x'.join(map(str, run.spec.shape))}",
        "Recipe": f"variant {run.job.variant}, {run.facts['rounds']:,} rounds, batch {run.job.recipe['batch']}",
        "Seed": str(run.job.seed),
        "Machine": f"{run.facts['machine']}, {run.job.precision} precision",
        "Versions": ", ".join(f"{name} {version}" for name, version in run.facts["versions"].items()),
        "Date": time.strftime("%Y-%m-%d"),
    }
    if "text" in run.facts:
        facts["Texts"] = "read by the encoder {encoder}, hash {hash}".format(**run.facts["text"])
    if run.grid is not None:
        facts["Tiles"] = (
            f"{run.grid.side} pixels, which overlap by {run.grid.overlap}; an image is as strange as its worst"
        )
    if run.region is not None:
        facts["Region of interest"] = f"{run.region.mask.mean():.0%} of an image; the rest is made grey"
    if run.normal:
        facts["Normal"] = ", ".join(run.normal)
    if source is not None:
        facts["Judged on"] = (
            f"{source.name}{f', split {source.split}' if source.split else ''}, {len(source):,} examples"
        )
    if verdicts is not None:
        found |= {"scores": verdicts.score, "false_alarms": verdicts.false_alarms}
        if run.spec.is_image:
            found["examples"] = gallery(run, verdicts, found.get("anomalous"))
    grids = sorted((run.folder / "samples").glob("*.png"))
    return Evidence(
        title=f"{run.job.model} on {Path(run.job.data).name}", facts=facts,
        journal=read_journal(run.folder / "journal.jsonl"),
        samples=[(int(grid.stem), grid) for grid in grids if grid.stem.isdecimal()], **found,
    )  # fmt: skip


def gallery(run: Run, verdicts: Verdicts, anomalous: np.ndarray | None) -> list[Example]:
    """The images worth looking at, each beside its map."""
    groups = pick(verdicts.score, verdicts.flagged, anomalous)
    chosen = sorted({k for group in groups.values() for k in group})
    shown = verdicts.source.take(chosen)
    pictures_of = [shown_of(shown, k) for k in range(len(shown))]
    heats: list[Image.Image | None] = [None] * len(chosen)
    if isinstance(run.game, Maps):
        scale = run.map_scale
        heats = [pictures.heat(image, a, *scale) for image, a in zip(pictures_of, run.maps(shown), strict=True)]
    kinds = verdicts.kinds
    return [
        Example(
            verdicts.source.names[k], image, float(verdicts.score[k]), float(verdicts.p_value[k]),
            bool(verdicts.flagged[k]), heat, None if anomalous is None else bool(anomalous[k]),
            kinds[k] if kinds else "",
        )
        for k, image, heat in zip(chosen, pictures_of, heats, strict=True)
    ]  # fmt: skip


def shown_of(source: Source | Tiled, number: int) -> Image.Image:
    """An image as the report shows it: enlarged or reduced to what a page has room for."""
    image = pictures.enlarged(source.picture(number))
    image.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    return image


def check_maps(folder: Path, data: str | Path) -> None:
    """Raise a UserError for maps that would lie among the images to judge, and be judged with them the next time."""
    if folder.resolve().is_relative_to(located(data)):
        raise UserError(f"The maps in '{folder}' would lie among the images of '{data}' and be judged: choose another.")


def write_maps(run: Run, verdicts: Verdicts, folder: Path) -> int:
    """Lay the map of every judged image over its original, as folder/<name>.png; count them.

    Raises:
        UserError: Where that would write over an original, or over another file of the user.
    """
    source = verdicts.source
    files = [folder / (name.removesuffix(".png") + ".png") for name in source.names]
    pictures.spare(files, source.originals)
    for k, anomaly in enumerate(run.maps(source)):
        picture = source.picture(k)
        if source.originals is None:  # of a file at its own size, of rows of an array as large as one can see
            picture = pictures.enlarged(picture)
        pictures.save(pictures.heat(picture, anomaly, *run.map_scale), files[k])
    return len(source)
