"""Points in the plane whose distribution is known exactly.

8gaussians, 25gaussians and swissroll are those of WGAN-GP; 5gaussians and 10gaussians are two domains in the manner of
DiscoGAN's toy problem (arXiv:1703.05192, section 4.1), of places and scales of our own.

Reference: Gulrajani et al. 2017, Improved Training of Wasserstein GANs, arXiv:1704.00028, section 4; scales are
those of the authors' code, igul222/improved_wgan_training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sparring.data.arrays import from_array
from sparring.data.source import Examples

COUNTS = {"train": 100_000, "test": 10_000}
ROLL = 7.5  # the roll is divided by its deviation "plus a little"


@dataclass(frozen=True, eq=False)
class Modes:
    """A mixture of Gaussians of equal weight: their centres (K, 2) and their standard deviation."""

    centres: np.ndarray
    sigma: float


def _circle() -> Modes:
    angles = np.arange(8) * (math.pi / 4)
    return Modes(2 * np.stack([np.cos(angles), np.sin(angles)], 1) / 1.414, 0.02 / 1.414)


def _grid() -> Modes:
    ticks = 2.0 * np.arange(-2, 3)
    return Modes(np.stack(np.meshgrid(ticks, ticks, indexing="ij"), 2).reshape(-1, 2) / 2.828, 0.05 / 2.828)


def _ring(count: int, radius: float, sigma: float) -> Modes:
    angles = np.arange(count) * (2 * math.pi / count)
    return Modes(radius * np.stack([np.cos(angles), np.sin(angles)], 1), sigma)


MODES = {
    "8gaussians": _circle(), "25gaussians": _grid(),
    "5gaussians": _ring(5, 0.5, 0.1), "10gaussians": _ring(10, 3.0, 0.2),
}  # fmt: skip
TOYS = ("8gaussians", "25gaussians", "swissroll", "5gaussians", "10gaussians")  # the place of each seeds its points


def toy(name: str, split: str) -> Examples:
    """Points (N, 2) float32 of "train" (100,000) or "test" (10,000), always the same.

    The label of a point of a mixture is the number of its Gaussian; every Gaussian has as many points, but for
    a remainder. The roll has no labels.
    """
    random = np.random.default_rng((TOYS.index(name), *split.encode()))
    count = COUNTS[split]
    if name not in MODES:
        turn = 1.5 * math.pi * (1 + 2 * random.random(count))
        roll = np.stack([turn * np.cos(turn), turn * np.sin(turn)], 1) + 0.25 * random.standard_normal((count, 2))
        return from_array((roll / ROLL).astype(np.float32), name, split=split)
    modes = MODES[name]
    label = random.permutation(np.arange(count) % len(modes.centres))
    points = modes.centres[label] + modes.sigma * random.standard_normal((count, 2))
    return from_array(points.astype(np.float32), name, label, split=split)
