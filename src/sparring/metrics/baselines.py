"""Simple detectors on pixels or features, by scikit-learn, for honesty: what a model has to beat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

BLOCK = 256  # examples at once


class Baseline(Protocol):
    """A detector on rows of numbers (N, D): pixels in [0, 1], or features as they are."""

    localises: bool  # whether it has residuals

    def score(self, x: np.ndarray) -> np.ndarray:
        """How strange each row is, (N,); higher is stranger."""
        ...

    def residual(self, x: np.ndarray) -> np.ndarray:
        """How strange each number is, (N, D)."""
        ...


class MeanImage:
    """Distance to the mean of the normal examples."""

    localises = True

    def __init__(self, x: np.ndarray) -> None:
        self.mean = x.mean(0)

    def score(self, x: np.ndarray) -> np.ndarray:
        return np.square(x - self.mean).mean(1)

    def residual(self, x: np.ndarray) -> np.ndarray:
        return np.abs(x - self.mean)


class Reconstruction:
    """Error of the reconstruction from the first 64 principal components (fewer for few examples)."""

    localises = True

    def __init__(self, x: np.ndarray) -> None:
        self.pca = PCA(min(64, len(x) - 1, x.shape[1]), svd_solver="randomized", random_state=0).fit(x)

    def score(self, x: np.ndarray) -> np.ndarray:
        return np.square(x - self._made(x)).mean(1)

    def residual(self, x: np.ndarray) -> np.ndarray:
        return np.abs(x - self._made(x))

    def _made(self, x: np.ndarray) -> np.ndarray:
        return self.pca.inverse_transform(self.pca.transform(x))


class Neighbours:
    """Mean distance to the 5 nearest normal examples; the residual is against the nearest one."""

    localises = True

    def __init__(self, x: np.ndarray) -> None:
        self.x = x
        self.search = NearestNeighbors(n_neighbors=min(5, len(x)), algorithm="brute").fit(x)

    def score(self, x: np.ndarray) -> np.ndarray:
        return self.search.kneighbors(x)[0].mean(1)

    def residual(self, x: np.ndarray) -> np.ndarray:
        nearest = self.search.kneighbors(x, 1, return_distance=False)[:, 0]
        return np.abs(x - self.x[nearest])


class LocalDensity:
    """Local outlier factor with 20 neighbours."""

    localises = False

    def __init__(self, x: np.ndarray) -> None:
        self.factor = LocalOutlierFactor(min(20, len(x) - 1), novelty=True).fit(x)

    def score(self, x: np.ndarray) -> np.ndarray:
        return -self.factor.score_samples(x)

    def residual(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class Forest:
    """Isolation forest of 100 trees (Liu, Ting, Zhou, 2008)."""

    localises = False

    def __init__(self, x: np.ndarray) -> None:
        self.forest = IsolationForest(random_state=0).fit(x)

    def score(self, x: np.ndarray) -> np.ndarray:
        return -self.forest.score_samples(x)

    def residual(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError


BASELINES: dict[str, Callable[[np.ndarray], Baseline]] = {
    "mean image": MeanImage,
    "PCA-64 reconstruction": Reconstruction,
    "5-nearest neighbours": Neighbours,
    "local outlier factor": LocalDensity,
    "isolation forest": Forest,
}
SHORT = dict(zip(("mean", "pca", "knn", "lof", "forest"), BASELINES, strict=True))  # as `compare` calls them


def rows(items: np.ndarray) -> np.ndarray:
    """Flatten uint8 images to float32 rows in [0, 1]; features pass unchanged."""
    flat = items.reshape(len(items), -1).astype(np.float32)
    return flat / 255 if items.dtype == np.uint8 else flat


def score_all(baseline: Baseline, source: Any) -> np.ndarray:
    """Score every example of a source by a baseline, (N,) float64."""
    return source.scores(lambda items: baseline.score(rows(items)), BLOCK)


def maps_of(baseline: Baseline, source: Any) -> Iterator[np.ndarray]:
    """Map every image of a source by a baseline's residual, (H, W) float32 each, mean over channels."""

    def anomaly_map(items: np.ndarray) -> np.ndarray:
        residual = baseline.residual(rows(items))
        return residual.reshape(items.shape).mean(-1).astype(np.float32)

    return source.maps(anomaly_map, BLOCK)
