"""How well scores and verdicts tell anomalies from normal examples, and how sure that is.

Two kinds of uncertainty are stated. Intervals of AUROC and its like come from the bootstrap: draw as many
anomalies and as many normal examples again, with replacement, and look how far the number moves
(An Introduction to the Bootstrap, Efron and Tibshirani, 1993). Shares of a count come with the exact
interval (Clopper and Pearson, 1934).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import betabinom, binomtest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from sparring.errors import UserError
from sparring.metrics.conformal import allowed, check_rate

RANKED = ("auroc", "average_precision", "fpr_at_95_tpr")  # of the score alone, at no threshold
DECIDED = ("f1", "accuracy", "recall")  # of the verdicts
Numbers = dict[str, float]


class Labelled(NamedTuple):
    """Scores (n,), which of them are anomalous, and which the detector flagged."""

    score: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    flagged: NDArray[np.bool_]


def auroc(high: NDArray[np.floating], low: NDArray[np.floating]) -> float:
    """How often one of the first scores (N,) is above one of the second (M,); ties count half."""
    return float(roc_auc_score(np.arange(len(high) + len(low)) < len(high), np.concatenate([high, low])))


def judge(
    score: ArrayLike,
    anomalous: ArrayLike,
    p_value: ArrayLike,
    false_alarms: float,
    kinds: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 1000,
    calibrated: int | None = None,
) -> dict[str, Any]:
    """Judge a detector on labelled examples.

    Args:
        score: (n,), higher is stranger.
        anomalous: (n,), true for anomalies, the positive class of every number here.
        p_value: (n,), see `Calibration.p_value`; the verdict is p_value <= false_alarms.
        false_alarms: The share of normal examples that may be flagged.
        kinds: Name of each example's kind: the defect, or the class.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
        calibrated: How many examples the p-values rest on; adds the range of false alarms to be expected.

    Returns:
        Plain values that JSON can hold; None stands where there are no anomalies or no normal examples.

        * "auroc", "average_precision", "fpr_at_95_tpr", "f1", "accuracy", "recall": "value" and the 95 %
          bootstrap interval "low", "high" (anomalies and normal examples drawn apart);
        * "false_alarms": share "value" = "count" / "of", exact 95 % interval "low", "high", "asked", and
          "holds": whether what was asked for lies in the interval. With `calibrated` also "expected", the
          range that holds 95 % of all calibrations and test sets of these sizes: calibration examples are
          a sample too, which the interval leaves out;
        * "kinds": per kind "kind", "anomalous", "n", "flagged" (share, with interval), "auroc" against all
          normal examples;
        * "asked", "counts", "resamples", "seed", "calibrated".

    Raises:
        UserError: For scores that are not finite, lengths that disagree, or no examples.
    """
    check_rate(false_alarms)
    data, names = _checked(score, anomalous, p_value, false_alarms, kinds)
    found: dict[str, Any] = dict.fromkeys(RANKED + DECIDED)
    groups = _groups(data, names)
    values, draws = _point(data), _bootstrap(data, groups, seed, resamples)
    found |= {name: _interval(value, draws[name]) for name, value in values.items()}
    found["false_alarms"] = _false_alarms(data, false_alarms, calibrated)
    found["kinds"] = [_kind(data, draws, *group) for group in groups.items()]
    found["asked"] = float(false_alarms)
    found["counts"] = _counts(data)
    return found | {"resamples": resamples, "seed": seed, "calibrated": calibrated}


def share(count: int, of: int) -> dict[str, Any]:
    """A share of a count with its exact 95 % interval (Clopper-Pearson)."""
    interval = binomtest(count, of).proportion_ci(0.95, method="exact")
    return {"value": count / of, "count": count, "of": of, "low": float(interval.low), "high": float(interval.high)}


def _checked(
    score: ArrayLike, anomalous: ArrayLike, p_value: ArrayLike, false_alarms: float, kinds: Sequence[str] | None
) -> tuple[Labelled, list[str]]:
    s, truth, p = np.asarray(score, dtype=np.float64), np.asarray(anomalous, dtype=bool), np.asarray(p_value)
    names = [str(kind) for kind in kinds] if kinds is not None else []
    lengths = [s.shape, truth.shape, p.shape] + ([(len(names),)] if kinds is not None else [])
    if s.ndim != 1 or len(set(lengths)) > 1:
        raise UserError(f"Scores, labels, p-values and kinds must be lists of one length; got the shapes {lengths}.")
    if not len(s):
        raise UserError("There are no examples to judge the detector on.")
    if bad := int((~np.isfinite(s)).sum() + np.isnan(p).sum()):
        raise UserError(f"{bad:,} of {len(s):,} scores are NaN or infinite: the model is broken; train it again.")
    return Labelled(s, truth, p <= false_alarms), names


def _groups(data: Labelled, names: list[str]) -> dict[tuple[str, bool], NDArray[np.intp]]:
    """Positions of each kind's examples; a kind with both sorts of example stands twice."""
    if not names:
        return {}
    kinds = np.asarray(names)
    keys = sorted(set(zip(names, data.anomalous.tolist(), strict=True)), key=lambda key: (not key[1], key[0]))
    return {(name, odd): np.flatnonzero((kinds == name) & (data.anomalous == odd)) for name, odd in keys}


