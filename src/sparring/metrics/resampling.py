"""Intervals of what is averaged over several trainings that were judged on the same examples.

The examples are drawn again, with replacement and each kind for itself, and every training is judged on the same
draws: so the interval of a mean counts one test set, not one a training, and differences are paired
(An Introduction to the Bootstrap, Efron and Tibshirani, 1993).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROWS = 100  # resamples at once, to bound the memory


def resamples(kinds: Sequence[str], count: int = 1000, seed: int = 0) -> NDArray[np.int16]:
    """How often each example stands in each resample.

    Args:
        kinds: (N,), the kind of each example; every resample holds as many of each kind as there are.
        count: R, of the resamples.
        seed: Of the draws.

    Returns:
        (R, N).
    """
    random = np.random.default_rng(seed)
    names = np.asarray(kinds)
    drawn = np.zeros((count, len(names)), np.int16)
    for kind in np.unique(names):
        where = np.flatnonzero(names == kind)
        drawn[:, where] = random.multinomial(len(where), np.full(len(where), 1 / len(where)), size=count)
    return drawn


def ranked(score: ArrayLike, anomalous: ArrayLike, drawn: NDArray[np.integer]) -> tuple[NDArray, NDArray]:
    """AUROC and average precision on every resample, as scikit-learn computes them with sample weights.

    Args:
        score: (N,), higher is stranger; equal scores count half.
        anomalous: (N,), true for anomalies.
        drawn: (R, N), how often each example stands in each resample.

    Returns:
        Two arrays (R,).
    """
    values, truth = np.asarray(score, np.float64), np.asarray(anomalous, bool)
    order = np.argsort(-values, kind="stable")
    begins = np.flatnonzero(np.diff(values[order], prepend=np.inf))  # where a new level of the score begins
    odd = truth[order]
    found = [_of_rows(part[:, order].astype(np.float64), odd, begins) for part in _parts(drawn)]
    areas, precisions = zip(*found, strict=True)
    return np.concatenate(areas), np.concatenate(precisions)


def _parts(drawn: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
    return (drawn[k : k + ROWS] for k in range(0, len(drawn), ROWS))


def _of_rows(weight: NDArray, odd: NDArray[np.bool_], begins: NDArray[np.intp]) -> tuple[NDArray, NDArray]:
    """The same of a few resamples; columns fall in score, and `begins` are the first of each level."""
    positive = np.add.reduceat(weight * odd, begins, axis=1)
    negative = np.add.reduceat(weight * ~odd, begins, axis=1)
    true, false = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
    above = false - negative / 2  # normal examples that score higher, equal ones by half
    area = 1 - (positive * above).sum(1) / (true[:, -1] * false[:, -1])
    precision = (positive * true / np.maximum(true + false, 1)).sum(1) / true[:, -1]
    return area, precision
