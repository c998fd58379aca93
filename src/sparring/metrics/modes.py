"""Which modes of the data a generator reaches, and in what proportion.

Reference: Metz et al. (2017), Unrolled Generative Adversarial Networks, arXiv:1611.02163 (classes as modes);
Lin et al. (2018), PacGAN: The power of two samples in generative adversarial networks, arXiv:1712.04086.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import rel_entr

from sparring.errors import UserError


def mode_coverage(found: Any, expected: Any) -> dict[str, float | int]:
    """Count the classes that occur among made examples, and compare their shares with the data's.

    Args:
        found: Class of each made example (N,), by a classifier.
        expected: How often each of the K classes occurs in the data (K,), counts or shares; unused classes are 0.

    Returns:
        value (modes found, among those that the data have), of (modes of the data), and kl, the divergence
        KL(made || data) in nats: 0 for the same shares, infinite where a class is made that the data lack.

    Raises:
        UserError: For classes that are not among the K.
    """
    labels, weights = np.asarray(found), np.asarray(expected, dtype=np.float64)
    if weights.ndim != 1 or not (weights >= 0).all() or not weights.sum() > 0:
        raise UserError("The expected classes are counts or shares (classes,), at least one of them above 0.")
    if not len(labels) or labels.min() < 0 or labels.max() >= len(weights):
        raise UserError(f"The found classes must be numbers from 0 to {len(weights) - 1}, at least one of them.")
    counts = np.bincount(labels, minlength=len(weights))
    kl = rel_entr(counts / counts.sum(), weights / weights.sum()).sum()
    return {"value": int((counts[weights > 0] > 0).sum()), "of": int((weights > 0).sum()), "kl": float(kl)}


def gaussian_modes(x: Any, centres: Any, sigma: float, within: float = 3.0) -> dict[str, float | int]:
    """Count the Gaussians of a mixture that made points reach.

    Args:
        x: Points (N, D).
        centres: Of the Gaussians (K, D).
        sigma: Their standard deviation.
        within: Distance, in standard deviations, at which a point belongs to a Gaussian.

    Returns:
        value (modes with at least one point), of (K), and high_quality, the share of points that belong to any.
    """
    points, means = np.asarray(x, dtype=np.float64), np.asarray(centres, dtype=np.float64)
    near = np.linalg.norm(points[:, None] - means, axis=2) <= within * sigma
    return {"value": int(near.any(0).sum()), "of": len(means), "high_quality": float(near.any(1).mean())}


def mapped_modes(
    x_mode: Any, y: Any, centres: Any, sigma: float, within: float = 3.0, least: float = 0.01, much: float = 0.1
) -> dict[str, Any]:
    """Tell how a translation sends the Gaussians of one mixture to those of another.

    Args:
        x_mode: The Gaussian that each point came from (N,), numbers from 0.
        y: Where the points went (N, D).
        centres: Of the Gaussians there (K, D).
        sigma: Their standard deviation.
        within: Distance, in standard deviations, at which a point belongs to a Gaussian.
        least: Share of the points of a Gaussian that counts as going somewhere.
        much: Share of the points of each of two Gaussians by which these count as merged.

    Returns:
        value (Gaussians there that are reached), of (K), shared (those that more than one Gaussian goes to),
        one_to_one (all that are reached are reached from one alone, and every Gaussian goes somewhere), merged (those
        that more than one Gaussian goes to with much of its points), high_quality (share of points that belong to
        any), collapsed (some are merged, and at least half of all points belong to any), and table, the share of each
        Gaussian's points that go to each (M, K).
    """
    modes, points, means = np.asarray(x_mode), np.asarray(y, dtype=np.float64), np.asarray(centres, dtype=np.float64)
    distance = np.linalg.norm(points[:, None] - means, axis=2)
    near = (distance <= within * sigma) & (distance == distance.min(1, keepdims=True))
    shares = np.stack([near[modes == k].mean(0) for k in range(int(modes.max()) + 1)])
    goes = shares >= least
    shared, merged = (int(((shares >= share).sum(0) > 1).sum()) for share in (least, much))
    quality = float(near.any(1).mean())
    return {
        "value": int(goes.any(0).sum()), "of": len(means), "shared": shared,
        "one_to_one": shared == 0 and bool(goes.any(1).all()), "merged": merged, "high_quality": quality,
        "collapsed": merged > 0 and quality >= 0.5, "table": shares.tolist(),
    }  # fmt: skip