def _point(data: Labelled) -> Numbers:
    """The numbers themselves; those that need a class which is absent are left out."""
    values = {"accuracy": float((data.flagged == data.anomalous).mean())}
    if data.anomalous.any():
        values["recall"] = float(data.flagged[data.anomalous].mean())
        values["f1"] = float(f1_score(data.anomalous, data.flagged))
        if not data.anomalous.all():
            values["auroc"] = float(roc_auc_score(data.anomalous, data.score))
            values["average_precision"] = float(average_precision_score(data.anomalous, data.score))
            false, true, _ = roc_curve(data.anomalous, data.score, drop_intermediate=False)
            values["fpr_at_95_tpr"] = float(false[np.argmax(true >= 0.95)])
    return values


def _bootstrap(
    data: Labelled, groups: dict[tuple[str, bool], NDArray[np.intp]], seed: int, resamples: int
) -> dict[Any, NDArray[np.float64]]:
    """Every number on `resamples` resamples; the AUROC of kind k of anomalies stands under ("auroc", k)."""
    rng = np.random.default_rng(seed)
    _, rank = np.unique(data.score, return_inverse=True)
    levels = int(rank.max()) + 1
    odd, normal = np.flatnonzero(data.anomalous), np.flatnonzero(~data.anomalous)
    kinds = {name: rank[where] for (name, anomalous), where in groups.items() if anomalous and len(normal)}
    draws: dict[Any, list[float]] = {}
    for _ in range(resamples):
        positive, negative = (part[rng.integers(len(part), size=len(part))] for part in (odd, normal))
        numbers: dict[Any, float] = _decided(data.flagged[positive], data.flagged[negative])
        if len(negative):
            below = np.bincount(rank[negative], minlength=levels)
            # AUROC is the mean over anomalies of the share of normal scores below, where equal ones count half.
            placed = (np.cumsum(below) - below / 2) / len(negative)
            if len(positive):
                numbers["auroc"] = placed[rank[positive]].mean()
                numbers |= _ranked(np.bincount(rank[positive], minlength=levels), below)
            for kind, ranks in kinds.items():
                numbers["auroc", kind] = placed[ranks[rng.integers(len(ranks), size=len(ranks))]].mean()
        for name, value in numbers.items():
            draws.setdefault(name, []).append(float(value))
    return {name: np.asarray(values) for name, values in draws.items()}


def _decided(positive: NDArray[np.bool_], negative: NDArray[np.bool_]) -> Numbers:
    """Numbers of the verdicts on anomalies and on normal examples."""
    hits, alarms = int(positive.sum()), int(negative.sum())
    right = hits + len(negative) - alarms
    numbers = {"accuracy": right / (len(positive) + len(negative))}
    if len(positive):
        numbers |= {"recall": hits / len(positive), "f1": 2 * hits / (hits + alarms + len(positive))}
    return numbers


def _ranked(positive: NDArray[np.intp], negative: NDArray[np.intp]) -> Numbers:
    """Average precision and FPR at 95 % TPR from how many examples of each class stand at each score, rising."""
    true, false = np.cumsum(positive[::-1]), np.cumsum(negative[::-1])
    precision = true / np.maximum(true + false, 1)
    enough = np.argmax(20 * true >= 19 * true[-1])  # 95 % in whole numbers
    return {
        "average_precision": float(positive[::-1] @ precision) / true[-1],
        "fpr_at_95_tpr": false[enough] / false[-1],
    }


def _interval(value: float, draws: NDArray[np.float64]) -> Numbers:
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high)}


def _false_alarms(data: Labelled, asked: float, calibrated: int | None) -> dict[str, Any] | None:
    verdicts = data.flagged[~data.anomalous]
    if not len(verdicts):
        return None
    found = share(int(verdicts.sum()), len(verdicts))
    found |= {"asked": float(asked), "holds": found["low"] <= asked <= found["high"]}
    if calibrated is not None:
        # Given the calibration, the true rate follows Beta(k, n + 1 - k), k of n + 1 allowed.
        k = allowed(calibrated, asked)
        law = betabinom(len(verdicts), k, calibrated + 1 - k) if k else None
        low, high = law.ppf([0.025, 0.975]) / len(verdicts) if law else (0.0, 0.0)
        found["expected"] = {"low": float(low), "high": float(high)}
    return found


def _kind(
    data: Labelled, draws: dict[Any, NDArray[np.float64]], key: tuple[str, bool], where: NDArray[np.intp]
) -> dict[str, Any]:
    name, odd = key
    flagged = share(int(data.flagged[where].sum()), len(where))
    chosen = np.concatenate([where, np.flatnonzero(~data.anomalous)])
    known = odd and len(chosen) > len(where)
    value = float(roc_auc_score(data.anomalous[chosen], data.score[chosen])) if known else None
    auroc = None if value is None else _interval(value, draws["auroc", name])
    return {"kind": name, "anomalous": odd, "n": len(where), "flagged": flagged, "auroc": auroc}


def _counts(data: Labelled) -> dict[str, int]:
    odd, flagged = data.anomalous, data.flagged
    return {
        "examples": len(odd),
        "normal": int((~odd).sum()),
        "anomalous": int(odd.sum()),
        "flagged": int(flagged.sum()),
        "found": int((odd & flagged).sum()),
        "missed": int((odd & ~flagged).sum()),
        "false_alarms": int((~odd & flagged).sum()),
    }
