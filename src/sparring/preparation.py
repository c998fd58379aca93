"""Open and check everything that a training needs, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparring import models
from sparring.data import NAMES, Source, open_source, to_tensor
from sparring.data.encoded import Features
from sparring.encoders import Encoder, as_features, check_same, open_encoder
from sparring.errors import UserError
from sparring.job import Job, check, surroundings
from sparring.protocol import Game, Recipe, Scores
from sparring.selection import duplicates, without

HELD_OUT = 0.2  # share of the examples that a detector is calibrated on, or a generator judged by; never trained on
HELD_OUT_LEAST = 20  # as many at least, if that leaves half for training
UNSURE = (
    "The backbone may have been trained on the examples that p-values are calibrated on: then more than the asked "
    "share of new known examples is called unknown. Extract the features of examples that it has not seen."
)
LOOK = 10_000  # examples that a game may look at before the first round


@dataclass(frozen=True)
class Setup:
    """A job with everything opened and checked: the recipe, the game, and the examples to learn from or held out.

    `beside` are further examples to learn from, by their field of a minibatch. `select` are held-out examples by which
    the best weights are chosen, against those of `open` where these are given. `recognised` are the classes that an
    open-set model tells apart.
    """

    job: Job
    recipe: Recipe
    game: Game
    fit: Source
    held: Source | None
    beside: dict[str, Source]
    select: Source | None = None
    open: Source | None = None
    recognised: tuple[str, ...] = ()

    @property
    def selected_by(self) -> str | None:
        """In words, what the final weights are chosen by; None where the last ones count."""
        if self.select is None:
            late = getattr(self.recipe, "late", 0)
            if self.job.select == "classes" and not late:
                return "the number of epochs that was best for known classes left out in turn"
            return f"nothing: the scores of {late} late epochs are averaged" if late else None
        closed = f"AUROC on {len(self.select):,} held-out known examples"
        if self.open is not None:
            return f"{closed} against {len(self.open):,} real open ones"
        return f"{closed} against mixtures, shuffles and noise made of them, as no open examples are given"


def ask(model: str, data: str | Path, recipe: dict[str, Any], **settings: Any) -> Job:
    """Turn what a user asked for into a complete job.

    Args:
        model: Name of a model.
        data: Path or name.
        recipe: Hyper-parameters that differ from the variant's.
        settings: Fields of Job.

    Raises:
        UserError: For anything misspelt or out of bounds.
    """
    entry = models.find(model)
    job = check({"model": model, "data": str(data), **settings})
    full = entry.recipe.read(recipe, entry.variant(job.variant))
    return job.model_copy(update={"recipe": full.as_dict()})


def settled(data: str | Path) -> str:
    """Write a path so that the run finds it from any folder; names stay as they are."""
    path = Path(data).expanduser()
    return str(data) if str(data) in NAMES or not path.exists() else str(path.resolve())


def set_up(job: Job, source: Source | None = None, given: Mapping[str, Source] | None = None) -> Setup:
    """Open the data, check them against the model, and build the game with its first weights.

    Args:
        job: The training.
        source: Its data; None opens what the job names.
        given: Further data in place of those that the job names: "partner", "outlier", and "open" for validation.

    Raises:
        UserError: Where data and model do not fit; nothing has been written by then.
    """
    entry = models.find(job.model)
    recipe = entry.recipe.read(job.recipe)
    detector = hasattr(entry.game, "score")
    encoder = open_encoder(job.backbone, job.layer) if job.backbone else None
    recognised = job.known
    if source is None:
        source, recognised = opened(job, encoder, partial(entry.game.fit_side, recipe=recipe))
    refuse(job, source, recipe)
    fit = of_normal(source, ("all",) if recognised else job.normal, job.model) if detector else source
    held: Source | None = None
    if detector or job.judge_every:
        fit, held = unseen(fit, job.seed)
    elif hasattr(entry.game, "classify"):
        fit, held = hold_out(fit, job.seed, HELD_OUT / 2)
    if held is not None and job.judge_every and len(held) < 2:
        raise UserError(f"--judge-every needs 4 examples at least, and '{source.name}' holds {len(source)}: give more.")
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        game = entry.game(fit.spec(), recipe)
        game.prepare(to_tensor(fit.read(some(len(fit), job.seed))))
    given = given or {}
    others = beside(job, game, fit, encoder, given)
    validation = given.get("open") or open_examples(job, fit, encoder)
    keeps = any(phase.keep for phase in game.phases())
    if validation is not None and not keeps:
        raise UserError(f"{job.model} chooses no weights by open examples here: leave '{validation.name}' out.")
    select: Source | None = None
    if held is not None and keeps and (validation is not None or job.select != "classes"):
        held, select = hold_out(held, job.seed, 0.5)
    if "outlier" in others and (share := duplicates(fit, others["outlier"])):
        note = f"{share:.1%} of the outliers are among the known examples, number for number: take other outliers."
        fit = replace(fit, notes=(*fit.notes, note))
    return Setup(
        job, recipe, game, fit, held, others, select, validation, fit.classes if recognised and detector else ()
    )


def opened(job: Job, encoder: Encoder | None, side: Callable[[int], int]) -> tuple[Source, tuple[str, ...]]:
    """Open the data of a job, as features where it has a backbone; tell the classes that an open-set model knows.

    Unless they are named, these are the classes that the backbone tells apart.
    """
    view: dict[str, Any] = {"size": job.size or side, "channels": job.channels} | (encoder.view if encoder else {})
    source = open_source(
        job.data, split=job.split, classes=job.known or job.classes or None, limit=job.limit, strict=job.strict, **view
    )
    outputs = encoder.outputs if encoder else getattr(source, "outputs", ())
    known = job.known
    if outputs and not (known or job.classes or job.normal) and set(outputs) <= set(source.classes):
        known, source = outputs, source.of(outputs)
    return as_features(source, encoder), known


def refuse(job: Job, source: Source, recipe: Recipe) -> None:
    """Raise a UserError where the settings of a job do not fit its model or its data."""
    game = models.find(job.model).game
    detector = hasattr(game, "score")
    if "label" in game.needed(recipe) and source.labels is None:
        raise UserError(f"{job.model} needs labels, and '{source.name}' has none: give one folder per class.")
    if detector and job.judge_every:
        raise UserError(f"--judge-every is for generators, and {job.model} is a detector: leave it out.")
    if job.normal and not detector:
        raise UserError(f"--normal is for detectors, and {job.model} is none: choose classes with --classes.")
    if job.known and not detector and not hasattr(game, "classify"):
        raise UserError(f"--known is for models that recognise, and {job.model} is none: choose with --classes.")
    if job.keep_best and not job.judge_every:
        raise UserError("--keep-best keeps what --judge-every finds best: say how often to look, in rounds.")


def open_examples(job: Job, fit: Source, encoder: Encoder | None) -> Source | None:
    """The validation examples of no known class, if any are given.

    Raises:
        UserError: Where all of them are of known classes, or of another shape or encoder.
    """
    if job.open_validation is None:
        return None
    found, left_out = without(open_like(job.open_validation, fit, job.strict, encoder), fit.classes)
    if not len(found):
        raise UserError(
            f"All {left_out:,} examples of '{job.open_validation}' are of known classes: give some of other classes."
        )
    return found


def open_like(data: str, fit: Source, strict: bool, encoder: Encoder | None) -> Source:
    """Open further data as those of `fit` are seen.

    Raises:
        UserError: For data of another shape, or features of another encoder.
    """
    shape = fit.spec().shape
    seen: dict[str, Any] = (
        encoder.view if encoder else {"size": shape[-1], "channels": shape[0]} if fit.is_image else {}
    )
    found = as_features(open_source(data, strict=strict, **seen), encoder)
    if found.spec().shape != shape:
        raise UserError(
            f"'{data}' holds examples of shape {found.spec().shape}, and '{fit.name}' of {shape}: give data of the "
            "same shape."
        )
    if isinstance(found, Features) and isinstance(fit, Features):
        check_same(fit.encoder, found.encoder, found.name)
    return found


BESIDE = {  # fields of a minibatch that are data of their own: where the job names them, and how a user does
    "partner": ("partner", "a second domain", "sparring train {model} A B"),
    "outlier": ("outliers", "outliers", "--outliers DATA"),
}


def beside(
    job: Job, game: Game, fit: Source, encoder: Encoder | None = None, given: Mapping[str, Source] | None = None
) -> dict[str, Source]:
    """Open the further data that a job names, of the same shape as its own.

    Raises:
        UserError: For data that the game needs and lacks, or has no use for.
    """
    found = dict(given or {})
    found.pop("open", None)
    for name, (setting, what, remedy) in BESIDE.items():
        data, needed = getattr(job, setting), name in game.needed(game.recipe)
        if data is None and needed and name not in found:
            raise UserError(f"{job.model} needs {what}, and none is given: {remedy.format(model=job.model)}.")
        if data is not None and not (needed or name in game.wants):
            raise UserError(f"{job.model} has no use for {what}, and '{data}' is given: leave it out.")
        if data is not None:
            found[name] = open_like(data, fit, job.strict, encoder)
    return found


def of_normal(source: Source, normal: Sequence[str], model: str) -> Source:
    """Keep the normal examples.

    Raises:
        UserError: Where there are classes and none is said to be normal.
    """
    if tuple(normal) == ("all",) or source.labels is None:
        if normal and tuple(normal) != ("all",):
            raise UserError(f"'{source.name}' has no classes, so --normal {','.join(normal)} names none: leave it out.")
        return source
    chosen = tuple(normal) or source.normal
    present = {source.classes[k] for k in np.unique(source.labels)}
    if not chosen and len(present) > 1:
        raise UserError(
            f"{model} learns from normal examples only, and '{source.name}' has {len(present)} classes: say which are "
            f"normal, such as --normal {sorted(present)[0]}, or --normal all."
        )
    return source.of(chosen) if chosen else source


def unseen(source: Source, seed: int) -> tuple[Source, Source]:
    """Set examples aside as `hold_out` does, or, of features, those that the encoder was not trained on."""
    fresh = source.unseen_now() if isinstance(source, Features) else None
    if fresh is not None and fresh.any() and not fresh.all():
        return source.take(~fresh), source.take(fresh)
    if isinstance(source, Features) and (fresh is None or not fresh.any()):
        source = replace(source, notes=(*source.notes, UNSURE))
    return hold_out(source, seed)


def hold_out(source: Source, seed: int, share: float = HELD_OUT) -> tuple[Source, Source]:
    """Set examples aside to calibrate or to judge by: a share of them, or 20 if that leaves half.

    Raises:
        UserError: For fewer than two examples.
    """
    if len(source) < 2:
        raise UserError(
            f"'{source.name}' holds {len(source)} example(s) to learn from, and others are held out to judge by: give "
            "at least 2, better 100."
        )
    count = max(round(share * len(source)), min(HELD_OUT_LEAST, len(source) // 2), 1)
    order = np.random.default_rng(np.random.SeedSequence((seed, 0xCA11))).permutation(len(source))
    return source.take(np.sort(order[count:])), source.take(np.sort(order[:count]))


def some(count: int, seed: int) -> np.ndarray:
    """Indices of up to 10,000 examples, the same on every process."""
    if count <= LOOK:
        return np.arange(count)
    return np.sort(np.random.default_rng((seed, 0x100C)).choice(count, LOOK, replace=False))


def describe(setup: Setup) -> dict[str, Any]:
    """What run.yaml says beside the job."""
    fit, held = setup.fit, setup.held
    detector = isinstance(setup.game, Scores)
    normal = [fit.classes[k] for k in np.unique(fit.labels)] if detector and fit.labels is not None else []
    return {
        "spec": {**asdict(fit.spec()), "shape": list(fit.spec().shape), "classes": list(fit.classes)},
        "normal": normal,
        "beside": {name: len(source) for name, source in setup.beside.items()},
        "held_out": len(held) if held is not None else 0,
        "selected_by": setup.selected_by,
        "encoder": fit.encoder if isinstance(fit, Features) else None,
        "recognised": list(setup.recognised),
        "rounds": sum(phase.rounds for phase in setup.game.phases()),
        "skipped": [list(pair) for pair in fit.skipped],
        "notes": list(fit.notes),
        **surroundings(),
    }
