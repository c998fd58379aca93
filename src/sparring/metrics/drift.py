"""Whether recent examples are still what a detector was calibrated on.

The promise on false alarms holds for examples that are exchangeable with the calibration's. Two tests look for signs
that recent ones are not, both exact about the calibration being a finite sample:

* the number of alarms. Of m exchangeable examples it follows a beta-binomial law: given the calibration, the true rate
  is Beta(k, n + 1 - k), k of n + 1 allowed. For a large calibration this is the binomial test against the promised
  rate; for a small one that test would take the calibration's own luck for drift;
* the scores, by the two-sample Kolmogorov-Smirnov test against the calibration's. The conformal p-values of normal
  examples are uniform exactly as far as the two samples agree.

Drift is said where twice the smaller p-value is at most ALPHA (Bonferroni's correction for two tests). Who asks again
and again must ask with fresh examples: in disjoint windows normal images then raise a false alarm about drift once in
1 / ALPHA windows at most, on average.

Reference: Testing for Outliers with Conformal p-values (Bates, Candes, Lei, Romano, Sesia, 2023), arXiv:2104.08279,
on what follows from one calibration for many examples.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import betabinom, ks_2samp

from sparring.errors import UserError
from sparring.metrics.conformal import Calibration, allowed

ALPHA = 0.001
WINDOW = 200  # examples that are asked about at once where they come one by one
LEAST = 20  # examples that must be there before anything is said of them


@dataclass(frozen=True)
class Drift:
    """What two tests say of recent examples.

    Attributes:
        examples: How many there are.
        alarms: How many of them were flagged.
        promised: The share of normal examples that may be.
        alarms_p: P-value of so many alarms or more.
        scores_p: P-value of scores so far from the calibration's.
    """

    examples: int
    alarms: int
    promised: float
    alarms_p: float
    scores_p: float

    @property
    def p_value(self) -> float:
        """That of both tests together."""
        return min(1.0, 2 * min(self.alarms_p, self.scores_p))

    @property
    def drifted(self) -> bool:
        return self.p_value <= ALPHA

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "examples": self.examples, "alarms": self.alarms, "promised": self.promised, "alarms_p": self.alarms_p,
            "scores_p": self.scores_p, "p_value": self.p_value, "drifted": self.drifted,
        }  # fmt: skip

    def sentence(self) -> str:
        """What was found, what it means and what to do."""
        share = f"{self.alarms} of {self.examples} are flagged, where {self.promised:.3g} of normal images may be"
        found = (
            f"{share} (p = {self.alarms_p:.2g}), and the scores lie as in the calibration with p = {self.scores_p:.2g}"
        )
        if not self.drifted:
            return f"No sign of drift: {found}."
        return (
            f"Drift (p = {self.p_value:.2g}): {found}. Either many of these are really strange, or what is normal has "
            "changed: light, lens, position, material. Look at them; if they are good, the promised rate of false "
            "alarms no longer holds: calibrate anew on recent good images, or train anew with them."
        )


def find_drift(calibration: Calibration, score: ArrayLike, false_alarms: float) -> Drift:
    """Hold recent examples against the calibration.

    Args:
        score: (m,), at least one; examples that were not asked about before.
        false_alarms: Share of normal examples that may be flagged.

    Raises:
        UserError: For no scores.
    """
    score = np.asarray(score, dtype=np.float64)
    if not len(score):
        raise UserError("There are no scores to look for drift in: give at least one.")
    alarms = int(calibration.strange(score, false_alarms).sum())
    n, k = len(calibration), allowed(len(calibration), false_alarms)
    alarms_p = float(betabinom(len(score), k, n + 1 - k).sf(alarms - 1)) if k else 1.0  # without k none can alarm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "exact calculation unsuccessful", where p is next to 0
        scores_p = float(ks_2samp(score, calibration.scores).pvalue)
    return Drift(len(score), alarms, float(false_alarms), min(1.0, alarms_p), min(1.0, scores_p))
