"""Measure a generator: how far what it makes is from real data that it never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparring.data import Source, parse_split
from sparring.errors import UserError
from sparring.faithfulness import ask as asked_of
from sparring.faithfulness import faithfulness
from sparring.faithfulness import rows as rows_of_texts
from sparring.features import BATCH, Described, Extractor, Tell, choose
from sparring.memorisation import COUNT, memorisation
from sparring.metrics import classes, coverage, distances, modes, neighbours
from sparring.metrics.baselines import rows
from sparring.metrics.parzen import parzen
from sparring.opening import hold_out
from sparring.pictures import as_uint8
from sparring.protocol import Generates
from sparring.randomness import seeded
from sparring.report.reading import SAMPLES as COMPARED
from sparring.report.reading import collapse, left_out
from sparring.run import Run

SAMPLES = 10_000
SEED = 1  # of what is made to be measured
VALIDATION = 1000
PARZEN_NUMBERS = 3072  # in an image at most: the density says nothing of larger ones, and takes all in memory


@dataclass(frozen=True)
class Measure:
    """A row of the result.

    Attributes:
        heading: For the report.
        note: What it means and which way is better.
    """

    heading: str
    note: str


MEASURES = {
    "frechet_distance": Measure("Fréchet distance", "between Gaussians around both; 0 is best (FID on Inception)"),
    "kernel_distance": Measure("Kernel distance", "unbiased squared discrepancy; 0 is best (KID on Inception)"),
    "precision": Measure("Precision", "share of made images that lie among real ones; 1 is best"),
    "recall": Measure("Recall", "share of real images that lie among made ones; 1 is best"),
    "density": Measure("Density", "how crowded the places of real images are; about 1 is best, more is less varied"),
    "coverage": Measure("Coverage", "share of the places of real images that are reached; 1 is best"),
    "two_sample_accuracy": Measure(
        "Told from real", "by the nearest neighbour; 0.5 is best, 1 is told apart, below 0.5 hints at copies"
    ),
    "inception_score": Measure("Class score", "sure and varied classes; higher is better (IS on Inception)"),
    "modes": Measure("Classes reached", "by the extractor, and how far their shares are from the data's"),
    "class_accuracy": Measure("Class accuracy", "share of made images taken for the class asked for; 1 is best"),
    "transfer_accuracy": Measure(
        "Transfer accuracy", "real images classified by the nearest made one, asked for by class; 1 is best"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """What a generator made: described, with the classes asked for, the numbers of small images, the first images."""

    described: Described
    label: np.ndarray | None
    pixels: np.ndarray | None
    first: np.ndarray | None = None


def generation(
    run: Run, source: Source, evidence: dict[str, Any], samples: int = SAMPLES, features: str = "default",
    tell: Tell = lambda sentence: None, leaky: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Measure a generator against a source that it was not trained on.

    Args:
        source: Real examples; those of the run's classes are used, and at most as many as are made.
        evidence: Of the report; takes "generation" and more "notes".
        samples: How many to make.
        features: See `sparring.features.choose`.
        tell: Is told what takes long.
        leaky: Give the distances to all that the run learnt from, too, as most published ones are.

    Returns:
        distances: the extractor, how many were compared, every measure, and what as many training examples
        reach by the same measures, the best that can be expected; where asked for, the leaky distances. parzen: the
        log-likelihood of 2014. memorisation: whether what is made lies closer to training images than unseen real
        ones do.
    """
    if samples < 2:
        raise UserError(f"--samples is how many to make and measure, and must be 2 or more; got {samples}.")
    training, learnt = seen(run)
    extractor = choose(features, training, tell)
    real = of_run(run, source).limited(samples)
    made = make(run, extractor, samples, learnt, real)
    truth = extractor.describe(real)
    sample = learnt.limited(samples)
    reference = Made(extractor.describe(sample), None if made.label is None else sample.labels, None)
    measures, best = (
        compare(truth, some.described, notes) | by_class(extractor, real, truth, some, learnt)
        for some, notes in ((made, evidence["notes"]), (reference, []))
    )
    found: dict[str, Any] = {
        "distances": {
            "features": extractor.name, "hash": extractor.hash, "real": len(real), "made": samples,
            "accuracy": accuracy(extractor, real, truth), "measures": measures, "training": best,
        }
    }  # fmt: skip
    if leaky:
        found["distances"]["leaky"] = by_training(extractor, learnt, made, evidence["notes"])
    evidence["generation"] = table(measures, best)
    notes = [*evidence["notes"], left_out(measures, best), said(found["distances"])]
    evidence["notes"][:] = dict.fromkeys(filter(None, notes))
    if made.first is not None:
        evidence["notes"] += filter(None, [collapse(made.first[:COMPARED] / 255, rows(real.read(slice(COMPARED))))])
        found["memorisation"], evidence["nearest"] = memorisation(
            made.first, made.described, real, truth, learnt, sample, extractor
        )
    if run.game.captioned:
        found["texts"] = faithfulness(run, learnt, real, extractor, samples, tell)
        evidence["generation"] |= rows_of_texts(found["texts"])
    if made.pixels is not None:
        found["parzen"], where = likelihood(run, made.pixels, learnt, real)
        note = f"nats, from {samples:,} samples; window {found['parzen']['sigma']:.3g}, chosen on {where}"
        evidence["generation"]["Parzen log-likelihood"] = {**found["parzen"], "note": note}
    return found


