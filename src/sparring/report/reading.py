"""What a journal says about how a training went, in sentences, with what to try; thresholds stand in the text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import median_filter
from scipy.spatial.distance import cdist

Series = NDArray[np.float64]

LEAST = 20  # lines of a journal below which nothing is said
NEAR = 0.02  # share of the cost of guessing
NOTHING = 0.05  # loss of a discriminator that is hardly ever wrong
GROWTH = 1.5
FADED = 0.02  # share of a gradient's norm at the beginning
ALIKE = 0.25  # share of the real images' distances
WINDOW = 101  # rounds; that of the curves of Wasserstein GAN, arXiv:1701.07875
SAMPLES = 256  # images compared
REACHED = 0.25  # share of what training examples reach

LOG2 = math.log(2)
GUESSING: tuple[dict[str, float], ...] = (  # what every term costs where the discriminator answers a constant
    {"discriminator/real": LOG2, "discriminator/fake": LOG2, "generator/fooled": LOG2},
    {"discriminator/real": LOG2 / 2, "discriminator/fake": LOG2 / 2, "generator/fooled": LOG2},
    {"discriminator/real": LOG2 / 2, "discriminator/fake": LOG2 / 2, "generator/fooled": -LOG2},  # saturating
    dict.fromkeys(("discriminator/real", "discriminator/fake", "generator/encoded", "generator/fooled"), LOG2 / 2),
    {"discriminator/relativistic": LOG2, "generator/relativistic": LOG2},
    {"discriminator/real": 1.0, "discriminator/fake": 1.0, "generator/fooled": 0.0},  # hinge
    {"discriminator/real": 0.125, "discriminator/fake": 0.125, "generator/fooled": 0.125},  # least squares, 0 and 1
    {"discriminator/real": 0.5, "discriminator/fake": 0.5, "generator/fooled": 0.0},  # least squares, -1 and 1
)


@dataclass(frozen=True)
class Estimate:
    """A critic's estimate of the Wasserstein distance over the training.

    Attributes:
        rounds: (N,) rounds at which lines were noted.
        raw: (N,) mean estimates since the line before.
        median: (N,) their running median.
        window: Lines in the median's window; 1 where a line already stands for so many rounds.
    """

    rounds: Series
    raw: Series
    median: Series
    window: int


def readings(journal: list[dict[str, Any]]) -> list[str]:
    """Say what looks wrong in the last phase of a training; empty where nothing does, or there are too few lines.

    Args:
        journal: Lines of journal.jsonl: "phase", "round", means of the loss terms under "player/term", and
            "gradient_norm" by player.
    """
    lines = list({line["round"]: line for line in journal if line["phase"] == journal[-1]["phase"]}.values())
    if len(lines) < LEAST:
        return []
    return [said for said in (guessing(lines) or vanishing(lines), outclassed(lines)) if said]


def guessing(lines: list[dict[str, Any]]) -> str:
    """Say so where the discriminator ends no better than a constant answer."""
    quarter = lines[-(len(lines) // 4) :]
    for costs in GUESSING:
        off = NEAR * max(costs.values())
        found = {term: _series(quarter, term) for term in costs}
        if all(len(x) and (np.abs(x - costs[term]) <= off).all() for term, x in found.items()):
            means = ", ".join(f"{term} {x.mean():.3f}" for term, x in found.items())
            return (
                "The discriminator ended no better than guessing: in the last quarter of the training every loss "
                f"stayed within {NEAR:.0%} of what a constant answer costs ({means}). Either the generator has matched "
                "the data or the discriminator learns nothing; the images tell which. If they are poor, try a higher "
                "learning rate or more width for the discriminator, more of its steps a round, or less dropout and "
                "weight decay."
            )
    return ""


def outclassed(lines: list[dict[str, Any]]) -> str:
    """Say so where the discriminator is hardly ever wrong while the generator's loss grows."""
    terms = ("discriminator/real", "discriminator/fake", "discriminator/relativistic")
    ends = [_series(lines, term) for term in terms]
    fooled = [x for x in (_series(lines, f"generator/{term}") for term in ("fooled", "relativistic")) if len(x)]
    quarter = len(lines) // 4
    loss = sum(float(x[-quarter:].mean()) for x in ends if len(x))
    if not any(map(len, ends)) or not fooled or loss > NOTHING:
        return ""
    before, after = fooled[0][quarter : 2 * quarter].mean(), fooled[0][-quarter:].mean()
    if not 0 < GROWTH * before < after:
        return ""
    return (
        f"The discriminator outclasses the generator: in the last quarter of the training its loss was {loss:.3f}, "
        f"below {NOTHING:g}, and the generator's had grown from {before:.2f} in the second quarter to {after:.2f}, "
        f"more than {GROWTH:g} times. The generator hardly learns from such an opponent. Try a lower learning rate or "
        "less width for the discriminator, a loss with a gradient penalty (wgan_gp, r3gan), or, where images are few, "
        "--set augment=color,translation,cutout on models that have it."
    )


