"""Measure what a classifier or an open-set model recognises, beside detectors on the same features and logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from sparring import pictures
from sparring.closed_set import Head, logits_of
from sparring.data import Source, batches, open_source
from sparring.errors import UserError
from sparring.metrics.conformal import Calibration
from sparring.metrics.novelty import NOVELTY, normalised
from sparring.metrics.recognition import UNKNOWN, recognition
from sparring.preparation import set_up
from sparring.protocol import Classifies
from sparring.report import Unknown
from sparring.run import BATCH, HEAD, Run, Verdicts

SHOWN, NEAREST = 12, 3  # examples that were called unknown, and the nearest known ones of each

Look = Callable[[str], "Image.Image | None"]  # the name of an example to its image


def numbered(source: Source, known: tuple[str, ...]) -> np.ndarray:
    """The number of each example's class among the known ones, -1 for others, (N,)."""
    assert source.labels is not None
    numbers = np.array([known.index(name) if name in known else UNKNOWN for name in source.classes])
    return numbers[source.labels]


def recognised(run: Run, source: Source, verdicts: Verdicts, baselines: bool = False) -> dict[str, Any] | None:
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
        found["baselines"] = posthoc(run, source, label, predicted, verdicts.false_alarms)
    return found


def posthoc(
    run: Run, source: Source, label: np.ndarray, predicted: np.ndarray, false_alarms: float
) -> dict[str, dict[str, float]]:
    """Judge the detectors of `metrics.novelty` in the place of the model."""
    setup = set_up(run.job)
    head = Head.load(run.folder / HEAD)
    assert setup.held is not None
    (x, logits), (held, held_logits), (new, new_logits) = (
        (part.read(slice(None)), logits_of(part, run.recognised, head)) for part in (setup.fit, setup.held, source)
    )
    if setup.fit.labels is None or logits is None or held_logits is None or new_logits is None:
        raise UserError(f"'{setup.fit.name}' has no labels or no logits to fit baselines to: leave --baselines out.")
    found = {}
    for name, make in NOVELTY.items():
        detector = make(x, logits, setup.fit.labels)
        score = detector.score(new, new_logits)
        rejected = Calibration(detector.score(held, held_logits)).strange(score, false_alarms)
        found[name] = recognition(score, label, predicted, rejected)
    return found


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


def unknowns(run: Run, source: Source, verdicts: Verdicts, seen: Look) -> list[Unknown]:
    """Examples that were called unknown, the strangest first, each with the nearest known ones.

    Near is what has similar features, divided by their norm; images are near by their pixels.
    """
    order = np.argsort(-verdicts.score, kind="stable")
    chosen = order[verdicts.flagged[order]][:SHOWN]
    if not len(chosen) or verdicts.predicted is None:
        return []
    fit = set_up(run.job).fit
    rows = [normalised(part.reshape(len(part), -1).astype(np.float32)) for part in (fit.read(slice(None)),
            source.read(chosen))]  # fmt: skip
    search = NearestNeighbors(n_neighbors=min(NEAREST, len(fit)), algorithm="brute").fit(rows[0])
    near = search.kneighbors(rows[1], return_distance=False)
    at_home = looking(run, None, run.job.split)
    found = []
    for k, neighbours in zip(chosen.tolist(), near.tolist(), strict=True):
        names = [fit.names[n] for n in neighbours]
        kinds = ["" if fit.labels is None else fit.classes[fit.labels[n]] for n in neighbours]
        found.append(
            Unknown(
                source.names[k], verdicts.kinds[k] if verdicts.kinds else "", verdicts.predicted[k],
                float(verdicts.p_value[k]), seen(source.names[k]),
                [(name, kind, at_home(name)) for name, kind in zip(names, kinds, strict=True)],
            )
        )  # fmt: skip
    return found


def looking(run: Run, data: Any, split: str | None) -> Look:
    """What finds the image of an example by its name; None for each where the data hold vectors."""
    view = run.encoder.view if run.encoder else {"size": run.spec.shape[-1]} if run.spec.is_image else {}
    source = open_source(run.job.data if data is None else data, split=split, **view)
    if not source.is_image:
        return lambda name: None
    where = {name: k for k, name in enumerate(source.names)}

    def look(name: str) -> Image.Image | None:
        return pictures.as_picture(source.read([where[name]])[0]) if name in where else None

    return look
