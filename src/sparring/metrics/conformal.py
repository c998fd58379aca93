"""Split conformal calibration: from a raw score to a verdict with a promised rate of false alarms.

A score means little by itself. Held against the scores of normal examples that the model never trained
on, it becomes a p-value: the share of normal examples that look at least as strange. If a new example is
normal too, it is exchangeable with those, so P(p <= a) <= a, whatever the model and the distribution.

Reference: Algorithmic Learning in a Random World (Vovk, Gammerman, Shafer, 2005), section 2.2;
Testing for Outliers with Conformal p-values (Bates, Candes, Lei, Romano, Sesia, 2023), arXiv:2104.08279.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparring.errors import UserError
from sparring.files import whole


def check_rate(false_alarms: float) -> float:
    """Return the rate of false alarms, or raise a UserError unless it lies strictly between 0 and 1."""
    if not 0 < false_alarms < 1:
        raise UserError(f"The rate of false alarms must lie between 0 and 1, such as 0.05; got {false_alarms!r}.")
    return float(false_alarms)


def allowed(n: int, false_alarms: float) -> int:
    """The largest k with k / (n + 1) <= false_alarms: so many of n + 1 exchangeable examples may alarm."""
    k = math.floor(check_rate(false_alarms) * (n + 1))
    # The product rounds otherwise than the quotient that decides in p_value, by one step at the boundary.
    while (k + 1) / (n + 1) <= false_alarms:
        k += 1
    while k / (n + 1) > false_alarms:
        k -= 1
    return k


class Calibration:
    """Judge scores by those of held-out normal examples.

    Args:
        scores: Scores (n,) of normal examples that took no part in training; higher is stranger.

    Attributes:
        scores: The same as float64, in rising order.

    Raises:
        UserError: When there are no scores, or one of them is NaN or infinite.

    >>> calibration = Calibration([0.1, 0.2, 0.3, 0.4])
    >>> calibration.p_value([0.0, 0.25, 9.0]).tolist()
    [1.0, 0.6, 0.2]
    >>> calibration.strange([0.0, 0.25, 9.0], false_alarms=0.2).tolist()
    [False, False, True]
    """

    def __init__(self, scores: ArrayLike) -> None:
        self.scores: NDArray[np.float64] = np.sort(np.asarray(scores, dtype=np.float64).ravel())
        if not len(self.scores):
            raise UserError("There are no scores to calibrate on: hold at least one normal example aside.")
        if not np.isfinite(self.scores).all():
            bad = int((~np.isfinite(self.scores)).sum())
            raise UserError(
                f"{bad:,} of {len(self):,} calibration scores are NaN or infinite: the model is broken; train it again."
            )

    def __len__(self) -> int:
        return len(self.scores)

    def p_value(self, score: ArrayLike) -> NDArray[np.float64]:
        """The share of normal examples at least as strange, (1 + #{calibration >= score}) / (n + 1).

        Args:
            score: Any shape; infinite scores count as strangest or least strange.

        Returns:
            Float64 of the same shape, in [1 / (n + 1), 1].

        Raises:
            UserError: When a score is NaN.
        """
        score = np.asarray(score, dtype=np.float64)
        if np.isnan(score).any():
            raise UserError(f"{int(np.isnan(score).sum()):,} scores are NaN: such examples cannot be judged.")
        at_least = len(self) - np.searchsorted(self.scores, score, side="left")
        return np.asarray((1 + at_least) / (len(self) + 1))

    def threshold(self, false_alarms: float) -> float:
        """The number t such that score > t exactly where p <= false_alarms; infinite where no score can alarm."""
        rank = allowed(len(self), false_alarms)
        return float(self.scores[-rank]) if rank else math.inf

    def strange(self, score: ArrayLike, false_alarms: float) -> NDArray[np.bool_]:
        """The verdict: p <= false_alarms. Of normal examples, at most this share is called strange."""
        return np.asarray(self.p_value(score) <= check_rate(false_alarms))

    @staticmethod
    def smallest(false_alarms: float) -> int:
        """How many calibration examples it takes before any score can alarm at this rate: 1 / rate - 1 or more."""
        n = max(1, math.ceil(1 / check_rate(false_alarms)) - 2)
        while not allowed(n, false_alarms):
            n += 1
        return n

    def warning(self, false_alarms: float) -> str | None:
        """One sentence where there are too few calibration examples to ever alarm at this rate, else None."""
        return too_few(len(self), false_alarms)

    def save(self, path: str | Path) -> None:
        """Write the scores as a NumPy array file, whole or not at all."""
        with whole(Path(path)) as file:
            np.save(file, self.scores, allow_pickle=False)

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            UserError: When the file is missing, cut short or not an array of numbers.
        """
        try:
            scores: Any = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"Cannot read the calibration scores in '{path}' ({error}): go on with --resume, or set them by normal "
                "examples with sparring calibrate."
            ) from None
        if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f" or scores.ndim != 1:
            raise UserError(f"'{path}' holds no list of numbers: set the scores anew with sparring calibrate.")
        return cls(scores)


def too_few(n: int, false_alarms: float) -> str | None:
    """One sentence where n calibration examples are too few to ever alarm at this rate, else None."""
    needed = Calibration.smallest(false_alarms)
    if n >= needed:
        return None
    return (
        f"No example can be called strange at a false-alarm rate of {false_alarms:g}: that takes {needed:,} normal "
        f"examples for calibration and there are {n:,}; hold more aside or allow at least {1 / (n + 1):.2g}."
    )


def by_halves(score: ArrayLike, normal: ArrayLike, seed: int = 0) -> NDArray[np.float64]:
    """The p-values (N,) of examples of which some are known to be normal, where no others are there to calibrate on.

    Examples are dealt into two halves at random, of normal and of other ones alike; each is judged by the normal ones
    of the other half, and never by itself.

    Args:
        score: (N,), higher is stranger.
        normal: (N,), true for what calibrates, two at least.
        seed: Of the halves.
    """
    score, normal = np.asarray(score, np.float64), np.asarray(normal, bool)
    order = np.random.default_rng((seed, 0x4A1F)).permutation(len(score))
    first = np.zeros(len(score), bool)
    for kind in (normal, ~normal):
        first[order[kind[order]][::2]] = True
    found = np.empty(len(score))
    for half in (first, ~first):
        found[half] = Calibration(score[~half & normal]).p_value(score[half])
    return found
