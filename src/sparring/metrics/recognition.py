"""How well an open-set model recognises: which class, and whether any of those that it knows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import auc, average_precision_score, f1_score

from sparring.errors import UserError
from sparring.metrics.detection import auroc

UNKNOWN = -1  # the label of examples that are of no known class


def oscr(score: ArrayLike, label: ArrayLike, predicted: ArrayLike) -> float:
    """The area under the open-set classification rate curve, in [0, 1].

    At each threshold stand the share of known examples that are accepted and named rightly, and the share of unknown
    ones that are accepted. Where every name is right, the area is the AUROC.

    Args:
        score: (N,), higher is more open.
        label: Class numbers (N,), -1 for unknown.
        predicted: The class number that each example is given if it is accepted, (N,).

    Reference: Dhamija, Guenther, Boult (2018), Reducing Network Agnostophobia, arXiv:1811.04110.
    """
    s, y, named = (np.asarray(values) for values in (score, label, predicted))
    known = y != UNKNOWN
    levels, rank = np.unique(s, return_inverse=True)
    right = np.cumsum(np.bincount(rank[known & (named == y)], minlength=len(levels))) / known.sum()
    wrong = np.cumsum(np.bincount(rank[~known], minlength=len(levels))) / (~known).sum()
    return float(auc(np.r_[0, wrong], np.r_[0, right]))


def unknown_accepted_at_95(score: NDArray[np.floating[Any]], known: NDArray[np.bool_]) -> float:
    """The share of unknown examples that are accepted where 95 % of the known ones are: FPR95, known being positive."""
    accepted = np.sort(score[known])[int(np.ceil(0.95 * known.sum())) - 1]
    return float((score[~known] <= accepted).mean())


def recognition(score: ArrayLike, label: ArrayLike, predicted: ArrayLike, rejected: ArrayLike) -> dict[str, float]:
    """Judge an open-set model.

    Args:
        score: (N,), higher is more open.
        label: Class numbers (N,), -1 for unknown.
        predicted: The most likely known class of each example, (N,).
        rejected: Which examples are called unknown, (N,) bool.

    Returns:
        "auroc" and "average_precision" with unknown as the positive class; "unknown_accepted_at_95", the share of
        unknown examples that are accepted where 95 % of the known are; "oscr"; "closed_accuracy" of the names of known
        examples, whatever is rejected; "f1", the mean over the known classes and "unknown"; "rejected_known", the share
        of known examples that are rejected.

    Raises:
        UserError: For scores that are not finite, or where known or unknown examples are missing.
    """
    s = np.asarray(score, np.float64)
    y, named, no = (np.asarray(values) for values in (label, predicted, rejected))
    known = y != UNKNOWN
    if not np.isfinite(s).all():
        raise UserError(f"{int((~np.isfinite(s)).sum()):,} scores are NaN or infinite: they cannot be judged.")
    if known.all() or not known.any():
        raise UserError(f"{int(known.sum()):,} of {len(y):,} examples are of known classes: give known and unknown.")
    decided = np.where(no, UNKNOWN, named)
    return {
        "auroc": auroc(s[~known], s[known]),
        "average_precision": float(average_precision_score(~known, s)),
        "unknown_accepted_at_95": unknown_accepted_at_95(s, known),
        "oscr": oscr(s, y, named),
        "closed_accuracy": float((named == y)[known].mean()),
        "f1": float(f1_score(y, decided, labels=np.unique(y), average="macro", zero_division=0)),
        "rejected_known": float(no[known].mean()),
    }
