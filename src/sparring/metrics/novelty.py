"""How unlike the known classes an example is, by what a trained classifier says of it: what OpenGAN has to beat.

Every detector is fitted to features (N, D), logits (N, K) and labels (N,) of known examples, and scores features and
logits of others: (N,) float64, higher is stranger. References: Hendrycks, Gimpel (2016), arXiv:1610.02136 (maximum
softmax); Hendrycks et al. (2019), arXiv:1911.11132 (maximum logit); Liu et al. (2020), arXiv:2010.03759 (energy);
Lee et al. (2018), arXiv:1807.03888 (Mahalanobis); Sun et al. (2022), arXiv:2204.06507 (nearest neighbours);
Bendale, Boult (2016), arXiv:1511.06233 (OpenMax). ODIN needs the network itself: see `sparring.metrics.odin`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import logsumexp, softmax
from scipy.stats import weibull_min
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

Array = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]


class Novelty(Protocol):
    def score(self, x: Array, logits: Array) -> NDArray[np.float64]:
        """How strange each example is, (N,); higher is stranger."""
        ...


def maximum_softmax(logits: Array) -> NDArray[np.float64]:
    """Minus the probability of the most likely class, (N,) in [-1, -1/K]."""
    return -softmax(logits.astype(np.float64), axis=1).max(1)


def maximum_logit(logits: Array) -> NDArray[np.float64]:
    """Minus the largest logit, (N,)."""
    return -logits.astype(np.float64).max(1)


def energy(logits: Array, temperature: float = 1.0) -> NDArray[np.float64]:
    """The free energy -T log sum exp(h / T), (N,)."""
    return -temperature * logsumexp(logits.astype(np.float64) / temperature, axis=1)


class OfLogits:
    """A detector that is a function of the logits, with nothing to fit."""

    def __init__(self, formula: Callable[[Array], NDArray[np.float64]]) -> None:
        self.formula = formula

    def __call__(self, x: Array, logits: Array, labels: Labels) -> OfLogits:
        return self

    def score(self, x: Array, logits: Array) -> NDArray[np.float64]:
        return self.formula(logits)


class Mahalanobis:
    """The least squared distance to the mean of a class, under the covariance that all classes share.

    A millionth of the mean variance is added to each, as features that are always 0 would make it singular.
    """

    def __init__(self, x: Array, logits: Array, labels: Labels) -> None:
        x = x.astype(np.float64)
        self.means = np.stack([x[labels == k].mean(0) for k in np.unique(labels)])
        _, number = np.unique(labels, return_inverse=True)
        centred = x - self.means[number]
        covariance = centred.T @ centred / len(x)
        ridge = 1e-6 * max(float(np.trace(covariance)) / len(covariance), 1e-12)
        self.factor = cho_factor(covariance + ridge * np.eye(len(covariance)))

    def score(self, x: Array, logits: Array) -> NDArray[np.float64]:
        distances = []
        for mean in self.means:
            apart = (x - mean).astype(np.float64)
            distances.append((apart * cho_solve(self.factor, apart.T).T).sum(1))
        return np.min(distances, 0)


class Nearest:
    """The distance to the 50th nearest known example, of features divided by their norm."""

    def __init__(self, x: Array, logits: Array, labels: Labels, k: int = 50) -> None:
        self.search = NearestNeighbors(n_neighbors=min(k, len(x)), algorithm="brute").fit(normalised(x))

    def score(self, x: Array, logits: Array) -> NDArray[np.float64]:
        return self.search.kneighbors(normalised(x))[0][:, -1].astype(np.float64)


def normalised(x: Array) -> Array:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


class Mixture:
    """Minus the log density of a Gaussian mixture with one component a class, on at most 64 principal components."""

    def __init__(self, x: Array, logits: Array, labels: Labels) -> None:
        width = min(64, x.shape[1], len(x) - 1)
        self.pca = PCA(width, random_state=0).fit(x)
        classes = len(np.unique(labels))
        self.mixture = GaussianMixture(classes, reg_covar=1e-4, random_state=0).fit(self.pca.transform(x))

    def score(self, x: Array, logits: Array) -> NDArray[np.float64]:
        return -self.mixture.score_samples(self.pca.transform(x))


class OpenMax:
    """The probability of "unknown", to which likely classes give way whose mean logits lie too far for a Weibull tail.

    The tails are fitted to the 20 largest distances of a class, shifted so that the least of these lies at 1, as
    libMR does.
    """

    def __init__(self, x: Array, logits: Array, labels: Labels, tail: int = 20, alpha: int = 10) -> None:
        classes = logits.shape[1]
        self.alpha = min(alpha, classes)
        right = logits.argmax(1) == labels
        self.means: list[NDArray[np.float64]] = []
        self.starts: list[float] = []
        self.tails: list[tuple[float, float]] = []
        for k in range(classes):
            own = logits[right & (labels == k)].astype(np.float64)
            if not len(own):  # a class that is never recognised gives nothing away
                own = logits[labels == k].astype(np.float64)
            mean = own.mean(0)
            largest = np.sort(np.linalg.norm(own - mean, axis=1))[-tail:]
            shape, _, scale = weibull_min.fit(largest - largest[0] + 1, floc=0)
            self.means.append(mean)
            self.starts.append(largest[0])
            self.tails.append((shape, scale))

    def revised(self, logits: Array) -> NDArray[np.float64]:
        """Probabilities (N, K + 1), the last of them of "unknown"."""
        v = logits.astype(np.float64)
        rank = (-v).argsort(1).argsort(1)
        trust = np.maximum((self.alpha - rank) / self.alpha, 0)
        weights = np.ones_like(v)
        for k, (mean, start, (shape, scale)) in enumerate(zip(self.means, self.starts, self.tails, strict=True)):
            distance = np.linalg.norm(v - mean, axis=1) - start + 1
            weights[:, k] -= trust[:, k] * weibull_min.cdf(distance, shape, scale=scale)
        unknown = (v * (1 - weights)).sum(1, keepdims=True)
        return softmax(np.concatenate([v * weights, unknown], 1), axis=1)

    def score(self, x: Array, logits: Array) -> NDArray[np.float64]:
        return self.revised(logits)[:, -1]


NOVELTY: dict[str, Callable[[Array, Array, Labels], Novelty]] = {
    "maximum softmax": OfLogits(maximum_softmax),
    "maximum logit": OfLogits(maximum_logit),
    "energy": OfLogits(energy),
    "Mahalanobis": Mahalanobis,
    "50th nearest neighbour": Nearest,
    "Gaussian mixture": Mixture,
    "OpenMax": OpenMax,
}