def seen(run: Run) -> tuple[Source, Source]:
    """The run's split of its data with all its classes, and of that what it learnt from."""
    job = run.job
    learnt = whole = run.open(job.data, job.split)
    if job.classes or job.limit is not None:
        learnt = run.open(job.data, job.split, classes=job.classes or None, limit=job.limit)
    if job.judge_every:  # by what was held out
        learnt, _ = hold_out(learnt, job.seed, of_each=True)
    return whole, of_run(run, learnt)


def of_run(run: Run, source: Source) -> Source:
    """The examples of the classes that the run learnt, where it learnt some of these only."""
    shared = [name for name in source.classes if name in run.spec.classes]
    return source.of(shared) if shared and len(shared) < len(source.classes) else source


@torch.no_grad()
def make(run: Run, extractor: Extractor, samples: int, learnt: Source, real: Source) -> Made:
    """Make examples, describe them as they come, and keep little else.

    Classes are asked for as often as the data have them, and captions are those of the real examples.
    """
    game = run.game
    assert isinstance(game, Generates)
    ask = None
    if game.conditional:
        assert learnt.labels is not None
        ask = np.random.default_rng(SEED).choice(learnt.labels, samples)
    captions = asked_of(run, real, samples).embeddings if game.captioned else None
    keep: np.ndarray | None = None
    if run.spec.is_image and run.spec.size <= PARZEN_NUMBERS:
        keep = np.empty((samples, run.spec.size), np.float32)
    first: list[np.ndarray] = []

    def parts() -> Any:
        for k in range(0, samples, BATCH):
            n = min(BATCH, samples - k)
            given = {} if ask is None else {"label": torch.from_numpy(ask[k : k + n])}
            given |= {} if captions is None else {"caption": captions[k : k + n]}
            x = game.generate(n, **given)
            if keep is not None:
                keep[k : k + n] = (x.flatten(1) + 1) / 2
            x = as_saved(x) if run.spec.is_image else x
            if run.spec.is_image and k < COUNT:
                first.append(as_uint8(x))
            yield x

    with seeded(SEED):
        described = extractor(parts())
    return Made(described, ask, keep, np.concatenate(first)[:COUNT] if first else None)


