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
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from sparring import models
from sparring.comparison import stopped
from sparring.contest import check_same, plain
from sparring.data import Source, Tiled, open_source
from sparring.engine.journal import read_journal
from sparring.errors import UserError, unknown
from sparring.files import write_text
from sparring.judging import opened, scored
from sparring.metrics.conformal import by_halves, check_rate
from sparring.metrics.detection import judge
from sparring.metrics.leaky import batch_statistics
from sparring.preparation import Setup, ask
from sparring.protocol import Game
from sparring.run import Run
from sparring.studies import Study, find
from sparring.training import train

BATCH = 64  # examples that share their statistics, as in GANomaly's code
NOT_ESTABLISHED = "not established"
MEASURES = {"auroc": roc_auc_score, "auprc": average_precision_score}
NUMBERS = ("auroc_", "auprc_", "f1_")  # what the names of an evaluation begin with
Tell = Callable[[str], None]
Numbers = dict[str, float]


@dataclass(frozen=True)
class Judged:
    """The examples that a study judges: positions of the parts that it reports, by the share of outliers."""

    anomalous: NDArray[np.bool_]
    parts: dict[str, NDArray[np.intp]]

    @classmethod
    def of(cls, study: Study, source: Source | Tiled, normal: Sequence[str], seed: int) -> Judged:
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
        if self.study.batches:
            whole = max(1, len(self.source) // BATCH) * BATCH  # the last batch is dropped where it is incomplete
            with batch_statistics(game):
                score = scored(game, self.source.take(slice(whole)))
        else:
            score = scored(game, self.source)
        if not np.isfinite(score).all():
            return {}  # of that, the engine complains
        return {name: round(value, 6) for name, value in numbers(self.study, self.judged, score).items()}


def numbers(
    study: Study, judged: Judged, score: NDArray[np.float64], flagged: NDArray[np.bool_] | None = None
) -> Numbers:
    """What the study ranks by, for each part, and F1 of verdicts on it.

    Args:
        score: Of the first of `judged.seen`, (n,).
        flagged: The verdicts on these, (n,); None leaves them to the authors' rule, where they have one.
    """
    found: Numbers = {}
    for name, part in judged.parts.items():
        own, odd = score[: len(part)], judged.anomalous[part[: len(score)]]
        found |= {f"{measure}_{name}": float(MEASURES[measure](odd, own)) for measure in study.measures}
        if flagged is not None:
            found[f"f1_{name}"] = float(study.f1(odd, flagged[: len(part)]))
        elif study.flag is not None:
            found[f"f1_{name}"] = float(study.f1(odd, study.flag(own, odd)))
    return found


def reproduce(
    protocol: str,
    data: str | Path | None = None,
    *,
    model: str | None = None,
    cases: Sequence[str] = (),
    seeds: int | None = None,
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
        seeds: How often each case is trained; None is as often as the authors do.
        out: Folder; what is done there is not done again. None is runs/ and the name.
        recipe: Hyper-parameters that differ from the variant's.
        false_alarms: Share of normal examples that the clean verdicts may flag.
        progress: Show a progress bar on standard error.
        tell: Is told of every outcome.
        settings: Of the job: size, or tile to see images through tiles; limit, device, precision.

    Returns:
        Plain values that JSON can hold: "protocol", "model", "about", "leaky" and "leaks", and "rows" by case with
        "published", "authors" (their evaluation) and "clean", each of them the mean over seeds; they stand in
        reproduction.json, too.

    Raises:
        UserError: For an unknown protocol, model or case, or data of another kind.
    """
    study = find(protocol)
    study = replace(study, model=model or study.model, data=str(data) if data is not None else study.data)
    settings |= patches(study, recipe or {}, settings)
    if not study.data:
        raise UserError(f"{protocol} does not say where its data are: name the folder with --data.")
    check_rate(false_alarms)
    seeds = study.seeds if seeds is None else seeds
    if seeds < 1:
        raise UserError(f"--seeds is how often each case is trained and must be 1 or more; got {seeds}.")
    folder = Path(out) if out is not None else Path("runs") / plain(f"{protocol}-{study.model}")
    rows = {}
    for case in chosen(study, cases):
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


def patches(study: Study, recipe: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The tiles that a study asks for, of the side that the model takes, unless it is told otherwise."""
    name, _, variant = study.model.partition(":")
    entry = models.find(name)
    full = entry.recipe.read(recipe, entry.variant(variant or "default"))  # or refuses, before data are divided
    if not study.patch or {"size", "tile"} & settings.keys():
        return {}
    return {"tile": entry.game.fit_side(study.patch, full)}


def chosen(study: Study, cases: Sequence[str]) -> tuple[str, ...]:
    """The cases that are asked for, by default all.

    Raises:
        UserError: For one that the study does not have.
    """
    if study.cases:
        for case in cases:
            if case not in study.cases:
                raise unknown("case of this protocol", case, study.cases)
        return tuple(cases) or study.cases
    source = open_source(study.data, split="test")
    for case in cases:
        source.class_number(case)
    return tuple(cases) or source.classes


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
    told = {"variant": variant or "default", "normal": normal, "seed": seed, "hold_out": False, **settings}
    check_same(folder / "run", ask(name, data, recipe, **told))
    if (folder / "run" / "run.yaml").exists():
        run = train(out=folder / "run", resume=True, progress=progress, observe=observe)
    else:
        run = train(name, data, out=folder / "run", recipe=recipe, progress=progress, observe=observe, **told)
    found = {
        "authors": as_reported(study, read_journal(run.folder / "journal.jsonl")),
        **cleanly(study, run, normal, seed, false_alarms, settings.get("limit")), "asked": asked,
    }  # fmt: skip
    write_text(path, json.dumps(found))
    return found


def as_reported(study: Study, journal: Sequence[dict[str, Any]]) -> Numbers:
    """The authors' numbers: of the best look of the last phase where they choose it so, else of the last look."""
    first = f"{study.measures[0]}_"
    looks = [
        {name: line[name] for name in line if name.startswith(NUMBERS)} | {"round": line["round"]}
        for line in journal
        if line["phase"] == journal[-1]["phase"] and any(name.startswith(first) for name in line)
    ]
    ranked = next(name for name in looks[0] if name.startswith(first))
    return max(looks, key=lambda look: look[ranked]) if study.best else looks[-1]


def cleanly(
    study: Study, run: Run, normal: Sequence[str], seed: int, false_alarms: float, limit: int | None
) -> dict[str, Any]:
    """The clean numbers: last weights, eval mode, verdicts by normal examples that were never learnt from.

    The training holds none out, since the authors learn from all. So each half of the judged examples calibrates the
    verdicts on the other by its normal ones.
    """
    source = run.look(limit=limit)
    judged = Judged.of(study, source, normal, seed)
    score, odd = run.raw_scores(source.take(judged.seen)), judged.anomalous[judged.seen]
    p_value = by_halves(score, ~odd, seed)
    clean = numbers(study, judged, score, p_value <= false_alarms)
    return {"clean": clean, "detection": judge(score, odd, p_value, false_alarms)}


def averaged(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds."""
    means = {
        side: {name: statistics.fmean(one[side][name] for one in found) for name in found[0][side]}
        for side in ("authors", "clean")
    }
    ranked = [one["detection"] for one in found]
    means["clean"] |= {
        name: statistics.fmean(one[name]["value"] for one in ranked) for name in ("average_precision", "false_alarms")
    }
    return means | {"detection": ranked[0]} if len(ranked) == 1 else means


def sentence(found: dict[str, Any]) -> str:
    """The measure of the largest part, by the authors' evaluation and by the clean one."""
    name = [name for name in found["clean"] if not name.startswith("f1_")][-1]
    authors, clean = found["authors"][name], found["clean"][name]
    return f"{name.replace('_', ' ')}, by the authors' evaluation {authors:.3f}, clean {clean:.3f}"
