"""From single outcomes to a table: means over tasks and seeds, how sure they are, and how calm the trainings were."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray
from scipy.stats import beta

from sparring.errors import UserError
from sparring.metrics.baselines import SHORT
from sparring.metrics.resampling import ranked, resamples

LAST = 10  # looks at the end of a phase that tell how calm it was
RANKED = ("auroc", "average_precision")
PLAIN = ("pixel_auroc", "aupro", "train_seconds", "scored_per_second")  # are averaged, where they are there
Outcome = dict[str, Any]
Draws = dict[str, NDArray[np.float64]]


def standings(outcomes: Sequence[Outcome], scores: Sequence[Path], count: int = 1000) -> dict[str, Any]:
    """Rank the entrants of a comparison.

    Args:
        outcomes: Of each task: "entrant", "normal", "seed", "detection", "looks" and the rest of evaluation.json.
        scores: The table of scores of each.
        count: Resamples of the bootstrap.

    Returns:
        "groups" and "seeds"; "entrants" by name, the best first, with

        * "auroc", "average_precision": mean "value" over groups and seeds, 95 % interval "low", "high" by other test
          examples with the trainings as they are, and "spread", the standard deviation over seeds (None for one);
        * "false_alarms": mean share over groups and seeds, with the exact 95 % interval of one test set's size;
        * "ahead": AUROC minus that of the best simple detector, "of", with the interval of the paired difference;
        * "pixel_auroc", "aupro", "train_seconds", "scored_per_second": means, None where there are none;
        * "groups": AUROC by group, likewise; "phases": see `calm`.
    """
    groups = list(dict.fromkeys("+".join(o["normal"]) for o in outcomes))
    names = list(dict.fromkeys(o["entrant"] for o in outcomes))
    drawn: NDArray[np.integer] | None = None
    judged: list[str] = []
    draws: list[Draws] = []
    for outcome, path in zip(outcomes, scores, strict=True):
        table = pyarrow.parquet.read_table(path).to_pydict()
        if drawn is None:
            judged, drawn = table["class"], resamples(table["class"], count)
        if table["class"] != judged:
            raise UserError(
                f"'{path.parent}' was judged on other examples than the rest: remove it, and compare again."
            )
        odd = np.array([kind not in outcome["normal"] for kind in table["class"]])
        draws.append(dict(zip(RANKED, ranked(table["score"], odd, drawn), strict=True)))
    rows = {name: [k for k, o in enumerate(outcomes) if o["entrant"] == name] for name in names}
    found = {name: _entrant([outcomes[k] for k in ks], [draws[k] for k in ks], groups) for name, ks in rows.items()}
    means = {name: np.mean([draws[k]["auroc"] for k in ks], axis=0) for name, ks in rows.items()}
    _ahead(found, means)
    order = sorted(names, key=lambda name: -found[name]["auroc"]["value"])
    seeds = sorted({o["seed"] for o in outcomes})
    return {"groups": groups, "seeds": seeds, "resamples": count, "entrants": {name: found[name] for name in order}}


def _entrant(outcomes: Sequence[Outcome], draws: Sequence[Draws], groups: Sequence[str]) -> dict[str, Any]:
    """All numbers of one entrant."""
    found: dict[str, Any] = {name: _mean(outcomes, draws, name) for name in RANKED}
    found["false_alarms"] = _alarms(outcomes)
    for name in PLAIN:
        values = [o[name] for o in outcomes if o.get(name) is not None]
        found[name] = statistics.fmean(values) if values else None
    found["groups"] = {}
    for group in groups:
        own = [k for k, o in enumerate(outcomes) if "+".join(o["normal"]) == group]
        found["groups"][group] = _mean([outcomes[k] for k in own], [draws[k] for k in own], "auroc")
    found["phases"] = calm(outcomes)
    return found


def _mean(outcomes: Sequence[Outcome], draws: Sequence[Draws], name: str) -> dict[str, Any]:
    """The mean of a number, its interval by other examples, and its spread by other seeds."""
    seeds = sorted({o["seed"] for o in outcomes})
    by_seed = [statistics.fmean(o["detection"][name]["value"] for o in outcomes if o["seed"] == seed) for seed in seeds]
    low, high = np.quantile(np.mean([d[name] for d in draws], axis=0), [0.025, 0.975])
    spread = statistics.stdev(by_seed) if len(seeds) > 1 else None
    return {"value": statistics.fmean(by_seed), "low": float(low), "high": float(high), "spread": spread}


def _alarms(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Realised false alarms: the mean over seeds, with the exact interval of one test set, for they share it."""
    alarms = [o["detection"]["false_alarms"] for o in outcomes]
    seeds = len({o["seed"] for o in outcomes})
    count, of = sum(a["count"] for a in alarms) / seeds, sum(a["of"] for a in alarms) / seeds
    low = float(beta.ppf(0.025, count, of - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, of - count)) if count < of else 1.0
    asked = alarms[0]["asked"]
    return {"value": count / of, "low": low, "high": high, "asked": asked, "holds": low <= asked <= high}


def _ahead(found: dict[str, dict[str, Any]], means: dict[str, NDArray[np.float64]]) -> None:
    """How far each entrant is ahead of the best simple detector, on the same examples."""
    simple = [name for name in found if name in SHORT]
    best = max(simple, key=lambda name: found[name]["auroc"]["value"], default=None)
    for name in found:
        found[name]["ahead"] = None
        if best is not None and name != best:
            low, high = np.quantile(means[name] - means[best], [0.025, 0.975])
            value = found[name]["auroc"]["value"] - found[best]["auroc"]["value"]
            found[name]["ahead"] = {"of": best, "value": value, "low": float(low), "high": float(high)}


def calm(outcomes: Sequence[Outcome]) -> dict[str, dict[str, dict[str, float | None]]]:
    """How AUROC moves over the last looks of each phase: mean and standard deviation, averaged over the trainings.

    Returns:
        By phase, and in it for "select" and "report" where they were looked at: "mean", "deviation", "looks", the
        smallest number of looks that these are of, 10 at most, and "apart", epochs from look to look (None: not noted).
    """
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for phase in dict.fromkeys(look["phase"] for o in outcomes for look in o["looks"]):
        found[phase] = {}
        for part in ("select", "report"):
            series = [
                (
                    o.get("epochs", {}).get(phase),
                    [k for k in o["looks"] if k["phase"] == phase and k[part] is not None][-LAST:],
                )
                for o in outcomes
                if o["looks"]
            ]
            ends = [(epoch, looks) for epoch, looks in series if len(looks) > 1]
            if ends:
                values = [[look[part] for look in looks] for _, looks in ends]
                apart = [
                    (looks[-1]["round"] - looks[0]["round"]) / (len(looks) - 1) / epoch
                    for epoch, looks in ends
                    if epoch is not None
                ]
                found[phase][part] = {
                    "mean": statistics.fmean(map(statistics.fmean, values)),
                    "deviation": statistics.fmean(map(statistics.stdev, values)),
                    "looks": min(map(len, values)),
                    "apart": statistics.fmean(apart) if apart else None,
                }
    return found
