"""How good and how varied made examples are, by the balls around each example that reach its k-th neighbour.

Reference: Kynkaanniemi et al. (2019), Improved Precision and Recall Metric for Assessing Generative Models,
arXiv:1904.06991; Naeem et al. (2020), Reliable Fidelity and Diversity Metrics for Generative Models,
arXiv:2002.09797. Balls are closed, as in the first; the code of the second leaves their surface out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

from sparring.metrics.pairs import Features, pair

MEGABYTES = 128  # of distances at a time


def precision_recall(real: Any, made: Any, k: int = 3) -> dict[str, float]:
    """Share of made examples that look real, and share of real ones that could have been made.

    Args:
        real: Features (N, D), N > k.
        made: Features (M, D), M > k.
        k: Neighbours that a ball reaches; 3 in the paper.

    Returns:
        precision (made within a ball around a real one) and recall (real within a ball around a made one).
    """
    x, y = pair(real, made, k + 1, f"precision and recall of {k} neighbours")
    around_real, around_made = reach(x, k), reach(y, k)
    precise, recalled = np.zeros(len(y), bool), np.zeros(len(x), bool)
    for rows, distance in blocks(x, y):
        precise |= (distance <= around_real[rows, None]).any(0)
        recalled[rows] = (distance <= around_made).any(1)
    return {"precision": float(precise.mean()), "recall": float(recalled.mean())}


def density_coverage(real: Any, made: Any, k: int = 5) -> dict[str, float]:
    """How crowded with made examples the places of real ones are, and how many such places have any.

    Args:
        real: Features (N, D), N > k.
        made: Features (M, D), M > k.
        k: Neighbours that a ball reaches; 5 in the paper.

    Returns:
        density (real balls around a made example, over k: about 1 for the same distribution, may exceed 1)
        and coverage (share of real balls that hold a made example).
    """
    x, y = pair(real, made, k + 1, f"density and coverage of {k} neighbours")
    around_real = reach(x, k)
    inside, covered = 0, np.zeros(len(x), bool)
    for rows, distance in blocks(x, y):
        within = distance <= around_real[rows, None]
        inside += int(within.sum())
        covered[rows] = within.any(1)
    return {"density": inside / k / len(y), "coverage": float(covered.mean())}


def reach(x: Features, k: int) -> Features:
    """Distance from each example to its k-th neighbour among the others, (N,)."""
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors()[0][:, -1]


def blocks(x: Features, y: Features) -> Iterator[tuple[slice, Features]]:
    """Distances (rows, M) from some rows of x at a time to all of y."""
    start = 0
    for distance in pairwise_distances_chunked(x, y, metric="euclidean", working_memory=MEGABYTES):
        yield slice(start, start + len(distance)), distance
        start += len(distance)
