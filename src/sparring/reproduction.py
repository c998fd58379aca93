"""Repeat a paper's experiment: its own evaluation beside a clean one, and the published figure beside both."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from sparring import models
from sparring.comparison import stopped
from sparring.contest import plain
from sparring.data import Source, batches, open_source
from sparring.engine.journal import read_journal
from sparring.errors import UserError
from sparring.evaluation import evaluate
from sparring.files import write_text
from sparring.judging import opened
from sparring.metrics.leaky import batch_statistics
from sparring.preparation import Setup
from sparring.protocol import Game
from sparring.scoring import scores_of
from sparring.studies import Study, find
from sparring.training import train

BATCH = 64  # examples that share their statistics, as in GANomaly's code
NOT_ESTABLISHED = "not established"
Tell = Callable[[str], None]
Numbers = dict[str, float]


@dataclass(frozen=True)
class Judged:
    """The examples that a study judges: positions of the parts that it reports, by the share of outliers."""

    anomalous: NDArray[np.bool_]
    parts: dict[str, NDArray[np.intp]]

    @classmethod
    def of(cls, study: Study, source: Source, normal: Sequence[str], seed: int) -> Judged:
        """Normal examples first, as the authors' loaders have them, then the outliers in random order."""
        assert source.labels is not None
        odd = np.array([source.classes[k] not in normal for k in source.labels])
        sound, strange = np.flatnonzero(~odd), np.flatnonzero(odd)
        strange = np.random.default_rng((seed, 0x0DD5)).permutation(strange) if study.shares else strange
        counts = {f"{share:g}": round(share / (1 - share) * len(sound)) for share in study.shares}
        parts = {name: np.concatenate([sound, strange[:count]]) for name, count in counts.items()}
        return cls(odd, parts or {"all": np.concatenate([sound, strange])})

    @property
    def seen(self) -> NDArray[np.intp]:
        """Positions of all that is judged; smaller shares of outliers begin it."""
        return max(self.parts.values(), key=len)


