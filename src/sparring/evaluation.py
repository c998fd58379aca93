"""Evaluate a run on data it was not trained on, and write the report that shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sparring import models
from sparring.apart import TRAINED, met_as
from sparring.data import Source, Tiled, middle, or_test, read_mask
from sparring.errors import UserError
from sparring.features import Tell
from sparring.generation import SAMPLES, generation
from sparring.metrics.baselines import BASELINES, Baseline, maps_of, rows, score_all
from sparring.metrics.conformal import Calibration
from sparring.metrics.detection import judge
from sparring.metrics.pixels import judge_pixels
from sparring.opening import name_normal, some
from sparring.opponent import opposing
from sparring.preparation import reopened, set_up
from sparring.presentation import gather
from sparring.protocol import Classifies, Generates, Maps, Scores, Translates
from sparring.recognising import Home, accuracy, recognised, unknowns
from sparring.report import write_report
from sparring.report.reading import readings
from sparring.run import Run
from sparring.translation import open_domains, translation
from sparring.verdicts import Verdicts

REMEDY = (
    "What a run was trained on does not judge it: name other data, or train on a part, such as --split train[:-500], "
    "and evaluate with --split train[-500:]."
)


def evaluate(
    run: Run,
    data: Any = None,
    partner: Any = None,
    *,
    split: str | None = None, normal: Sequence[str] = (), false_alarms: float = 0.05, baselines: bool = False,
    report: str | Path | None = None, samples: int | None = None, features: str = "default",
    tell: Tell = lambda sentence: None, scores: str | Path | None = None, leaky: bool = False, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Measure a run on a split that it was not trained on.

    Args:
        run: A trained model.
        data: As for `sparring.train`; None is the run's own data.
        partner: Examples of the second domain, for a model that translates; None is the run's own.
        split: Part of the data; None is the test split, or all of data without splits when they are named here.
        normal: Classes that count as normal; by default those of the training, or of the data's own layout.
        false_alarms: Share of normal examples that may be flagged.
        baselines: Measure simple detectors on pixels beside it, fitted and calibrated on the same examples.
        report: Where to write the HTML report; None is report.html in the run.
        samples: How many a generator makes to be measured; None is 10,000, 0 leaves that out.
        features: What they are compared by: "default", "pixels", or a file with the weights of Inception.
        tell: Is told what takes long.
        scores: A .csv or .parquet file for the score and the verdict of every example.
        leaky: Of a generator, give the distances to what it learnt from beside those to what it never saw.
        options: As for `Run.open`.

    Returns:
        Plain values that JSON can hold; `notes` are sentences that the reader of the numbers must know.

    Raises:
        UserError: For examples that the run has met in training, and what the model or the data do not allow.
    """
    began = time.perf_counter()
    if leaky:
        need_generator(run)
    chosen = choose_split(run, data, split)
    held_out = chosen is not None or not run.owns(data)
    source, other = opened(run, data, partner, chosen, held_out, **options)
    notes = dict.fromkeys([run.unfinished, *run.facts["notes"], *source.notes])
    evidence: dict[str, Any] = {"notes": [note for note in notes if note]}
    found: dict[str, Any] = {
        "model": run.job.model, "data": source.name, "split": source.split, "examples": len(source),
    }  # fmt: skip
    if isinstance(run.game, Scores):
        found |= detection(run, source, normal_in(source, run, normal), false_alarms, baselines, evidence)
        if scores is not None:
            evidence["verdicts"].save(Path(scores))
    if isinstance(source, Source):  # classes are of whole images
        found |= recognition(run, source, (run.job.data if data is None else data, chosen), baselines, evidence)
    makes = isinstance(run.game, (Generates, Translates)) and not run.recognised  # OpenGAN's are told apart
    if makes and samples != 0:
        asked = {"samples": SAMPLES if samples is None else samples, "features": features, "tell": tell}
        found |= made(run, source, other, held_out, evidence, asked | ({"leaky": True} if leaky else {}))
        found |= opposing(run, source if held_out and isinstance(source, Source) else None, evidence)
    page = gather(run, source, evidence)
    found |= {"notes": [*page.notes, *readings(page.journal)], "seconds": round(time.perf_counter() - began, 1)}
    path = Path(report) if report is not None else run.folder / "report.html"
    write_report(path, page)
    return {**found, "report": str(path)}


