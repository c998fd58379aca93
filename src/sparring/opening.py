"""Open the data of a training, its own and those that stand beside it, and part off what is held out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from sparring.data import Domain, Grid, Region, Source, Tiled, open_source, open_tiled, settled, split_in, with_split
from sparring.data.encoded import Features
from sparring.data.source import Examples
from sparring.encoders import Encoder, as_features, check_same
from sparring.errors import UserError
from sparring.job import Job
from sparring.protocol import Game
from sparring.selection import unlike, without
from sparring.text.characters import is_learnt

HELD_OUT = 0.2  # share of the examples that a detector is calibrated on, or a generator judged by; never trained on
HELD_OUT_LEAST = 20  # as many at least, if that leaves half for training
LOOK = 10_000  # examples that a game may look at before the first round
PATHS = (
    "data",
    "partner",
    "outliers",
    "open_validation",
    "backbone",
    "roi",
    "text",
)  # settings that name data or a file
UNSURE = (
    "The backbone may have been trained on the examples that p-values are calibrated on: then more than the asked "
    "share of new known examples is called unknown. Extract the features of examples that it has not seen."
)
BESIDE = {  # fields of a minibatch that are data of their own: where the job names them, and how a user does
    "partner": ("partner", "a second domain", "sparring train {model} A B, or --domains for two within one set"),
    "outlier": ("outliers", "outliers", "--outliers DATA"),
}
Seen = TypeVar("Seen", bound=Examples)


def placed(job: Job) -> Job:
    """Settle the paths of a job's data, so that its run finds them from any folder."""
    there = {name: path for name in PATHS if (path := getattr(job, name))}
    if is_learnt(job.text):
        there.pop("text", None)
    return job.model_copy(update={name: settled(path) for name, path in there.items()})


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
    if job.backbone is not None or job.known:
        raise UserError("--backbone and --known are for whole images, and --tile cuts them: leave --tile out.")
    return Grid(job.tile, job.overlap or 0)


def open_own(
    job: Job, side: Callable[[int], int], region: Region | None, encoder: Encoder | None
) -> tuple[Source | Tiled, tuple[str, ...]]:
    """Open a job's data, and tell the classes that an open-set model knows.

    They come as wholes of the side that the model takes, to be seen through tiles, or as features where there is a
    backbone. Unless the known classes are named, they are those that the backbone tells apart.
    """
    grid = grid_of(job)
    options: dict[str, Any] = {
        "split": job.split, "channels": job.channels, "classes": job.known or job.classes or None, "limit": job.limit,
        "strict": job.strict, "region": region,
    }  # fmt: skip
    if grid is not None:
        return open_tiled(job.data, grid, **options), job.known
    options |= {"size": job.size or side, "domain": domain_of(job)} | (encoder.view if encoder else {})
    source, known = open_source(job.data, **options), job.known
    outputs = encoder.outputs if encoder else getattr(source, "outputs", ())
    if outputs and not (known or job.classes or job.normal) and set(outputs) <= set(source.classes):
        known, source = outputs, source.of(outputs)
    return as_features(source, encoder), known


def domain_of(job: Job, second: bool = False) -> Domain | None:
    """One of the two domains that are made of the job's data, to train on."""
    return Domain(job.domains, second, apart=True) if job.domains else None


def open_like(job: Job, data: str, fit: Source, encoder: Encoder | None, **options: Any) -> Source:
    """Open further data as those of `fit` are seen.

    Raises:
        UserError: For data of another shape, or features of another encoder.
    """
    home, split = with_split(data)
    view = (encoder.view if encoder else form(fit)) | options | ({} if split is None else {"split": split})
    found = as_features(open_source(home, strict=job.strict, **view), encoder)
    shape, other = fit.spec().shape, found.spec().shape
    if other != shape and len(other) == len(shape) == 3 and other[1:] == shape[1:]:
        many = {1: "grey images", 3: "colour images"}
        raise UserError(
            f"'{fit.name}' holds {many[shape[0]]} and '{data}' {many[other[0]]}, and one network sees both: add "
            "--channels 3 to see all in three channels, or --channels 1 to see all in grey."
        )
    if other != shape:
        raise UserError(
            f"'{data}' holds examples of shape {other}, and '{fit.name}' of {shape}: give data of the same shape."
        )
    if isinstance(found, Features) and isinstance(fit, Features):
        check_same(fit.encoder, found.encoder, found.name)
    return found


def keeps(game: Game) -> bool:
    """Whether weights are chosen by a validation score in some phase."""
    return any(phase.keep for phase in game.phases())


def to_select(
    job: Job, game: Game, fit: Source, encoder: Encoder | None, others: dict[str, Source], given: Source | None
) -> tuple[Source | None, bool]:
    """The open examples by which weights are chosen, if there are any, and whether they are held out of the outliers.

    They are `given`, or those that the job names; or else a part of the outliers leaves `others`.

    Raises:
        UserError: Where all of them are of known classes or learnt from, the game chooses no weights, or they are of
            another shape or encoder.
    """
    outliers, found = others.get("outlier"), given
    if job.select is not None and not keeps(game):
        raise UserError(f"{job.model} chooses no weights here: leave --select {job.select} out.")
    if found is None and job.open_validation is not None:
        found = without(open_like(job, job.open_validation, fit, encoder), fit.classes)
    if found is not None and not keeps(game):
        raise UserError(f"{job.model} chooses no weights by open examples here: leave '{found.name}' out.")
    if found is not None:
        return found if outliers is None else unlike(found, outliers), False
    if outliers is None or not keeps(game) or job.select is not None or len(outliers) < 2:
        return None, False
    others["outlier"], found = hold_out(outliers, job.seed)
    return found, True