class AuthorsEye:
    """Judge a game in training as its authors do, at every epoch: what they report is the best of these numbers."""

    def __init__(self, setup: Setup, study: Study, normal: Sequence[str]) -> None:
        source = opened(setup, "test")
        self.study = study
        self.judged = Judged.of(study, source, normal, setup.job.seed)
        self.source = source.take(self.judged.seen)

    def __call__(self, game: Game, phase: str, done: int) -> Numbers:
        found = numbers(self.study, self.judged, scores_of(game, batches(self.source, BATCH)))
        if self.study.batches:
            whole = max(1, len(self.source) // BATCH) * BATCH  # the last batch is dropped where it is incomplete
            with batch_statistics(game):
                score = scores_of(game, batches(self.source.take(slice(whole)), BATCH))
            odd = self.judged.anomalous[self.judged.seen[:whole]]
            found["authors_auroc"] = float(roc_auc_score(odd, score))
        return {name: round(value, 6) for name, value in found.items()}


def numbers(study: Study, judged: Judged, score: NDArray[np.float64]) -> Numbers:
    """AUROC of each part, and F1 of the authors' verdicts on it; `score` is of `judged.seen`."""
    found = {}
    for name, part in judged.parts.items():
        own, odd = score[: len(part)], judged.anomalous[part]
        found[f"auroc_{name}"] = float(roc_auc_score(odd, own))
        if study.flag is not None:
            found[f"f1_{name}"] = float(study.f1(odd, study.flag(own, odd)))
    return found


def reproduce(
    protocol: str,
    data: str | Path | None = None,
    *,
    model: str | None = None,
    cases: Sequence[str] = (),
    seeds: int = 1,
    out: str | Path | None = None,
    recipe: dict[str, Any] | None = None,
    false_alarms: float = 0.05,
    progress: bool = False,
    tell: Tell = lambda sentence: None,
    **settings: Any,
) -> dict[str, Any]:
    """Repeat a paper's experiment.

    Args:
        protocol: A name of `sparring.studies`, such as "ognet-mnist".
        data: Where the data are, where they have no name.
        model: Another detector under the same protocol, with a variant after a colon.
        cases: Some of the cases only: the classes that take their turn.
        seeds: How often each case is trained.
        out: Folder; what is done there is not done again. None is runs/ and the name.
        recipe: Hyper-parameters that differ from the variant's.
        false_alarms: Share of normal examples that the clean verdicts may flag.
        progress: Show a progress bar on standard error.
        tell: Is told of every outcome.
        settings: Of the job: size, limit, device, precision.

    Returns:
        Plain values that JSON can hold: "protocol", "model", "about", "leaky" and "leaks", and "rows" by case with
        "published", "authors" (their evaluation) and "clean", each of them the mean over seeds; they stand in
        reproduction.json, too.

    Raises:
        UserError: For an unknown protocol or model, or data of another kind.
    """
    study = find(protocol)
    study = replace(study, model=model or study.model, data=str(data) if data is not None else study.data)
    models.find(study.model.partition(":")[0])
    if not study.data:
        raise UserError(f"{protocol} does not say where its data are: name the folder with --data.")
    if seeds < 1:
        raise UserError(f"--seeds is how often each case is trained and must be 1 or more; got {seeds}.")
    folder = Path(out) if out is not None else Path("runs") / plain(f"{protocol}-{study.model}")
    chosen = tuple(cases) or study.cases or open_source(study.data, split="test").classes
    rows = {}
    for case in chosen:
        found = []
        for seed in range(seeds):
            here = folder / f"{plain(case)}-{seed}"
            with stopped():
                found.append(one(study, case, seed, here, recipe or {}, false_alarms, progress, settings))
            tell(f"{case}, seed {seed}: {sentence(found[-1])}")
        rows[case] = {"published": study.published.get(case, NOT_ESTABLISHED), **averaged(found)}
    about = {"protocol": protocol, "model": study.model, "data": study.data, "about": study.about, "open": study.open}
    result = {**about, "leaky": bool(study.leaks), "leaks": list(study.leaks), "seeds": seeds, "rows": rows}
    write_text(folder / "reproduction.json", json.dumps(result, indent=1) + "\n")
    return result


def one(
    study: Study, case: str, seed: int, folder: Path, recipe: dict[str, Any], false_alarms: float, progress: bool,
    settings: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Train and judge one case with one seed, or remember it."""
    asked = {"model": study.model, "data": study.data, "recipe": recipe, "false_alarms": false_alarms, **settings}
    path = folder / "reproduction.json"
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["asked"] != json.loads(json.dumps(asked)):
            raise UserError(f"'{folder}' holds the outcome of other settings: choose another --out, or remove it.")
        return found
    data, normal = study.divide(study.data, case, seed, folder)
    observe = partial(AuthorsEye, study=study, normal=normal)
    name, _, variant = study.model.partition(":")
    if (folder / "run" / "run.yaml").exists():
        run = train(out=folder / "run", resume=True, progress=progress, observe=observe)
    else:
        run = train(
            name, data, out=folder / "run", recipe=recipe, variant=variant or "default", normal=normal, seed=seed,
            progress=progress, observe=observe, **settings,
        )  # fmt: skip
    table = folder / "scores.parquet"
    limit = settings.get("limit")
    clean = evaluate(run, normal=normal, false_alarms=false_alarms, scores=table, samples=0, limit=limit)
    found = {
        "authors": as_reported(study, read_journal(run.folder / "journal.jsonl")),
        "clean": of_part(study, Judged.of(study, run.open(limit=limit), normal, seed), table),
        "evaluation": clean, "asked": asked,
    }  # fmt: skip
    write_text(path, json.dumps(found))
    return found


def as_reported(study: Study, journal: Sequence[dict[str, Any]]) -> Numbers:
    """The authors' numbers: of the best look of the last phase where they choose it so, else of the last look."""
    looks = [
        {name: line[name] for name in line if name.startswith(("auroc_", "f1_", "authors_"))} | {"round": line["round"]}
        for line in journal
        if line["phase"] == journal[-1]["phase"] and any(name.startswith("auroc_") for name in line)
    ]
    ranked = next(name for name in ("authors_auroc", *looks[0]) if name in looks[0])
    return max(looks, key=lambda look: look[ranked]) if study.best else looks[-1]


def of_part(study: Study, judged: Judged, table: Path) -> Numbers:
    """The clean numbers: last weights, eval mode, verdicts by held-out normal examples."""
    found: Numbers = {}
    columns = pyarrow.parquet.read_table(table).to_pydict()
    score, flagged = np.array(columns["score"]), np.array([verdict == "strange" for verdict in columns["verdict"]])
    for name, part in judged.parts.items():
        odd = judged.anomalous[part]
        found[f"auroc_{name}"] = float(roc_auc_score(odd, score[part]))
        found[f"f1_{name}"] = float(study.f1(odd, flagged[part]))
    return found


def averaged(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds."""
    means = {
        side: {name: statistics.fmean(one[side][name] for one in found) for name in found[0][side]}
        for side in ("authors", "clean")
    }
    ranked = [one["evaluation"]["detection"] for one in found]
    means["clean"] |= {
        name: statistics.fmean(one[name]["value"] for one in ranked) for name in ("average_precision", "false_alarms")
    }
    return means | {"detection": ranked[0]} if len(ranked) == 1 else means


def sentence(found: dict[str, Any]) -> str:
    """AUROC by the authors' evaluation and by the clean one."""
    told = [f"{name} {value:.3f}" for name, value in found["authors"].items() if name.endswith("auroc")]
    told += [f"{name} {value:.3f}" for name, value in found["authors"].items() if name.startswith("auroc_")][-1:]
    clean = [f"{value:.3f}" for name, value in found["clean"].items() if name.startswith("auroc_")][-1]
    return f"by the authors' evaluation {', '.join(told)}; clean {clean}"