def opened(
    run: Run, data: Any, partner: Any, split: str | None, held_out: bool, **options: Any
) -> tuple[Source | Tiled, Source | None]:
    """The examples to judge by, and those of the second domain where the run knows two.

    Raises:
        UserError: For a second domain that the run knows nothing of.
    """
    if isinstance(run.game, Translates) and held_out:
        return open_domains(run, data, partner, split, **options)
    if partner is not None and not isinstance(run.game, Translates):
        raise UserError(f"A run of {run.job.model} has no second domain, and '{partner}' is given: leave it out.")
    return run.look(data, split=split, **options), None


def made(
    run: Run, source: Source | Tiled, other: Source | None, held_out: bool, evidence: dict[str, Any],
    asked: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Measure what a model makes, or translates to each domain, by images that it never saw, where there are some."""
    if isinstance(source, Tiled):
        evidence["notes"].append("What it generates is not measured, because it learnt from tiles.")
        return {}
    if not held_out:
        evidence["notes"].append(f"Nothing is measured of what it makes: '{source.name}' has no test split. {REMEDY}")
        return {}
    if other is not None:
        return translation(run, source, other, evidence, **asked)
    return generation(run, source, evidence, **asked)


def need_generator(run: Run) -> None:
    """Raise a UserError for a model that does not generate from noise, or judges by what it generates."""
    if isinstance(run.game, (Scores, Translates)) or not isinstance(run.game, Generates):
        raise UserError(f"--leaky is for generators alone, and {run.job.model} is none: leave it out.")


def choose_split(run: Run, data: Any, split: str | None) -> str | None:
    """Take the split that was asked for, or everything of data that have none.

    Raises:
        UserError: Where that shares examples with what the run was trained on, chosen by or calibrated on.
    """
    same, asked = run.owns(data), run.job.data if data is None else data
    chosen = or_test(asked, split)
    if same and chosen is None:
        if hasattr(models.find(run.job.model).game, "score"):
            raise UserError(
                f"'{run.job.data}' has no test split: name the data to judge by, sparring evaluate {run.folder} DATA."
            )
        return None
    used = met_as(run, asked, chosen)
    if used == TRAINED:
        if same:
            raise UserError(f"The run was trained on the split '{run.job.split}': judge it on another one.")
        raise UserError(f"'{asked}' holds examples that {used}: judge it on others.")
    if used:
        raise UserError(f"'{asked}' holds examples that {used}, and they would flatter it: judge it on others.")
    return chosen


def named(source: Source | Tiled, normal: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes that the user calls normal, by name or number."""
    if normal and source.labels is None:
        raise UserError(f"'{source.name}' has no classes, so --normal {','.join(normal)} names none: leave it out.")
    if tuple(normal) == ("all",):
        return source.classes
    return tuple(source.classes[source.class_number(name)] for name in normal)


def normal_in(source: Source | Tiled, run: Run, asked: Sequence[str]) -> tuple[str, ...]:
    """The classes that count as normal: those that are asked for, of the training, or of the data's own layout.

    Raises:
        UserError: For data with classes, none of which is any of these; an open-set model takes unknown ones alone.
    """
    normal = named(source, asked) or run.normal
    if source.labels is None or run.recognised or not set(normal).isdisjoint(source.classes):
        return normal
    if not source.normal:
        learnt = f"only {', '.join(normal)} as normal" if normal else "no classes"
        raise UserError(
            f"'{source.name}' has the classes {', '.join(source.classes)}, and the run knows {learnt}: "
            f"{name_normal(source.classes)}."
        )
    return source.normal


def detection(
    run: Run,
    source: Source | Tiled,
    normal: tuple[str, ...],
    false_alarms: float,
    baselines: bool,
    evidence: dict[str, Any],
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
        pixels = of_pixels(run.maps, source, verdicts.kinds, normal)
        found |= pixels
        evidence |= pixels
        evidence["notes"] += unseen(source)
    if baselines and not run.recognised:  # of features and logits there are others, see `recognised`
        found["baselines"] = evidence["baselines"] = beside(run, source, anomalous, normal, false_alarms)
    return found


def recognition(run: Run, source: Source, home: Home, baselines: bool, evidence: dict[str, Any]) -> dict[str, Any]:
    """Judge how right a classifier is, or what an open-set model recognises, and gather what it called unknown."""
    if isinstance(run.game, Classifies):
        right = accuracy(run, source)
        return {"accuracy": right} if right else {}
    if not run.recognised:
        return {}
    verdicts = evidence["verdicts"]
    setup = reopened(run.folder, run.job, run.facts) if baselines else set_up(run.job)
    evidence["unknown"] = unknowns(run, setup, source, verdicts, home)
    evidence["recognition"] = recognised(run, setup, source, verdicts, home, baselines)
    return {"recognition": evidence["recognition"]}


def of_pixels(
    maps: Callable[[Any], Iterator[np.ndarray]], source: Source | Tiled, kinds: list[str] | None, normal: Sequence[str]
) -> dict[str, float | None]:
    """Pixel AUROC and AUPRO against the masks at their own size, where the data have any: normal images are clean."""
    if source.masks is None or kinds is None:
        return {"pixel_auroc": None, "aupro": None}
    known = [k for k, (mask, kind) in enumerate(zip(source.masks, kinds, strict=True)) if mask or kind in normal]
    kept = source.take(np.array(known))
    assert kept.masks is not None
    masks = (None if mask is None else truth(mask, kept) for mask in kept.masks)
    return judge_pixels(maps(kept), masks, (kept.inside(k, mask) for k, mask in enumerate(kept.masks)))


def truth(mask: Path, source: Source | Tiled) -> np.ndarray:
    """Which pixels are damaged, of those that a source shows: the whole image by tiles, else its central square."""
    whole = read_mask(mask)
    return whole if isinstance(source, Tiled) else np.asarray(middle(Image.fromarray(whole)))


def unseen(source: Source | Tiled) -> list[str]:
    """Say how much of the damage lies outside of what is looked at."""
    masks = [] if isinstance(source, Tiled) else [mask for mask in source.masks or () if mask]
    total, outside = 0, 0
    for mask in masks:
        damaged = int(read_mask(mask).sum())
        total, outside = total + damaged, outside + damaged - int(truth(mask, source).sum())
    if not outside:
        return []
    return [
        f"{outside / total:.1%} of the damaged pixels lie outside of the central squares, which are all that this run "
        "looks at: train with --tile to see whole images."
    ]


def learnt_rows(fit: Source, tiled: bool) -> np.ndarray:
    """What simple detectors learn from, (N, D) float32: all examples, but only some of any number of tiles."""
    if len(fit) < 2:
        raise UserError(f"'{fit.name}' leaves one example to learn from, and simple detectors need two: give more.")
    return rows(fit.read(some(len(fit), 0) if tiled else slice(None)))


def beside(
    run: Run, source: Source | Tiled, anomalous: np.ndarray, normal: tuple[str, ...], false_alarms: float
) -> dict[str, dict[str, Any]]:
    """Measure the simple detectors on the same examples, calibrated on the same ones."""
    setup = reopened(run.folder, run.job, run.facts)
    if setup.held is None:
        raise UserError(
            "The run holds nothing out that simple detectors could be calibrated on: leave --baselines out."
        )
    x = learnt_rows(setup.fit, tiled=run.grid is not None)
    return {
        name: of_baseline(fitted := make(x), simple(fitted, setup.held, source, false_alarms), anomalous, normal)
        for name, make in BASELINES.items()
    }


def simple(baseline: Baseline, held: Source | Tiled, source: Source | Tiled, false_alarms: float) -> Verdicts:
    """Judge every example of a source by a simple detector, calibrated on held-out normal examples."""
    return Verdicts.of(source, score_all(baseline, source), Calibration(score_all(baseline, held)), false_alarms)


def of_baseline(baseline: Baseline, verdicts: Verdicts, anomalous: np.ndarray, normal: Sequence[str]) -> dict[str, Any]:
    """Judge the verdicts of a simple detector, and its maps where there are masks."""
    source = verdicts.source
    found = judge(verdicts.score, anomalous, verdicts.p_value, verdicts.false_alarms, verdicts.kinds)
    if source.masks is not None and baseline.localises:
        found |= of_pixels(partial(maps_of, baseline), source, verdicts.kinds, normal)
    return found


def finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
