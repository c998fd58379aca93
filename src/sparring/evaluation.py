"""Evaluate a run on data it was not trained on, and write the report that shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sparring import models, pictures
from sparring.data import Source, original, parse_split, read_mask, splits_of
from sparring.engine.journal import read_journal
from sparring.errors import UserError
from sparring.features import Tell
from sparring.generation import SAMPLES, generation
from sparring.metrics.baselines import BASELINES, Baseline, maps_of, rows, score_all
from sparring.metrics.conformal import Calibration
from sparring.metrics.detection import judge
from sparring.metrics.pixels import pixel_auroc
from sparring.preparation import set_up
from sparring.protocol import Generates, Maps, Scores
from sparring.report import Evidence, Example, pick, write_report
from sparring.run import Run, Verdicts

REMEDY = (
    "What a run was trained on does not judge it: name other data, or train on a part, such as --split train[:-500], "
    "and evaluate with --split train[-500:]."
)


def evaluate(
    run: Run,
    data: Any = None,
    *,
    split: str | None = "test",
    normal: Sequence[str] = (),
    false_alarms: float = 0.05,
    baselines: bool = False,
    report: str | Path | None = None,
    samples: int | None = None,
    features: str = "default",
    tell: Tell = lambda sentence: None,
    **options: Any,
) -> dict[str, Any]:
    """Measure a run on a split that it was not trained on.

    Args:
        data: As for `sparring.train`; None is the run's own data.
        split: Part of the data; data without splits are taken whole when they are named here.
        normal: Classes that count as normal; by default those of the training.
        false_alarms: Share of normal examples that may be flagged.
        baselines: Measure simple detectors on pixels beside it, fitted and calibrated on the same examples.
        report: Where to write the HTML report; None is report.html in the run.
        samples: How many a generator makes to be measured; None is 10,000.
        features: What they are compared by: "default", "pixels", or a file with the weights of Inception.
        tell: Is told what takes long.
        options: As for `Run.open`.

    Returns:
        Plain values that JSON can hold.
    """
    began = time.perf_counter()
    chosen = choose_split(run, data, split)
    source = run.open(data, split=chosen, **options)
    evidence: dict[str, Any] = {"notes": list(dict.fromkeys([*run.facts["notes"], *source.notes]))}
    found: dict[str, Any] = {
        "model": run.job.model,
        "data": source.name,
        "split": source.split,
        "examples": len(source),
    }
    if isinstance(run.game, Scores):
        found |= detection(run, source, named(source, normal) or run.normal, false_alarms, baselines, evidence)
    if isinstance(run.game, Generates):
        if chosen is None and is_own(run, data):
            evidence["notes"].append(
                f"Nothing is measured of what it makes: '{source.name}' has no test split. {REMEDY}"
            )
        else:
            count = SAMPLES if samples is None else samples
            found |= generation(run, source, evidence, count, features, tell)
    found["seconds"] = round(time.perf_counter() - began, 1)
    path = Path(report) if report is not None else run.folder / "report.html"
    write_report(path, gather(run, source, evidence))
    return {**found, "report": str(path)}


def choose_split(run: Run, data: Any, split: str | None) -> str | None:
    """Take the split that was asked for, or everything of data that have none.

    Raises:
        UserError: Where that would be the data the run was trained on.
    """
    same = is_own(run, data)
    if splits_of(run.job.data if data is None else data) or parse_split(split)[1] is not None:
        if same and overlapping(run, split):
            raise UserError(f"The run was trained on the split '{run.job.split}': judge it on another one.")
        return split
    if same and hasattr(models.find(run.job.model).game, "score"):
        raise UserError(
            f"'{run.job.data}' has no test split: name the data to judge by, sparring evaluate {run.folder} DATA."
        )
    return None


def is_own(run: Run, data: Any) -> bool:
    """Whether these are the data that the run was trained on."""
    return data is None or (isinstance(data, (str, Path)) and Path(data).resolve() == Path(run.job.data).resolve())


def overlapping(run: Run, split: str | None) -> bool:
    """Whether a split of the run's own data shares examples with the one it was trained on."""
    (own, part), (other, piece) = parse_split(run.job.split), parse_split(split)
    if (own or "train") != (other or "train"):
        return False
    if part is None or piece is None:
        return True
    numbers = range(len(run.open(run.job.data, own)))
    return not set(numbers[part]).isdisjoint(numbers[piece])


