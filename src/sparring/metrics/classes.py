"""The Inception score, of the class probabilities that any classifier gives.

Reference: Salimans et al. (2016), Improved Techniques for Training GANs, arXiv:1606.03498. Only with the
probabilities of Inception is it the published score; it looks at made examples alone, so that one perfect
example of each class suffices (Barratt, Sharma (2018), A Note on the Inception Score, arXiv:1801.01973).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import rel_entr

from sparring.errors import UserError


def inception_score(probabilities: Any, splits: int = 10) -> dict[str, float | int]:
    """exp E KL(p(y|x) || p(y)): 1 for one and the same answer, K for sure answers spread evenly over K classes.

    Args:
        probabilities: (N, K), rows that add up to 1.
        splits: Parts, of every `splits`-th example, that are scored apart; fewer where N is smaller.

    Returns:
        value (mean over the parts), deviation (their standard deviation), and the number of splits.

    Raises:
        UserError: For rows that are no probabilities.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not len(p) or not (p >= 0).all() or not np.allclose(p.sum(1), 1, atol=1e-4):
        raise UserError(f"Class probabilities are rows (examples, classes) that add up to 1; got the shape {p.shape}.")
    splits = max(1, min(splits, len(p)))
    scores = [np.exp(rel_entr(part, part.mean(0)).sum(1).mean()) for part in (p[k::splits] for k in range(splits))]
    return {"value": float(np.mean(scores)), "deviation": float(np.std(scores)), "splits": splits}
