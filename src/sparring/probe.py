"""What a discriminator has learnt without labels, as DCGAN's paper asks: its features under a linear classifier.

Reference: Radford, Metz, Chintala 2015, arXiv:1511.06434, section 5.1: all convolutional layers, each max-pooled to a
4x4 grid, flattened and concatenated; a linear SVM with squared hinge loss on top.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring import models
from sparring.data import Source, batches
from sparring.errors import UserError
from sparring.metrics.baselines import rows
from sparring.run import Run

GRID = 4  # pixels a side that every map is pooled to
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # values of C that are tried, for standardised features
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)
RESAMPLES = 1000

Extractor = Callable[[Source], np.ndarray]


def judge_of(game: nn.Module, name: str) -> nn.Module:
    """The network of a game that tells real from made.

    Raises:
        UserError: Where it has none.
    """
    for player in ("discriminator", "critic"):
        if isinstance(network := getattr(game, player, None), nn.Module):
            return network
    raise UserError(f"A run of {name} has no discriminator or critic to look into: train a model that has one.")


@contextmanager
def listening(
    network: nn.Module, heard: list[Tensor], kinds: tuple[type[nn.Module], ...] = ACTIVATIONS
) -> Iterator[None]:
    """Collect what every nonlinearity of convolutional layers gives, in order."""

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if output.ndim == 4:
            heard.append(output)

    handles = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, kinds)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def pooled(maps: Tensor) -> Tensor:
    """Max-pool maps (B, C, H, W) to a 4x4 grid where they are larger, and flatten them: (B, C * 16 or less)."""
    return F.adaptive_max_pool2d(maps, min(GRID, maps.shape[-1])).flatten(1)


@torch.no_grad()
def features(network: nn.Module, x: Tensor) -> Tensor:
    """The features of images (B, C, H, W) in [-1, 1]: (B, D), one row an image whatever the batch."""
    heard: list[Tensor] = []
    with listening(network, heard):
        network(x)
    return torch.cat([pooled(maps) for maps in heard], 1)


def of_network(network: nn.Module, name: str) -> Extractor:
    """Extract the features of every image of a source, (N, D) float32.

    Raises:
        UserError: For a network without convolutional layers.
    """

    def extract(source: Source) -> np.ndarray:
        parts = [features(network, x).numpy() for x in batches(source, 64)]
        return np.concatenate(parts)

    if not any(isinstance(module, nn.Conv2d) for module in network.modules()):
        raise UserError(f"The discriminator of {name} has no convolutional layers to take features of: use dcgan.")
    return extract


def fit_linear(x: np.ndarray, label: np.ndarray, seed: int) -> Any:
    """Fit the SVM; a fifth of the examples chooses its penalty, which is then fitted on all of them."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    def fitted(penalty: float, rows: Any = slice(None)) -> Any:
        svm = make_pipeline(StandardScaler(), LinearSVC(C=penalty, dual="auto", tol=1e-3, random_state=seed))
        with warnings.catch_warnings():  # what does not settle is judged as it stands
            warnings.simplefilter("ignore", ConvergenceWarning)
            return svm.fit(x[rows], label[rows])

    def right(penalty: float) -> float:
        return float((fitted(penalty, fit).predict(x[select]) == label[select]).mean())

    counts = np.bincount(label)
    few = counts[label] < 5  # of their class: these all help to fit, or a class might be missing there
    many = np.flatnonzero(~few)
    if not len(many):
        return fitted(PENALTIES[len(PENALTIES) // 2])
    fit, select = train_test_split(many, test_size=0.2, random_state=seed, stratify=label[many])
    fit = np.concatenate([fit, np.flatnonzero(few)])
    return fitted(max(PENALTIES, key=right))


def probe(run: Run, data: Any = None, *, limit: int | None = 10_000, split: str = "test", seed: int = 0) -> dict:
    """Classify images by a linear SVM on the discriminator's features, beside raw pixels and random weights.

    Args:
        data: Labelled images, as for `sparring.train`; None is the run's own data.
        limit: Training examples at most for the SVM, drawn by `seed`; None takes all.
        split: The part that is reported on; the SVM is fitted on "train".

    Returns:
        Accuracy on the split with its 95 % bootstrap interval for `discriminator`, `random weights` and `pixels`, and
        the margin of the first over the others on the same images.

    Raises:
        UserError: For data without labels, or a model without convolutional layers.
    """
    own_features = of_network(judge_of(run.game, run.job.model), run.job.model)  # or refuses, before data are opened
    train, test = run.open(data, split="train"), run.open(data, split=split)
    for source in (train, test):
        if source.labels is None:
            raise UserError(f"'{source.name}' has no labels, and a probe is a classifier: give one folder per class.")
    if train.labels is not None and len(np.unique(train.labels)) < 2:
        raise UserError(f"'{train.name}' has images of one class only, and a probe tells classes apart: give more.")
    if limit is not None and limit < len(train):
        train = train.take(np.sort(np.random.default_rng(seed).permutation(len(train))[:limit]))
    assert train.labels is not None
    assert test.labels is not None
    ways: dict[str, Extractor] = {
        "discriminator": own_features,
        "random weights": of_network(judge_of(untrained(run, seed), run.job.model), run.job.model),
        "pixels": lambda source: rows(source.read(np.arange(len(source)))),
    }
    right, widths = {}, {}
    for name, extract in ways.items():
        x = extract(train)
        widths[name] = x.shape[1]
        right[name] = fit_linear(x, train.labels, seed).predict(extract(test)) == test.labels
    picks = np.random.default_rng(seed).integers(len(test), size=(RESAMPLES, len(test)))
    own = right["discriminator"]
    found: dict[str, Any] = {"examples": len(test), "fitted_on": len(train), "seed": seed}
    for name, hits in right.items():
        found[name] = {"accuracy": interval(hits.astype(float), picks), "features": widths[name]}
        if name != "discriminator":
            found[name]["margin"] = interval(own.astype(float) - hits, picks)
    return found


def untrained(run: Run, seed: int) -> nn.Module:
    """The run's game with weights that no training has touched."""
    entry = models.find(run.job.model)
    with torch.random.fork_rng():
        torch.manual_seed(seed + 1)  # not those that the training began with
        return entry.game(run.spec, entry.recipe.read(run.job.recipe)).eval()


def interval(values: np.ndarray, picks: np.ndarray) -> dict[str, float]:
    """Mean of values (N,) with its 95 % bootstrap interval over the same resamples (R, N) for all."""
    means = values[picks].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}
