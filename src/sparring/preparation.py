"""Check everything that a training needs, and build its game, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparring import models
from sparring.data import Region, Source, Tiled, to_tensor
from sparring.data.captions import need_captions
from sparring.data.encoded import Features
from sparring.data.fingerprint import identity
from sparring.data.tiles import overlapping
from sparring.encoders import open_encoder
from sparring.errors import UserError
from sparring.job import Job, check, surroundings
from sparring.opening import HELD_OUT, beside, hold_out, keeps, of_normal, open_own, some, to_select, unseen
from sparring.protocol import Game, Recipe, Scores
from sparring.randomness import seeded
from sparring.selection import LOOK, among
from sparring.text import facts
from sparring.wording import Words, spec_of, spoken, texts_cut


@dataclass(frozen=True)
class Setup:
    """A job with everything opened and checked: the recipe, the game, and the examples to learn from or held out.

    `beside` are further examples to learn from, by their field of a minibatch. `select` are held-out examples by which
    the best weights are chosen, against those of `open` where there are any: open ones that are given, or a part of the
    outliers that is not learnt from. `recognised` are the classes that an open-set model tells apart; `words` is what
    captions say.
    """

    job: Job
    recipe: Recipe
    game: Game
    fit: Source
    held: Source | Tiled | None
    beside: dict[str, Source]
    region: Region | None = None
    select: Source | None = None
    open: Source | None = None
    outliers_parted: bool = False
    recognised: tuple[str, ...] = ()
    words: Words | None = None

    @property
    def selected_by(self) -> str | None:
        """In words, what the final weights are chosen by; None where the last ones count."""
        if self.select is None:
            late = 1 + len(getattr(self.game, "elders", ())) if getattr(self.recipe, "late", 0) else 0
            if self.job.select == "classes" and not late:
                return "the number of epochs that was best for known classes left out in turn"
            return f"nothing: the scores of {late} late epochs are averaged" if late else None
        closed = f"AUROC on {min(LOOK, len(self.select)):,} held-out known examples"
        if self.open is not None:
            apart = "outliers that are not learnt from, as no other open examples are given"
            what = apart if self.outliers_parted else "real open ones"
            return f"{closed} against {min(LOOK, len(self.open)):,} {what}"
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
    overlap = overlapping(job.tile, job.overlap) if job.tile else job.overlap
    return job.model_copy(update={"recipe": full.as_dict(), "overlap": overlap})


def set_up(
    job: Job,
    source: Source | None = None,
    given: Mapping[str, Source] | None = None,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Setup:
    """Open the data, check them against the model, and build the game with its first weights.

    Args:
        job: The training.
        source: Its data; None opens what the job names.
        given: Further data in place of those that the job names: "partner", "outlier", and "open" for validation.
        folder: Of the run that goes on, whose text encoder is taken.
        say: Is told what takes long.

    Raises:
        UserError: Where data and model do not fit; nothing has been written by then.
    """
    entry = models.find(job.model)
    recipe = entry.recipe.read(job.recipe)
    encoder = open_encoder(job.backbone, job.layer) if job.backbone else None
    region = Region.read(Path(job.roi)) if job.roi else None
    seen: Source | Tiled
    seen, recognised = (
        open_own(job, partial(entry.game.fit_side, recipe=recipe), region, encoder) if source is None
        else (source, job.known)
    )  # fmt: skip
    refuse(job, seen, recipe)
    chosen, held = parted(job, seen, recognised)
    if held is not None and job.judge_every and len(held) < 2:
        raise UserError(f"--judge-every needs 4 examples at least, and '{seen.name}' holds {len(seen)}: give more.")
    fit = chosen.cut() if isinstance(chosen, Tiled) else chosen
    with seeded(job.seed):
        words = None
        if "caption" in entry.game.needed(recipe):
            assert isinstance(seen, Source)  # a generator sees images whole
            words = spoken(job, seen, fit, folder, say)
        game = entry.game(spec_of(fit, words), recipe)
        game.prepare(to_tensor(fit.read(some(len(fit), job.seed))))
        if words is not None:
            words = replace(words, told=replace(words.told, average=game.captions, near=game.near))
            game.listen(torch.from_numpy(words.told.embeddings[some(len(words.told.embeddings), job.seed)]))
    given = dict(given or {})
    to_choose = given.pop("open", None)
    others = beside(job, game, fit, encoder, given)
    validation, parted_off = to_select(job, game, fit, encoder, others, to_choose)
    fit = replace(fit, notes=(*fit.notes, *of_open(others.get("outlier"), validation, [chosen, held])))
    select: Source | Tiled | None = None
    if held is not None and keeps(game) and (validation is not None or job.select != "classes"):
        held, select = hold_out(held, job.seed, 0.5)
    return Setup(
        job, recipe, game, fit, held, others, region, select.cut() if isinstance(select, Tiled) else select, validation,
        parted_off, fit.classes if recognised and isinstance(game, Scores) else (), words,
    )  # fmt: skip


def reopened(folder: Path, job: Job, facts: dict[str, Any]) -> Setup:
    """The job of a run, opened again.

    Raises:
        UserError: Also where the examples are others than those that the run began with.
    """
    setup = set_up(job, folder=folder)
    if facts.get("examples") not in (None, identities(setup)):
        raise UserError(
            f"The examples of '{job.data}' are not those that the run '{folder}' began with, and it may have learnt "
            "from what is held out now: restore them, or train anew with another --out."
        )
    return setup


def identities(setup: Setup) -> list[str]:
    """What the examples that are learnt from, held out or chosen by are known by."""
    parts = [setup.fit, setup.held, setup.select, setup.open, *setup.beside.values()]
    return [identity(part) for part in parts if part is not None]


def of_open(outliers: Source | None, validation: Source | None, own: Sequence[Source | Tiled | None]) -> list[str]:
    """What is to be said of examples that should be open: what was left out, and what is known all the same."""
    wholes = [part for part in own if isinstance(part, Source)]
    notes: dict[str, None] = {}  # in order, each once
    for what, source in (("outliers", outliers), ("open examples for validation", validation)):
        notes |= dict.fromkeys(source.notes if source is not None else ())
        share = float(among(source, wholes).mean()) if source is not None else 0
        if share:
            notes[f"{share:.1%} of the {what} are among the known examples, number for number: take others."] = None
    return list(notes)


def refuse(job: Job, seen: Source | Tiled, recipe: Recipe) -> None:
    """Raise a UserError where the settings of a job do not fit its model or its data."""
    game = models.find(job.model).game
    detector = hasattr(game, "score")
    if "caption" in game.needed(recipe):
        need_captions(seen)
    elif job.text:
        raise UserError(f"{job.model} reads no captions, and --text {job.text} is given: leave it out.")
    if "label" in game.needed(recipe) and seen.labels is None:
        raise UserError(f"{job.model} needs labels, and '{seen.name}' has none: give one folder per class.")
    if job.judge_every and (detector or not hasattr(game, "generate")):
        what = "is a detector" if detector else "generates nothing"
        raise UserError(f"--judge-every is for generators, and {job.model} {what}: leave it out.")
    if job.normal and not detector:
        raise UserError(f"--normal is for detectors, and {job.model} is none: choose classes with --classes.")
    if (job.tile or job.roi) and not detector:
        raise UserError(f"--tile and --roi are for detectors, and {job.model} is none: leave them out.")
    if job.layer and not job.backbone:
        raise UserError(f"--layer {job.layer} is of a --backbone, and none is given: name it, or leave the layer out.")
    if job.known and not detector and not hasattr(game, "classify"):
        raise UserError(f"--known is for models that recognise, and {job.model} is none: choose with --classes.")
    if job.keep_best and not job.judge_every:
        raise UserError("--keep-best keeps what --judge-every finds best: say how often to look, in rounds.")


def parted(job: Job, seen: Source | Tiled, recognised: tuple[str, ...]) -> tuple[Source | Tiled, Source | Tiled | None]:
    """What is learnt from, and what is held out to calibrate a detector, or to judge a generator or a classifier by."""
    game = models.find(job.model).game
    if hasattr(game, "score"):
        normal = of_normal(seen, ("all",) if recognised else job.normal, job.model)
        chosen, held = unseen(normal, job.seed) if job.hold_out else (normal, None)
        if recognised and chosen.labels is not None:
            told_apart(job, [chosen.classes[k] for k in np.unique(chosen.labels)], chosen.classes)
        return chosen, held
    if hasattr(game, "classify"):
        return hold_out(seen, job.seed, HELD_OUT / 2)
    return hold_out(seen, job.seed, of_each=True) if job.judge_every else (seen, None)


def told_apart(job: Job, there: Sequence[str], known: Sequence[str]) -> None:
    """Raise a UserError where fewer than two classes are known, or one of them has no example to learn from."""
    if len(there) < max(2, len(known)):
        raise UserError(
            f"{job.model} tells known classes apart, and has examples to learn from of {', '.join(there)} alone: name "
            "two such classes or more with --known."
        )


def describe(setup: Setup) -> dict[str, Any]:
    """What run.yaml says beside the job."""
    fit, held = setup.fit, setup.held
    detector = isinstance(setup.game, Scores)
    normal = [fit.classes[k] for k in np.unique(fit.labels)] if detector and fit.labels is not None else []
    return {
        "spec": {**asdict(spec_of(fit, setup.words)), "shape": list(fit.spec().shape), "classes": list(fit.classes)},
        **({"text": facts(setup.words.encoder)} if setup.words else {}),
        "normal": normal,
        "beside": {name: len(source) for name, source in setup.beside.items()},
        "held_out": len(held) if held is not None else 0,
        "selected_by": setup.selected_by,
        "encoder": fit.encoder if isinstance(fit, Features) else None,
        "recognised": list(setup.recognised),
        "examples": identities(setup),
        "rounds": sum(phase.rounds for phase in setup.game.phases()),
        "skipped": [list(pair) for pair in fit.skipped],
        "notes": [*fit.notes, *texts_cut(fit, setup.words)],
        **surroundings(),
    }
