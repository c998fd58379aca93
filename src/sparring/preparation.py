"""Open and check everything that a training needs, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparring import models
from sparring.data import NAMES, Source, open_source, to_tensor
from sparring.data.captions import Told, need_captions, tell
from sparring.errors import UserError
from sparring.files import write_bytes
from sparring.job import Job, check, read_run, surroundings, write_run
from sparring.protocol import Game, Recipe, Scores, Spec
from sparring.text import CHARACTERS, FILE, TextEncoder, choose, cut, embed, facts, restore
from sparring.text.characters import Joint

HELD_OUT = 0.2  # share of the examples that a detector is calibrated on, or a generator judged by; never trained on
HELD_OUT_LEAST = 20  # as many at least, if that leaves half for training
LOOK = 10_000  # examples that a game may look at before the first round


@dataclass(frozen=True)
class Setup:
    """A job with everything opened and checked: the recipe, the game, and the examples to learn from or held out.

    `beside` are further examples to learn from, by their field of a minibatch; `words` is what captions say.
    """

    job: Job
    recipe: Recipe
    game: Game
    fit: Source
    held: Source | None
    beside: dict[str, Source]
    words: Words | None = None


@dataclass(frozen=True)
class Words:
    """The text encoder of a training, and what it makes of the captions."""

    encoder: TextEncoder
    told: Told


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


def from_anywhere(job: Job) -> Job:
    """The same job with paths by which the run finds its data from any folder."""
    named = ("data", "partner", "outliers", "text")
    return job.model_copy(update={name: settled(path) for name in named if (path := getattr(job, name))})


def set_up(
    job: Job, source: Source | None = None, folder: Path | None = None, say: Callable[[str], None] = lambda text: None
) -> Setup:
    """Open the data, check them against the model, and build the game with its first weights.

    Args:
        job: What is asked for.
        source: The data, where they are open.
        folder: Of the run that goes on, whose text encoder is taken.
        say: Is told what takes long.

    Raises:
        UserError: Where data and model do not fit; nothing has been written by then.
    """
    entry = models.find(job.model)
    recipe = entry.recipe.read(job.recipe)
    detector, needed = hasattr(entry.game, "score"), entry.game.needed(recipe)
    if source is None:
        side = partial(entry.game.fit_side, recipe=recipe)
        source = open_source(
            job.data, split=job.split, size=job.size or side, channels=job.channels,
            classes=job.classes or None, limit=job.limit, strict=job.strict,
        )  # fmt: skip
    if "caption" in needed:
        need_captions(source)
    elif job.text:
        raise UserError(f"{job.model} reads no captions, and --text {job.text} is given: leave it out.")
    if "label" in needed and source.labels is None:
        raise UserError(f"{job.model} needs labels, and '{source.name}' has none: give one folder per class.")
    if detector and job.judge_every:
        raise UserError(f"--judge-every is for generators, and {job.model} is a detector: leave it out.")
    if job.normal and not detector:
        raise UserError(f"--normal is for detectors, and {job.model} is none: choose classes with --classes.")
    if job.keep_best and not job.judge_every:
        raise UserError("--keep-best keeps what --judge-every finds best: say how often to look, in rounds.")
    fit = of_normal(source, job.normal, job.model) if detector else source
    held: Source | None = None
    if detector or job.judge_every:
        fit, held = hold_out(fit, job.seed)
    if held is not None and job.judge_every and len(held) < 2:
        raise UserError(f"--judge-every needs 4 examples at least, and '{source.name}' holds {len(source)}: give more.")
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        words = spoken(job, source, fit, folder, say) if "caption" in needed else None
        game = entry.game(spec_of(fit, words), recipe)
        game.prepare(to_tensor(fit.read(some(len(fit), job.seed))))
        if words is not None:
            words = replace(words, told=replace(words.told, average=game.captions))
            game.listen(torch.from_numpy(words.told.embeddings[some(len(words.told.embeddings), job.seed)]))
    return Setup(job, recipe, game, fit, held, beside(job, game, fit), words)


def spec_of(fit: Source, words: Words | None) -> Spec:
    """What the training set dictates to a model."""
    return fit.spec() if words is None else replace(fit.spec(), caption=words.encoder.width)


def spoken(job: Job, source: Source, fit: Source, folder: Path | None, say: Callable[[str], None]) -> Words:
    """Choose the text encoder, or take that of the run which goes on, and read the captions of the training set."""
    if folder is None:
        encoder = choose(job.text, lambda: fit if job.text in (None, CHARACTERS) else source, say)
    else:
        encoder = restore(folder, job.text, read_run(folder)[1]["text"], lambda: source)
    texts = [text for own in need_captions(fit) for text in own]
    return Words(encoder, tell(fit, embed(encoder, texts)))


BESIDE = {  # fields of a minibatch that are data of their own: where the job names them, and how a user does
    "partner": ("partner", "a second domain", "sparring train {model} A B"),
    "outlier": ("outliers", "outliers", "--outliers DATA"),
}


def beside(job: Job, game: Game, fit: Source) -> dict[str, Source]:
    """Open the further data that a job names, of the same shape as its own.

    Raises:
        UserError: For data that the game needs and lacks, or has no use for.
    """
    found = {}
    for name, (setting, what, remedy) in BESIDE.items():
        data, needed = getattr(job, setting), name in game.needed(game.recipe)
        if data is None and needed:
            raise UserError(f"{job.model} needs {what}, and none is given: {remedy.format(model=job.model)}.")
        if data is not None and not (needed or name in game.wants):
            raise UserError(f"{job.model} has no use for {what}, and '{data}' is given: leave it out.")
        if data is not None:
            shape = fit.spec().shape
            seen: dict[str, Any] = {"size": shape[-1], "channels": shape[0]} if fit.is_image else {}
            found[name] = open_source(data, strict=job.strict, **seen)
            if found[name].spec().shape != shape:
                raise UserError(
                    f"'{data}' holds examples of shape {found[name].spec().shape}, and '{fit.name}' of {shape}: give "
                    "data of the same shape."
                )
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


def hold_out(source: Source, seed: int) -> tuple[Source, Source]:
    """Set examples aside to calibrate or to judge by: a fifth, or 20 if that leaves half.

    Raises:
        UserError: For fewer than two examples.
    """
    if len(source) < 2:
        raise UserError(
            f"'{source.name}' holds {len(source)} example(s) to learn from, and others are held out to judge by: give "
            "at least 2, better 100."
        )
    count = max(round(HELD_OUT * len(source)), min(HELD_OUT_LEAST, len(source) // 2), 1)
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
        "spec": {**asdict(spec_of(fit, setup.words)), "shape": list(fit.spec().shape), "classes": list(fit.classes)},
        **({"text": facts(setup.words.encoder)} if setup.words else {}),
        "normal": normal,
        "beside": {name: len(source) for name, source in setup.beside.items()},
        "held_out": len(held) if held is not None else 0,
        "rounds": sum(phase.rounds for phase in setup.game.phases()),
        "skipped": [list(pair) for pair in fit.skipped],
        "notes": [*fit.notes, *texts_cut(setup)],
        **surroundings(),
    }


def texts_cut(setup: Setup) -> list[str]:
    """A note on the captions that are longer than the text encoder reads."""
    if setup.words is None:
        return []
    note = cut(setup.words.encoder, sorted({text for own in need_captions(setup.fit) for text in own}))
    return [note] if note else []


def begin(folder: Path, job: Job, setup: Setup) -> None:
    """Write what a run begins with: its text encoder, where it has learnt one, and run.yaml."""
    if setup.words is not None and isinstance(setup.words.encoder, Joint):
        write_bytes(folder / FILE, setup.words.encoder.packed())
    write_run(folder, job, describe(setup))
