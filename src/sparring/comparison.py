"""Let detectors compete: the same splits, the same normal examples, the same calibration, one table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sparring.contest import Task, Terms, check, entrants, groups_of, settings_of
from sparring.data import Tiled
from sparring.engine import Interrupted
from sparring.engine.journal import read_journal
from sparring.errors import UserError
from sparring.evaluation import evaluate, learnt_rows, of_baseline, simple
from sparring.files import write_text
from sparring.judging import REPORT, SELECT, Inspector
from sparring.metrics.baselines import BASELINES, SHORT
from sparring.metrics.conformal import check_rate, too_few
from sparring.models import find
from sparring.opening import hold_out
from sparring.report.comparison import write_comparison
from sparring.run import Run
from sparring.standings import standings
from sparring.training import train

SCORES = "scores.parquet"  # of every judged example, in each folder
Tell = Callable[[str], None]


def compare(
    data: str | Path,
    models: Sequence[str] = (),
    *,
    normal: Sequence[str] = (),
    seeds: int = 3,
    out: str | Path = "runs/compare",
    split: str = "train",
    on: str = "test",
    false_alarms: float = 0.05,
    recipe: dict[str, Any] | None = None,
    looks: bool = True,
    progress: bool = False,
    tell: Tell = lambda sentence: None,
    **settings: Any,
) -> dict[str, Any]:
    """Train and judge detectors alike, and rank them.

    Args:
        data: A path or a name with labels, see `sparring.data`.
        models: Names of detectors, with a variant after a colon, and of simple ones: mean, pca, knn, lof, forest;
            by default all there are.
        normal: Classes that count as normal, together; ("each",) takes every class in turn, ("each:0", "1") some.
        seeds: How often each model is trained: with the seeds 0, 1, ... that also decide what is held out.
        out: Folder of the comparison. What is done there is not done again.
        split: Part of the data to learn from.
        on: Part of the data to judge on.
        false_alarms: Share of normal examples that may be flagged, in (0, 1).
        recipe: Hyper-parameters of all models by name, or of one: {"epochs": 5, "ganomaly.latent": 64}.
        looks: Note AUROC at every epoch of the trainings, but not of a model whose score is a search (anogan).
        progress: Show a progress bar on standard error.
        tell: Is told of every outcome.
        settings: Of the job: size, or tile to see images through tiles; channels, limit, device, precision.

    Returns:
        Plain values that JSON can hold, see `sparring.standings`; they stand in comparison.json, too, beside
        comparison.md, comparison.csv and report.html.

    Raises:
        UserError: One sentence on what cannot be used; nothing is trained by then.
    """
    if seeds < 1:
        raise UserError(f"--seeds is how often each model is trained and must be 1 or more; got {seeds}.")
    terms = Terms(str(data), Path(out), split, on, check_rate(false_alarms), settings, looks)
    entered = entrants(models, recipe or {})
    groups = groups_of(terms, normal)
    tasks = [Task(e, group, seed, terms) for group in groups for e in entered for seed in range(seeds)]
    for task in tasks:
        check(task)
    return settle(terms, tasks, progress, tell)


def settle(terms: Terms, tasks: Sequence[Task], progress: bool = False, tell: Tell = print) -> dict[str, Any]:
    """Do what is not done yet, and write the table and the report."""
    outcomes = []
    for number, task in enumerate(tasks, 1):
        outcomes.append(outcome(task, progress))
        value = outcomes[-1]["detection"]["auroc"]["value"]
        tell(f"{number} of {len(tasks)}: {task.entrant.name}, normal {'+'.join(task.normal)}, seed {task.seed}: "
             f"AUROC {value:.3f}")  # fmt: skip
    found = standings(outcomes, [task.folder / SCORES for task in tasks])
    counts = [o["calibrated_on"] for o in outcomes if "calibrated_on" in o]
    warning = too_few(min(counts), terms.false_alarms) if counts else None
    if warning:
        tell(warning)
    found = {"data": terms.data, "split": terms.split, "on": terms.on, "asked": terms.false_alarms,
             "notes": [warning] if warning else [], **found}  # fmt: skip
    write_comparison(terms.out, found, outcomes)
    return found | {"report": str(terms.out / "report.html")}


def outcome(task: Task, progress: bool = False) -> dict[str, Any]:
    """What one entrant reaches, measured now or remembered."""
    if task.outcome.exists() and (task.folder / SCORES).exists():
        found = json.loads(task.outcome.read_text(encoding="utf-8"))
        if found["asked"] == json.loads(json.dumps(task.asked)):
            return found
    with stopped():
        found = of_model(task, progress) if task.entrant.is_model else of_simple(task)
    who = {"entrant": task.entrant.name, "normal": list(task.normal), "seed": task.seed, "asked": task.asked}
    write_text(task.outcome, json.dumps(who | found))
    return who | found


@contextmanager
def stopped() -> Iterator[None]:
    """Say how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("stopped: the same command goes on where it was.") from None


