"""What the nearest neighbour of each example tells of made ones.

Reference: Lopez-Paz, Oquab (2017), Revisiting Classifier Two-Sample Tests, arXiv:1610.06545; Xu et al. (2018),
An empirical study on evaluation metrics of generative adversarial networks, arXiv:1806.07755.
"""

from __future__ import annotations

from typing import Any

import numpy as np
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
