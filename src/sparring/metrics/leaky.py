"""What papers compute with the help of the examples that they report on; for comparison with their figures only.

A threshold found on the test set, scores stretched between its extremes and statistics of its batches all look at the
truth, or at examples that a detector in use has not seen yet. `sparring reproduce` prints these numbers beside clean
ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import f1_score, roc_curve
from torch import nn


def stretched(score: ArrayLike) -> NDArray[np.float64]:
    """Scores between 0, the smallest of this set, and 1, the largest; zeros where all are equal, as GANomaly does."""
    values = np.asarray(score, np.float64)
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def equal_error(score: ArrayLike, anomalous: ArrayLike) -> float:
    """The score from which on an example counts as anomalous, such that as large a share of both kinds is misjudged.

    Of the scores that occur it is the one where the two shares are closest, found on the labels of these very examples.

    Args:
        score: (N,), higher is stranger.
        anomalous: (N,), true for anomalies; some of each kind.
    """
    false, true, at = roc_curve(anomalous, score, drop_intermediate=False)
    return float(at[1:][np.argmin(np.abs(false - (1 - true))[1:])])  # the first threshold is infinite


def normal_f1(anomalous: ArrayLike, flagged: ArrayLike) -> float:
    """F1 with the normal examples as the positive class, as OGNet's code counts."""
    return float(f1_score(~np.asarray(anomalous, bool), ~np.asarray(flagged, bool), zero_division=0.0))


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Normalise by the statistics of each batch, as code does that forgets `eval()`; no trace of it is left."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    training = network.training
    network.train()
    try:
        yield
    finally:
        network.train(training)
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(before[name])