def of_model(task: Task, progress: bool) -> dict[str, Any]:
    """Train a model, or go on with its training, and judge it."""
    folder, e, t = task.folder, task.entrant, task.terms
    looks = t.looks and find(e.model).game.exportable  # a score that follows gradients takes seconds an image
    observe = partial(Inspector, normal=task.normal, split=t.on) if looks else None
    if (folder / "run.yaml").exists():
        run = train(out=folder, resume=True, progress=progress, observe=observe)
    else:
        settings = settings_of(task)
        run = train(e.model, t.data, out=folder, recipe=e.recipe, progress=progress, observe=observe, **settings)
    found = evaluate(
        run, split=t.on, normal=task.normal, false_alarms=t.false_alarms, scores=folder / SCORES,
        samples=0, limit=t.settings.get("limit"),
    )  # fmt: skip
    return {**found, **of_training(run)}


def of_training(run: Run) -> dict[str, Any]:
    """How long it learnt, AUROC at every look, and how many rounds an epoch of each phase has."""
    lines = read_journal(run.folder / "journal.jsonl")
    looks = [
        {"phase": line["phase"], "round": line["round"], "select": line.get(SELECT), "report": line.get(REPORT)}
        for line in lines
        if SELECT in line or REPORT in line
    ]
    epochs = {phase.name: run.game.rounds_in(1, phase) for phase in run.game.phases()}
    return {"train_seconds": round(sum(line["seconds"] for line in lines), 1), "looks": looks, "epochs": epochs}


def of_simple(task: Task) -> dict[str, Any]:
    """Fit and judge a simple detector."""
    t = task.terms
    learnt, judged = t.open(t.split), t.open(t.on)
    chosen, held = hold_out(learnt.of(task.normal) if learnt.labels is not None else learnt, task.seed)
    tiled = isinstance(chosen, Tiled)
    x = learnt_rows(chosen.cut() if isinstance(chosen, Tiled) else chosen, tiled)
    began = time.perf_counter()
    baseline = BASELINES[SHORT[task.entrant.name]](x)
    fitted = time.perf_counter()
    verdicts = simple(baseline, held, judged, t.false_alarms)
    ended = time.perf_counter()
    anomalous = verdicts.anomalous(task.normal)
    assert anomalous is not None
    verdicts.save(task.folder / SCORES)
    detection = of_baseline(baseline, verdicts, anomalous, task.normal)
    apart: dict[str, Any] = {name: detection.pop(name) for name in ("pixel_auroc", "aupro") if name in detection}
    speed: dict[str, Any] = {"train_seconds": round(fitted - began, 1)}
    speed["scored_per_second"] = round((len(held) + len(judged)) / max(ended - fitted, 1e-9), 1)
    return {
        "examples": len(judged), "calibrated_on": len(held), "detection": detection, **apart, **speed, "looks": [],
    }  # fmt: skip
