"""Open and check everything that a training needs, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from sparring import models
from sparring.data import NAMES, Grid, Region, Source, Tiled, open_source, open_tiled, to_tensor
from sparring.data.source import Examples
from sparring.errors import UserError
from sparring.job import Job, check, surroundings
from sparring.protocol import Game, Recipe, Scores

HELD_OUT = 0.2  # share of the examples that a detector is calibrated on, or a generator judged by; never trained on
HELD_OUT_LEAST = 20  # as many at least, if that leaves half for training
LOOK = 10_000  # examples that a game may look at before the first round


@dataclass(frozen=True)
class Setup:
    """A job with everything opened and checked: the recipe, the game, and the examples to learn from or held out.

    `beside` are further examples to learn from, by their field of a minibatch.
    """

    job: Job
    recipe: Recipe
    game: Game
    fit: Source
    held: Source | Tiled | None
    beside: dict[str, Source]
    region: Region | None = None


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
    overlap = job.tile // 4 if job.tile and job.overlap is None else job.overlap
    return job.model_copy(update={"recipe": full.as_dict(), "overlap": overlap})


def settled(data: str | Path) -> str:
    """Write a path so that the run finds it from any folder; names stay as they are."""
    path = Path(data).expanduser()
    return str(data) if str(data) in NAMES or not path.exists() else str(path.resolve())


def placed(job: Job) -> Job:
    """Settle the paths of a job's data, so that its run finds them from any folder."""
    names = ("data", "partner", "outliers", "roi")
    return job.model_copy(update={name: settled(data) for name in names if (data := getattr(job, name))})


def set_up(job: Job, source: Source | None = None) -> Setup:
    """Open the data, check them against the model, and build the game with its first weights.

    Raises:
        UserError: Where data and model do not fit; nothing has been written by then.
    """
    entry = models.find(job.model)
    recipe = entry.recipe.read(job.recipe)
    detector = hasattr(entry.game, "score")
    region = Region.read(Path(job.roi)) if job.roi else None
    seen = open_for(job, partial(entry.game.fit_side, recipe=recipe), region) if source is None else source
    if "label" in entry.game.needed(recipe) and seen.labels is None:
        raise UserError(f"{job.model} needs labels, and '{seen.name}' has none: give one folder per class.")
    if detector and job.judge_every:
        raise UserError(f"--judge-every is for generators, and {job.model} is a detector: leave it out.")
    if job.normal and not detector:
        raise UserError(f"--normal is for detectors, and {job.model} is none: choose classes with --classes.")
    if (job.tile or job.roi) and not detector:
        raise UserError(f"--tile and --roi are for detectors, and {job.model} is none: leave them out.")
    if job.keep_best and not job.judge_every:
        raise UserError("--keep-best keeps what --judge-every finds best: say how often to look, in rounds.")
    chosen = of_normal(seen, job.normal, job.model) if detector else seen
    held: Source | Tiled | None = None
    if detector or job.judge_every:
        chosen, held = hold_out(chosen, job.seed)
    if held is not None and job.judge_every and len(held) < 2:
        raise UserError(f"--judge-every needs 4 examples at least, and '{seen.name}' holds {len(seen)}: give more.")
    fit = chosen.cut() if isinstance(chosen, Tiled) else chosen
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        game = entry.game(fit.spec(), recipe)
        game.prepare(to_tensor(fit.read(some(len(fit), job.seed))))
    return Setup(job, recipe, game, fit, held, beside(job, game, fit), region)


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
            found[name] = open_source(data, strict=job.strict, **form(fit))
            if found[name].spec().shape != shape:
                raise UserError(
                    f"'{data}' holds examples of shape {found[name].spec().shape}, and '{fit.name}' of {shape}: give "
                    "data of the same shape."
                )
    return found


def form(source: Source) -> dict[str, Any]:
    """The side and the channels at which other images are opened to be of the shape of these."""
    return {"size": source.items.shape[2], "channels": source.items.shape[3]} if source.is_image else {}


def grid_of(job: Job) -> Grid | None:
    """How a job cuts images; None where it does not.

    Raises:
        UserError: For sizes that exclude each other.
    """
    if job.tile is None:
        if job.overlap is not None:
            raise UserError("--overlap says how far tiles overlap: say how large they are with --tile.")
        return None
    if job.size is not None:
        raise UserError("--size reduces whole images and --tile cuts them as they are: give one of the two.")
    return Grid(job.tile, job.overlap or 0)


def open_for(job: Job, side: Callable[[int], int], region: Region | None) -> Source | Tiled:
    """Open a job's data, as wholes of the side that the model takes, or to be seen through tiles."""
    grid = grid_of(job)
    options: dict[str, Any] = {
        "split": job.split, "channels": job.channels, "classes": job.classes or None, "limit": job.limit,
        "strict": job.strict, "region": region,
    }  # fmt: skip
    if grid is None:
        return open_source(job.data, size=job.size or side, **options)
    return open_tiled(job.data, grid, **options)


Seen = TypeVar("Seen", bound=Examples)


def of_normal(source: Seen, normal: Sequence[str], model: str) -> Seen:
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


def hold_out(source: Seen, seed: int) -> tuple[Seen, Seen]:
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
        "spec": {**asdict(fit.spec()), "shape": list(fit.spec().shape), "classes": list(fit.classes)},
        "normal": normal,
        "beside": {name: len(source) for name, source in setup.beside.items()},
        "held_out": len(held) if held is not None else 0,
        "rounds": sum(phase.rounds for phase in setup.game.phases()),
        "skipped": [list(pair) for pair in fit.skipped],
        "notes": list(fit.notes),
        **surroundings(),
    }