def vanishing(lines: list[dict[str, Any]]) -> str:
    """Say so where hardly anything is left of the generator's gradient; one that guesses gives none either."""
    norms = _series([line.get("gradient_norm", {}) for line in lines], "generator")
    if len(norms) < LEAST:
        return ""
    quarter = len(norms) // 4
    before, after = float(np.median(norms[:quarter])), float(np.median(norms[-quarter:]))
    if not after < FADED * before:
        return ""
    return (
        f"The generator's gradient has vanished: its norm was {after:.2g} in the last quarter of the training, in the "
        f"median, {after / before:.1%} of the {before:.2g} in the first; below {FADED:.0%} next to nothing is learnt. "
        "Try a loss whose gradient lasts however sure the opponent is (wgan_gp, r3gan; for gan --set saturating=false),"
        " or fewer steps, less width or a lower learning rate for the discriminator."
    )


def collapse(made: ArrayLike, real: ArrayLike) -> str:
    """Say so where made examples resemble each other far more than real ones do; empty where they do not.

    The measure is the distance to the nearest other example (Euclidean, on pixels), in the median over as many
    made as real examples, at most 256 of each: copies of a few images lie close together however far apart these
    few are. A generator that makes many blurred images passes.

    Args:
        made: (N, ...) generated examples.
        real: (M, ...) examples of the data, on the same scale.
    """
    count = min(len(np.asarray(made)), len(np.asarray(real)), SAMPLES)
    if count < LEAST:
        return ""
    own, there = nearest(np.asarray(made)[:count]), nearest(np.asarray(real)[:count])
    if not own < ALIKE * there:
        return ""
    return (
        f"The generator makes much the same again and again (mode collapse): among {count} generated images the "
        f"nearest other one lies {own / there:.0%} as far away as among {count} real images, in the median; below "
        f"{ALIKE:.0%} is too near. Try a loss that punishes this less abruptly (wgan_gp, r3gan), a lower learning rate "
        "for the generator, a larger batch, or stop earlier: the sample grids show when it began."
    )


def left_out(made: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """Say so where what is made reaches few of the places of real examples; empty where it reaches enough.

    Args:
        made: Measures of what is made, with "coverage" and "precision" where they were measured.
        training: The same of training examples.
    """
    if not (made.get("coverage") and made.get("precision") and training.get("coverage")):
        return ""
    reached, could = made["coverage"]["value"], training["coverage"]["value"]
    if not reached < REACHED * could:
        return ""
    return (
        f"Most of the data is never made: samples reach {reached:.1%} of the places of real examples, where training "
        f"examples reach {could:.1%} (coverage); below {REACHED:.0%} of that is too few. Of the samples, "
        f"{made['precision']['value']:.1%} lie among real examples (precision). If these are many, the generator makes "
        "a few kinds again and again (mode collapse): try a loss that punishes this less abruptly (wgan_gp, r3gan), or "
        "a larger batch. If they are few, it is not near the data, or runs from one kind to the next: try the same, or "
        "train longer."
    )


def nearest(x: ArrayLike) -> float:
    """Median distance of an example to the nearest other one."""
    rows = np.asarray(x, dtype=np.float64).reshape(len(np.asarray(x)), -1)
    distance = cdist(rows, rows)
    np.fill_diagonal(distance, np.inf)
    return float(np.median(distance.min(1)))


def wasserstein(journal: list[dict[str, Any]]) -> Estimate | None:
    """A critic's estimate, the mean over real minus that over made examples, with a running median of 101 rounds.

    None where there is no critic. The estimate of a critic whose weights are clipped is that of an unknown multiple.
    """
    lines = {line["round"]: line for line in journal if {"critic/real", "critic/fake"} <= line.keys()}
    if not lines:
        return None
    rounds = np.asarray(sorted(lines), dtype=np.float64)
    raw = np.asarray([-lines[int(k)]["critic/real"] - lines[int(k)]["critic/fake"] for k in rounds], dtype=np.float64)
    apart = float(np.median(np.diff(rounds))) if len(rounds) > 1 else 1.0
    window = int(WINDOW / max(1.0, apart)) // 2 * 2 + 1
    return Estimate(rounds, raw, median_filter(raw, window, mode="nearest"), window)


def _series(lines: list[dict[str, Any]], key: str) -> Series:
    values = [line[key] for line in lines if isinstance(line.get(key), (int, float))]
    return np.asarray(values, dtype=np.float64)