def named(source: Source, normal: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes that the user calls normal, by name or number."""
    if normal and source.labels is None:
        raise UserError(f"'{source.name}' has no classes, so --normal {','.join(normal)} names none: leave it out.")
    if tuple(normal) == ("all",):
        return source.classes
    return tuple(source.classes[source.class_number(name)] for name in normal)


def detection(
    run: Run, source: Source, normal: tuple[str, ...], false_alarms: float, baselines: bool, evidence: dict[str, Any]
) -> dict[str, Any]:
    """Judge the scores, the verdicts and the maps of a detector."""
    calibration = run.calibration
    began = time.perf_counter()
    verdicts = run.score(source, false_alarms)
    speed = len(source) / (time.perf_counter() - began)
    anomalous = verdicts.anomalous(normal)
    found: dict[str, Any] = {
        "normal": list(normal), "threshold": finite(verdicts.threshold), "flagged": int(verdicts.flagged.sum()),
        "calibrated_on": len(calibration), "scored_per_second": round(speed, 1),
    }  # fmt: skip
    warning = calibration.warning(false_alarms)
    evidence |= {"calibration": calibration.scores, "verdicts": verdicts, "anomalous": anomalous}
    evidence["notes"] += [warning] if warning else []
    if anomalous is None:
        evidence["notes"].append("The data have no classes, so that nothing can be said about right and wrong.")
        return found
    found["detection"] = evidence["detection"] = judge(
        verdicts.score, anomalous, verdicts.p_value, false_alarms, verdicts.kinds, calibrated=len(calibration)
    )
    if isinstance(run.game, Maps) and run.spec.is_image:
        found["pixel_auroc"] = evidence["pixel_auroc"] = of_pixels(run.maps, source, verdicts.kinds, normal)
    if baselines:
        found["baselines"] = evidence["baselines"] = beside(run, source, anomalous, normal, false_alarms)
    return found


def of_pixels(
    maps: Callable[[Source], Iterator[np.ndarray]], source: Source, kinds: list[str] | None, normal: Sequence[str]
) -> float | None:
    """Pixel AUROC against the masks, where the data have any: normal images count as clean."""
    if source.masks is None or kinds is None:
        return None
    known = [k for k, (mask, kind) in enumerate(zip(source.masks, kinds, strict=True)) if mask or kind in normal]
    kept = source.take(np.array(known))
    assert kept.masks is not None
    side = kept.spec().shape[-1]
    return pixel_auroc(maps(kept), (None if mask is None else read_mask(mask, side) for mask in kept.masks))


def beside(
    run: Run, source: Source, anomalous: np.ndarray, normal: tuple[str, ...], false_alarms: float
) -> dict[str, dict[str, Any]]:
    """Measure the simple detectors on the same examples, calibrated on the same ones."""
    setup = set_up(run.job)
    assert setup.held is not None
    x = rows(setup.fit.read(np.arange(len(setup.fit))))
    kinds = [source.classes[k] for k in source.labels] if source.labels is not None else None
    found = {}
    for name, make in BASELINES.items():
        baseline: Baseline = make(x)
        score = score_all(baseline, source)
        p_value = Calibration(score_all(baseline, setup.held)).p_value(score)
        found[name] = judge(score, anomalous, p_value, false_alarms, kinds)
        if source.masks is not None and baseline.residual(x[:1]) is not None:
            found[name]["pixel_auroc"] = of_pixels(lambda s, b=baseline: maps_of(b, s), source, kinds, normal)  # type: ignore[misc]
    return found


def finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def gather(run: Run, source: Source | None, found: dict[str, Any]) -> Evidence:
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
        samples=[(int(grid.stem), grid) for grid in grids], **found,
    )  # fmt: skip


def gallery(run: Run, verdicts: Verdicts, anomalous: np.ndarray | None) -> list[Example]:
    """The images worth looking at, each beside its map."""
    groups = pick(verdicts.score, verdicts.flagged, anomalous)
    chosen = sorted({k for group in groups.values() for k in group})
    shown = verdicts.source.take(chosen)
    pictures_of = [pictures.as_picture(image) for image in shown.read(np.arange(len(shown)))]
    heats: list[Image.Image | None] = [None] * len(chosen)
    if isinstance(run.game, Maps):
        scale = run.map_scale
        heats = [
            pictures.heat(pictures.enlarged(image), a, *scale)
            for image, a in zip(pictures_of, run.maps(shown), strict=True)
        ]
    kinds = verdicts.kinds
    return [
        Example(
            verdicts.source.names[k], image, float(verdicts.score[k]), float(verdicts.p_value[k]),
            bool(verdicts.flagged[k]), heat, None if anomalous is None else bool(anomalous[k]),
            kinds[k] if kinds else "",
        )
        for k, image, heat in zip(chosen, pictures_of, heats, strict=True)
    ]  # fmt: skip


def write_maps(run: Run, verdicts: Verdicts, folder: Path) -> int:
    """Lay the map of every judged image over its original, as folder/<name>.png; count them."""
    scale = run.map_scale
    source = verdicts.source
    for k, anomaly in enumerate(run.maps(source)):
        image = pictures.enlarged(pictures.as_picture(source.read(np.array([k]))[0]))
        if source.originals is not None:
            image = original(source.originals[k])
        pictures.save(pictures.heat(image, anomaly, *scale), folder / (source.names[k].removesuffix(".png") + ".png"))
    return len(source)
