"""Distances between the distributions of real and made features: Frechet and kernel.

On the features of Inception these are FID and KID; on others they have no such name, and numbers from
different extractors or different numbers of examples cannot be compared.

Reference: Heusel et al. (2017), GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
Equilibrium, arXiv:1706.08500; Binkowski et al. (2018), Demystifying MMD GANs, arXiv:1801.01401.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparring.metrics.pairs import Features, pair

SUBSET = 1000  # examples in a subset of the kernel distance


def frechet_distance(real: Any, made: Any) -> float:
    """Squared 2-Wasserstein distance between Gaussians fitted to both: 0 for the same mean and covariance.

    It is biased upward, the more so the fewer the examples: compare only at equal numbers.

    Args:
        real: Features (N, D).
        made: Features (M, D).

    Raises:
        UserError: For fewer than D + 1 examples of either, whose covariance is singular.
    """
    width = np.shape(real)[1] if np.ndim(real) == 2 else 1
    x, y = pair(real, made, width + 1, f"Frechet distance of {width} features")
    return frechet_of_moments(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))


def frechet_of_moments(mean: Any, covariance: Any, other_mean: Any, other_covariance: Any) -> float:
    """|m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)) of means (D,) and covariances (D, D)."""
    a, b = root(covariance), root(other_covariance)
    # (C1 C2)^(1/2) has the trace of (A C2 A)^(1/2), A = C1^(1/2): the sum of the singular values of A B.
    crossed = np.linalg.svd(a @ b, compute_uv=False).sum()
    apart = np.square(np.asarray(mean) - np.asarray(other_mean)).sum()
    return float(max(apart + np.square(a).sum() + np.square(b).sum() - 2 * crossed, 0))


def root(covariance: Any) -> Features:
    """The symmetric square root of a covariance (D, D); what rounding made negative counts as 0."""
    values, vectors = np.linalg.eigh(np.atleast_2d(np.asarray(covariance, dtype=np.float64)))
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def kernel_distance(real: Any, made: Any, size: int = SUBSET, seed: int = 0) -> dict[str, float | int]:
    """Squared maximum mean discrepancy under the kernel (x.y / D + 1)^3, unbiased at any number of examples.

    The examples are shared out at random into disjoint subsets of at most `size`, ten where there are too few
    for ten of them, and the unbiased estimates are averaged. The subsets being independent, the spread of the
    estimates gives an honest standard error; the reference draws overlapping ones, to the same expectation.

    Args:
        real: Features (N, D), N >= 20.
        made: Features (M, D), M >= 20.
        size: Examples of each kind in a subset, at least 2.

    Returns:
        value (may be slightly negative where both distributions agree), standard_error, and the number of subsets.
    """
    x, y = pair(real, made, 20, "kernel distance")
    count = min(len(x), len(y))
    subsets = max(10, count // size)
    size = count // subsets
    random = np.random.default_rng(seed)
    shares = (random.permutation(len(z))[: subsets * size].reshape(subsets, size) for z in (x, y))
    estimates = [discrepancy(x[a], y[b]) for a, b in zip(*shares, strict=True)]
    return {
        "value": float(np.mean(estimates)),
        "standard_error": float(np.std(estimates, ddof=1) / np.sqrt(subsets)),
        "subsets": subsets,
    }


def discrepancy(x: Features, y: Features) -> float:
    """The unbiased estimate of the squared discrepancy of (N, D) and (M, D)."""

    def kernel(a: Features, b: Features) -> Features:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Features) -> float:
        k = kernel(a, a)
        return (k.sum() - k.trace()) / (len(a) * (len(a) - 1))

    return float(within(x) + within(y) - 2 * kernel(x, y).mean())