def beside(
    job: Job, game: Game, fit: Source, encoder: Encoder | None = None, given: Mapping[str, Source] | None = None
) -> dict[str, Source]:
    """Open the further data that a job names, of the same shape as its own; `given` stand in their place.

    Raises:
        UserError: For data that the game needs and lacks, or has no use for.
    """
    if job.domains and job.partner:
        raise UserError(f"--domains makes two domains of '{job.data}', and '{job.partner}' is given: leave one out.")
    found = dict(given or {})
    for name, (setting, what, remedy) in BESIDE.items():
        inside = name == "partner" and job.domains is not None
        data, needed = job.data if inside else getattr(job, setting), name in game.needed(game.recipe)
        if data is None and needed and name not in found:
            raise UserError(f"{job.model} needs {what}, and none is given: {remedy.format(model=job.model)}.")
        if (data is not None or name in found) and not (needed or name in game.wants):
            said = f"--domains {job.domains}" if inside else f"'{data or found[name].name}'"
            raise UserError(f"{job.model} has no use for {what}, and {said} is given: leave it out.")
        if data is not None:
            found[name] = open_like(
                job, data, fit, encoder, **(as_partner(job, data, fit) if name == "partner" else {})
            )
        if name == "outlier" and name in found:
            found[name] = without(found[name], fit.classes)
    return found


def as_partner(job: Job, data: str, fit: Source) -> dict[str, Any]:
    """How the second domain is opened: by the split and the limit of the first."""
    options: dict[str, Any] = {"split": split_in(data, job.split), "limit": job.limit}
    if fit.is_image:
        options["channels"] = job.channels
    if job.domains:
        options |= {"domain": domain_of(job, second=True), "classes": job.classes or None}
    return options


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
            f"{model} learns from normal examples only, and '{source.name}' has {len(present)} classes: "
            f"{name_normal(present)}."
        )
    return source.of(chosen) if chosen else source


def name_normal(classes: Collection[str]) -> str:
    """The remedy where none of these classes is known to be normal."""
    one = "good" if "good" in classes else min(classes)
    return f"say which are normal, such as --normal {one}, or --normal all"


def unseen(source: Seen, seed: int) -> tuple[Seen, Seen]:
    """Set examples aside as `hold_out` does, or, of features, those that the encoder was not trained on.

    Of a class of which the encoder saw every example or none, a share is set aside, so that all classes are learnt.
    """
    fresh = source.unseen_now() if isinstance(source, Features) else None
    if fresh is not None and fresh.any() and not fresh.all():
        labels = source.labels if source.labels is not None else np.zeros(len(source), np.int64)
        wholes = [own for k in np.unique(labels) if len(set(fresh[own := np.flatnonzero(labels == k)])) == 1]
        held = fresh.copy()
        for own in wholes:
            held[own] = False
            held[own[drawn(len(own), seed, HELD_OUT, 1)]] = True
        if held.any():
            source = unsure(source) if any(not fresh[own[0]] for own in wholes) else source
            return source.take(~held), source.take(held)
    known = not isinstance(source, Features) or (fresh is not None and fresh.any())
    return hold_out(source if known else unsure(source), seed)


def unsure(source: Seen) -> Seen:
    return replace(source, notes=(*source.notes, UNSURE))


def hold_out(source: Seen, seed: int, share: float = HELD_OUT, of_each: bool = False) -> tuple[Seen, Seen]:
    """Set examples aside to calibrate or to judge by: a share of them, or 20 if that leaves half.

    Args:
        source: All of them.
        seed: Of the draw.
        share: How many.
        of_each: Leave one of each class at least to learn from, where that leaves any to judge by.

    Raises:
        UserError: For fewer than two examples.
    """
    if len(source) < 2:
        raise UserError(
            f"'{source.name}' holds {len(source)} example(s) to learn from, and others are held out to judge by: give "
            "at least 2, better 100."
        )
    aside = np.isin(np.arange(len(source)), drawn(len(source), seed, share, HELD_OUT_LEAST))
    if of_each and source.labels is not None:
        first = np.unique(source.labels[aside], return_index=True)[1]
        lost = [k for k in np.flatnonzero(aside)[first] if aside[source.labels == source.labels[k]].all()]
        if len(lost) < aside.sum():
            aside[lost] = False
    return source.take(~aside), source.take(aside)


def drawn(count: int, seed: int, share: float, least: int) -> np.ndarray:
    """Indices of a share of so many examples, or of `least` if that leaves half."""
    order = np.random.default_rng(np.random.SeedSequence((seed, 0xCA11))).permutation(count)
    return order[: max(round(share * count), min(least, count // 2))]


def some(count: int, seed: int) -> np.ndarray:
    """Indices of up to 10,000 examples, the same on every process."""
    if count <= LOOK:
        return np.arange(count)
    return np.sort(np.random.default_rng((seed, 0x100C)).choice(count, LOOK, replace=False))
