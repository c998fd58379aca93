"""Measure what a classifier or an open-set model recognises, beside detectors on the same features and logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from sparring import pictures
from sparring.closed_set import Head, logits_of
from sparring.data import Source, batches, open_source
from sparring.errors import UserError
from sparring.metrics.conformal import Calibration
from sparring.metrics.novelty import NOVELTY, normalised
from sparring.metrics.odin import odin
from sparring.metrics.recognition import UNKNOWN, recognition
from sparring.preparation import Setup
from sparring.protocol import Classifies
from sparring.report import Unknown
from sparring.run import BATCH, HEAD, Run
from sparring.verdicts import Verdicts

SHOWN, NEAREST = 12, 3  # examples that were called unknown, and the nearest known ones of each

Home: TypeAlias = tuple[Any, "str | None"]  # data and split that examples come from


def numbered(source: Source, known: tuple[str, ...]) -> np.ndarray:
    """The number of each example's class among the known ones, -1 for others, (N,)."""
    assert source.labels is not None
    numbers = np.array([known.index(name) if name in known else UNKNOWN for name in source.classes])
    return numbers[source.labels]


def recognised(
    run: Run, setup: Setup, source: Source, verdicts: Verdicts, home: Home, baselines: bool = False
) -> dict[str, Any] | None:
    """Judge the names and the verdicts of an open-set model; None where the data do not hold known and unknown.

    Returns:
        See `metrics.recognition`; with `baselines`, the same under the names of the detectors on features and logits,
        each fitted and calibrated on the examples that the model was fitted and calibrated on.
    """
    known = run.recognised
    if verdicts.predicted is None or source.labels is None:
        return None
    label = numbered(source, known)
    if not (label == UNKNOWN).any() or (label == UNKNOWN).all():
        return None
    predicted = np.array([known.index(name) for name in verdicts.predicted])
    found: dict[str, Any] = recognition(verdicts.score, label, predicted, verdicts.flagged)
    if baselines:
        found["baselines"] = posthoc(run, setup, source, label, predicted, verdicts.false_alarms, home)
    return found


def posthoc(
    run: Run, setup: Setup, source: Source, label: np.ndarray, predicted: np.ndarray, false_alarms: float, home: Home
) -> dict[str, dict[str, float]]:
    """Judge the detectors of `metrics.novelty` in the place of the model."""
    head = Head.load(run.folder / HEAD)
    assert isinstance(setup.held, Source)
    (x, logits), (held, held_logits), (new, new_logits) = (
        (part.read(slice(None)), logits_of(part, run.recognised, head)) for part in (setup.fit, setup.held, source)
    )
    if setup.fit.labels is None or logits is None or held_logits is None or new_logits is None:
        raise UserError(f"'{setup.fit.name}' has no labels or no logits to fit baselines to: leave --baselines out.")
    scores: dict[str, Sequence[np.ndarray]] = {}
    for name, make in NOVELTY.items():
        detector = make(x, logits, setup.fit.labels)
        scores[name] = [detector.score(new, new_logits), detector.score(held, held_logits)]
    if by := by_odin(run, [(source, home), (setup.held, (run.job.data, run.job.split))]):
        scores["ODIN"] = by
    return {
        name: recognition(score, label, predicted, Calibration(calibration).strange(score, false_alarms))
        for name, (score, calibration) in scores.items()
    }


@torch.no_grad()
def accuracy(run: Run, source: Source) -> dict[str, Any] | None:
    """The share of a classifier's right answers on its own classes; None without labels."""
    game = run.game
    assert isinstance(game, Classifies)
    if source.labels is None or not set(run.spec.classes) & set(source.classes):
        return None
    own = source.of([name for name in source.classes if name in run.spec.classes])
    right = [game.classify(x).argmax(1).numpy() for x in batches(own, BATCH)]
    label = numbered(own, run.spec.classes)
    return {"value": float((np.concatenate(right) == label).mean()), "of": len(own)}


def unknowns(run: Run, setup: Setup, source: Source, verdicts: Verdicts, home: Home) -> list[Unknown]:
    """Examples that were called unknown, the strangest first, each with the nearest known ones.

    Near is what has similar features, divided by their norm; images are near by their pixels.
    """
    order = np.argsort(-verdicts.score, kind="stable")
    chosen = order[verdicts.flagged[order]][:SHOWN]
    if not len(chosen) or verdicts.predicted is None:
        return []
    fit = setup.fit
    rows, others = (normalised(flat(part)) for part in (fit.read(slice(None)), source.read(chosen)))
    search = NearestNeighbors(n_neighbors=min(NEAREST, len(fit)), algorithm="brute").fit(rows)
    near = search.kneighbors(others, return_distance=False)
    own = thumbnails(run, source.take(chosen), home)
    theirs = thumbnails(run, fit.take(near.ravel()), (run.job.data, run.job.split))
    found = []
    for place, (k, neighbours) in enumerate(zip(chosen.tolist(), near.tolist(), strict=True)):
        names = [fit.names[n] for n in neighbours]
        kinds = ["" if fit.labels is None else fit.classes[fit.labels[n]] for n in neighbours]
        images = theirs[place * len(names) : (place + 1) * len(names)]
        kind = verdicts.kinds[k] if verdicts.kinds else ""
        nearest = list(zip(names, kinds, images, strict=True))
        p_value = float(verdicts.p_value[k])
        found.append(Unknown(source.names[k], kind, verdicts.predicted[k], p_value, own[place], nearest))
    return found


def flat(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(len(rows), -1).astype(np.float32)


def images_of(run: Run, source: Source, home: Home) -> Source | None:
    """The images behind these features, found by their names where they come from; None where there are none."""
    view: dict[str, Any] = {"size": run.spec.shape[-1]} if run.spec.is_image else {}
    view = run.encoder.view if run.encoder else view
    data, split = home
    found = open_source(data, split=split, **view)
    where = {name: k for k, name in enumerate(found.names)}
    if not found.is_image or not all(name in where for name in source.names):
        return None
    return found.take([where[name] for name in source.names])


def thumbnails(run: Run, source: Source, home: Home) -> list[Image.Image | None]:
    images = images_of(run, source, home)
    if images is None:
        return [None] * len(source)
    return [pictures.as_picture(image) for image in images.read(slice(None))]


def by_odin(run: Run, parts: Sequence[tuple[Source, Home]]) -> list[np.ndarray] | None:
    """ODIN's scores of several sources; None where the backbone gives no logits of exactly the known classes."""
    encoder = run.encoder
    if encoder is None or encoder.outputs != run.recognised:
        return None
    images = [images_of(run, source, home) for source, home in parts]
    if any(image is None for image in images):
        return None

    def logits(x: Tensor) -> Tensor:
        found = encoder.network(x)[1]
        assert found is not None
        return found

    return [np.concatenate([odin(logits, x).numpy() for x in batches(part, BATCH)]) for part in images if part]
