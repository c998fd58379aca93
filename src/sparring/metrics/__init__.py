"""Verdicts and the numbers that judge them: calibration, detection, pixels, likelihood, distances.

The measures of generators take features (N, D), real ones first, and are found here by name:

    >>> import numpy as np
    >>> from sparring.metrics import frechet_distance
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> round(frechet_distance(x, x + 1), 6)
    2.0
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparring.metrics.classes import inception_score
    from sparring.metrics.coverage import density_coverage, precision_recall
    from sparring.metrics.distances import frechet_distance, frechet_of_moments, kernel_distance
    from sparring.metrics.modes import gaussian_modes, mapped_modes, mode_coverage
    from sparring.metrics.neighbours import closer, closest, transfer_accuracy, two_sample_accuracy

_HOMES = {
    "closer": "neighbours",
    "closest": "neighbours",
    "density_coverage": "coverage",
    "frechet_distance": "distances",
    "frechet_of_moments": "distances",
    "gaussian_modes": "modes",
    "inception_score": "classes",
    "kernel_distance": "distances",
    "mapped_modes": "modes",
    "mode_coverage": "modes",
    "precision_recall": "coverage",
    "transfer_accuracy": "neighbours",
    "two_sample_accuracy": "neighbours",
}

__all__ = [
    "closer",
    "closest",
    "density_coverage",
    "frechet_distance",
    "frechet_of_moments",
    "gaussian_modes",
    "inception_score",
    "kernel_distance",
    "mapped_modes",
    "mode_coverage",
    "precision_recall",
    "transfer_accuracy",
    "two_sample_accuracy",
]


def __getattr__(name: str) -> Any:
    """Import a measure, and scikit-learn with it, only when it is asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
