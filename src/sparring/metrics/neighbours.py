"""What the nearest neighbour of each example tells of made ones.

Reference: Lopez-Paz, Oquab (2017), Revisiting Classifier Two-Sample Tests, arXiv:1610.06545; Xu et al. (2018),
An empirical study on evaluation metrics of generative adversarial networks, arXiv:1806.07755.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from sparring.errors import UserError
from sparring.metrics.pairs import Features, pair


def two_sample_accuracy(real: Any, made: Any, seed: int = 0) -> dict[str, float]:
    """Tell real from made by the nearest other example: 0.5 where they cannot be told apart.

    Near 1 the two are apart. Below 0.5 the made ones lie closer to real ones than these do to each other, as
    copies do. Of the kind that there is more of, a random part is taken, since unequal numbers shift the 0.5.

    Args:
        real: Features (N, D), N >= 2.
        made: Features (M, D), M >= 2.

    Returns:
        value (leave-one-out accuracy), real and made (accuracy on each kind).
    """
    x, y = pair(real, made, 2, "two-sample test")
    random = np.random.default_rng(seed)
    count = min(len(x), len(y))
    x, y = (z[random.permutation(len(z))[:count]] for z in (x, y))
    of_real = float((nearest(x) < nearest(x, y)).mean())
    of_made = float((nearest(y) < nearest(y, x)).mean())
    return {"value": (of_real + of_made) / 2, "real": of_real, "made": of_made}


def nearest(x: Features, among: Features | None = None) -> Features:
    """Distance from each example to the nearest of these, or of the others of its own kind, (N,)."""
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(x if among is None else among)
    return search.kneighbors(None if among is None else x)[0][:, 0]


def closest(x: Any, parts: Iterable[Any]) -> tuple[Features, NDArray[np.int64]]:
    """Find the nearest of many examples to each of a few, while no more than a part of the many is in memory.

    Args:
        x: The few (N, D).
        parts: The many, (M, D) a part.

    Returns:
        Distances (N,), and the numbers (N,) of the nearest, counted over all parts.

    Raises:
        UserError: For values that are not finite.
    """
    rows = np.asarray(x)
    if not np.isfinite(rows).all():
        raise UserError("Of NaN or infinite values no distance can be taken: remove those examples.")
    distance, number, start = np.full(len(rows), np.inf), np.zeros(len(rows), np.int64), 0
    for part in parts:
        which, away = pairwise_distances_argmin_min(rows, part)
        better = away < distance
        distance[better], number[better] = away[better], start + which[better]
        start += len(part)
    return distance, number


def closer(made: Any, real: Any) -> dict[str, float]:
    """Compare how far made and real examples are from the training examples nearest to them.

    Args:
        made: Distances (M,) of made examples.
        real: Distances (N,) of real examples that were not trained on.

    Returns:
        share (of all pairs of a made and a real example, in how many the made one is closer; ties count half),
        p_value (one-sided, by ranks: how often as large a share comes about where both are alike), and beyond (made
        examples that are closer than every real one; M / (N + 1) where both are alike).
    """
    x, y = np.asarray(made, dtype=np.float64), np.asarray(real, dtype=np.float64)
    found = mannwhitneyu(x, y, alternative="less")
    share = 1 - found.statistic / (len(x) * len(y))
    return {"share": float(share), "p_value": float(found.pvalue), "beyond": int((x < y.min()).sum())}


def transfer_accuracy(made: Any, made_label: Any, real: Any, real_label: Any) -> float:
    """Share of real examples that have the class of the nearest made one: made examples as a training set.

    Args:
        made: Features (M, D) of examples that were made by class, (M,) in `made_label`.
        real: Features (N, D) with their true classes, (N,) in `real_label`.

    Raises:
        UserError: Where labels and examples differ in number.
    """
    x, y = pair(real, made, 1, "transfer accuracy")
    true, asked = np.asarray(real_label), np.asarray(made_label)
    if true.shape != (len(x),) or asked.shape != (len(y),):
        raise UserError(
            f"{len(y)} made and {len(x)} real examples need one label each; got {asked.shape} and {true.shape}."
        )
    judge = KNeighborsClassifier(1, algorithm="brute").fit(y, asked)
    return float((judge.predict(x) == true).mean())