def as_saved(x: Tensor) -> Tensor:
    """Images in [-1, 1] rounded to the 256 values that real ones have."""
    return ((x + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def by_training(extractor: Extractor, learnt: Source, made: Made, notes: list[str]) -> dict[str, Any]:
    """Distances to all examples that a run learnt from, by which copies of them would do best."""
    measures = compare(extractor.describe(learnt), made.described, notes, apart_only=True)
    told = [f"{MEASURES[name].heading} {found['value']:.4g}" for name, found in measures.items() if found]
    notes.append(
        f"Against the {len(learnt):,} examples that the run learnt from, as most published distances are (leaky: "
        f"copies of them would do best): {', '.join(told) or 'too few for any'}."
    )
    return {"real": len(learnt), **measures}


NEIGHBOURLY = ("precision", "recall", "density", "coverage", "two_sample_accuracy")


def compare(real: Described, made: Described, notes: list[str], apart_only: bool = False) -> dict[str, Any]:
    """Every measure of features alone, or the two distances; one that takes more examples is None, as a note says."""
    x, y = real.features.astype(np.float64), made.features.astype(np.float64)
    found: dict[str, Any] = dict.fromkeys(("frechet_distance", "kernel_distance"))

    def attempt(measure: Callable[[], dict[str, Any]]) -> None:
        try:
            found.update(measure())
        except UserError as error:
            notes.append(str(error))

    attempt(lambda: {"frechet_distance": {"value": distances.frechet_distance(x, y)}})
    attempt(lambda: {"kernel_distance": distances.kernel_distance(x, y)})
    if apart_only:
        return found
    found |= dict.fromkeys(NEIGHBOURLY)
    attempt(lambda: valued(coverage.precision_recall(x, y)))
    attempt(lambda: valued(coverage.density_coverage(x, y)))
    attempt(lambda: {"two_sample_accuracy": neighbours.two_sample_accuracy(x, y)})
    if made.probabilities is not None:
        attempt(lambda: {"inception_score": classes.inception_score(made.probabilities)})
    return found


def valued(found: dict[str, float]) -> dict[str, dict[str, float]]:
    return {name: {"value": value} for name, value in found.items()}


def by_class(extractor: Extractor, real: Source, truth: Described, made: Made, learnt: Source) -> dict[str, Any]:
    """The measures that classes allow: which are reached, and whether those asked for are made."""
    found: dict[str, Any] = {}
    if made.label is not None and real.labels is not None:
        asked, true = np.array(learnt.classes)[made.label], np.array(real.classes)[real.labels]
        of = neighbours.transfer_accuracy(made.described.features, asked, truth.features, true)
        found["transfer_accuracy"] = {"value": of}
    onto = renamed(learnt, extractor)
    if onto is None or learnt.labels is None or made.described.probabilities is None:
        return found
    answers = made.described.probabilities.argmax(1)
    found["modes"] = modes.mode_coverage(answers, np.bincount(onto[learnt.labels], minlength=len(extractor.classes)))
    found["modes"]["kl"] = found["modes"]["kl"] if np.isfinite(found["modes"]["kl"]) else None
    if made.label is not None:
        found["class_accuracy"] = {"value": float((answers == onto[made.label]).mean())}
    return found


def renamed(source: Source, extractor: Extractor) -> np.ndarray | None:
    """The extractor's number of each class of a source, by name; None where it does not know them all."""
    if not source.classes or not set(source.classes) <= set(extractor.classes):
        return None
    return np.array([extractor.classes.index(name) for name in source.classes])


def accuracy(extractor: Extractor, real: Source, truth: Described) -> float | None:
    """How often the extractor is right about real examples, which it never saw."""
    own = renamed(real, extractor)
    if own is None or real.labels is None or truth.probabilities is None:
        return None
    return float((truth.probabilities.argmax(1) == own[real.labels]).mean())


def likelihood(run: Run, samples: np.ndarray, learnt: Source, real: Source) -> tuple[dict[str, Any], str]:
    """The Parzen-window log-likelihood of 2014, on values in [0, 1], and what the width was chosen on.

    That are 1,000 examples that a training on a slice, such as "train[:50000]", left out, or else training
    examples: never the split that is judged.
    """
    whole, part = parse_split(run.job.split)
    everything = run.open(run.job.data, whole)
    numbers = np.arange(len(everything))
    unseen = np.setdiff1d(numbers, numbers[part or slice(None)])
    held = of_run(run, everything.take(unseen)) if len(unseen) else learnt
    found = parzen(samples, rows(held.read(slice(VALIDATION))), rows(real.read(slice(None))))
    return found, "images left out of the training" if len(unseen) else "training images"


def table(measures: dict[str, Any], best: dict[str, Any]) -> dict[str, Any]:
    """What the report shows of the measures."""
    shown: dict[str, Any] = {}
    for name, found in measures.items():
        if found is not None:
            measure = MEASURES[name]
            other = best.get(name) or {}
            note = measure.note
            if name == "modes":
                note += "" if found["kl"] is None else f" (KL {found['kl']:.3g} nats)"
                found = {"value": f"{found['value']:,} of {found['of']:,}"}
                other = {"value": f"{other['value']:,} of {other['of']:,}"} if other else {}
            shown[measure.heading] = {**found, "reference": other.get("value"), "note": note}
    return shown


def said(found: dict[str, Any]) -> str:
    """What the distances stand on, in a sentence."""
    right = "" if found["accuracy"] is None else f" It is right about {found['accuracy']:.2%} of the real images."
    return (
        f"Distances compare {found['made']:,} made with {found['real']:,} real examples by their features: "
        f"{found['features']} (hash {found['hash']}). Numbers by other features or of other counts cannot be compared "
        f"with them.{right}"
    )
