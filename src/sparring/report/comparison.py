"""A comparison on paper: a page, a table in Markdown, and every outcome as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from sparring.files import write_text
from sparring.report import charts, words
from sparring.report.page import chart, page, table

Cells = tuple[list[str], list[list[str]]]  # headings, and rows of plain text
HEAD = ("Detector", "AUROC", "Average precision", "False alarms", "Pixel AUROC", "AUPRO", "Learns, s", "Scores / s")
COLUMNS = ("entrant", "normal", "seed", "auroc", "auroc_low", "auroc_high", "average_precision", "false_alarms",
         "pixel_auroc", "aupro", "train_seconds", "scored_per_second")  # fmt: skip
PARTS = {"select": "examples held out of training", "report": "the reported examples, which choose nothing"}


def write_comparison(folder: Path, found: dict[str, Any], outcomes: Sequence[dict[str, Any]]) -> None:
    """Write comparison.json, .md and .csv and report.html.

    Args:
        found: What `sparring.comparison.settle` gathers.
        outcomes: Of each task, what its evaluation.json holds.
    """
    write_text(folder / "comparison.json", json.dumps(found, indent=1) + "\n")
    write_text(folder / "comparison.md", markdown(found))
    write_text(folder / "comparison.csv", listed(outcomes))
    parts = [
        ("table", "Who is ahead", _numbers(found)),
        ("groups", "By normal class", _groups(found)),
        ("curves", "AUROC while they learn", _curves(found, outcomes)),
    ]
    lead = '<p class="soft">All learnt from the same normal examples and were calibrated on the same others.</p>'
    title = f"Detectors on {Path(found['data']).name}"
    write_text(folder / "report.html", page(title, lead, [part for part in parts if part[2]]))


def terms(found: dict[str, Any]) -> str:
    """The conditions, and what the uncertainties are of."""
    seeds = len(found["seeds"])
    return " ".join([_conditions(found, seeds), *found.get("notes", [])])


def _conditions(found: dict[str, Any], seeds: int) -> str:
    return (
        f"Learnt from '{found['split']}' of {found['data']}, judged on '{found['on']}', with {seeds} "
        f"seed{'s' if seeds > 1 else ''}; normal: {', '.join(found['groups'])}. Intervals are 95 %, of the mean over "
        f"classes and seeds, by {found['resamples']:,} resamples of the judged examples; ± is the standard deviation "
        f"over seeds. A fifth of the normal examples is held out for calibration; {words.per_cent(found['asked'])} "
        "false alarms were asked for."
    )


def numbers(found: dict[str, Any]) -> Cells:
    """One row an entrant, the best first; columns that are empty are left out."""
    rows = []
    for name, one in found["entrants"].items():
        alarms = one["false_alarms"]
        told = f"{words.per_cent(alarms['value'])} ({words.interval(alarms, as_share=True)})"
        pixels = ["" if one[key] is None else words.fixed(one[key]) for key in ("pixel_auroc", "aupro")]
        speeds = ["" if one[key] is None else words.number(one[key]) for key in ("train_seconds", "scored_per_second")]
        rows.append([name, _with_spread(one["auroc"]), _with_spread(one["average_precision"]), told, *pixels, *speeds])
    kept = [k for k in range(len(HEAD)) if any(row[k] for row in rows)]
    return [HEAD[k] for k in kept], [[row[k] for k in kept] for row in rows]


def _with_spread(one: dict[str, Any]) -> str:
    spread = "" if one["spread"] is None else f" ± {one['spread']:.3f}"
    return f"{words.fixed(one['value'])}{spread} ({words.interval(one)})"


def by_group(found: dict[str, Any]) -> Cells:
    """AUROC by normal class: a heading and rows; empty for one class."""
    if len(found["groups"]) < 2:
        return [], []
    entrants = found["entrants"]
    rows = [
        [group, *(words.fixed(one["groups"][group]["value"]) for one in entrants.values())] for group in found["groups"]
    ]
    return ["Normal", *entrants], rows


def calmness(found: dict[str, Any]) -> Cells:
    """How AUROC moved at the end of each phase: a heading and rows."""
    rows = []
    for name, one in found["entrants"].items():
        for phase, parts in one["phases"].items():
            for part, seen in parts.items():
                told = f"{words.fixed(seen['mean'])} ± {seen['deviation']:.4f}"
                apart = "" if seen["apart"] is None else f"{seen['apart']:.2g}"
                rows.append([name, phase, PARTS[part], told, str(seen["looks"]), apart])
    return ["Detector", "Phase", "On", "Last looks, mean ± deviation", "Looks", "Epochs from look to look"], rows


def markdown(found: dict[str, Any]) -> str:
    """The tables as Markdown."""
    made = [_table(head, rows) for head, rows in (numbers(found), by_group(found), calmness(found)) if rows]
    return "\n\n".join([terms(found), *made]) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def listed(outcomes: Sequence[dict[str, Any]]) -> str:
    """Every outcome as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore", restval="")
    writer.writeheader()
    for one in outcomes:
        ranked = one["detection"]["auroc"]
        told = {"auroc": ranked["value"], "auroc_low": ranked["low"], "auroc_high": ranked["high"]}
        told |= {name: one["detection"][name]["value"] for name in ("average_precision", "false_alarms")}
        writer.writerow({**one, **told, "normal": "+".join(one["normal"])})
    return text.getvalue()


def _numbers(found: dict[str, Any]) -> str:
    said = _html(numbers(found)) + f'<p class="soft">{escape(terms(found))}</p>'
    ahead = {name: one["ahead"] for name, one in found["entrants"].items() if one["ahead"]}
    if ahead:
        best = next(iter(ahead.values()))["of"]
        told = [[escape(name), f"{a['value']:+.3f} ({a['low']:+.3f} to {a['high']:+.3f})"] for name, a in ahead.items()]
        said += f"<h3>Ahead of {escape(best)}, the best simple detector</h3>" + table(["Detector", "AUROC"], told)
    return said


def _groups(found: dict[str, Any]) -> str:
    return _html(by_group(found))


def _html(cells: Cells) -> str:
    head, rows = cells
    return table(head, [[escape(cell) for cell in row] for row in rows]) if rows else ""


def _curves(found: dict[str, Any], outcomes: Sequence[dict[str, Any]]) -> str:
    shown = {name: [o["looks"] for o in outcomes if o["entrant"] == name and o["looks"]] for name in found["entrants"]}
    said = "".join(
        chart(over_rounds(looks), f"AUROC of {name} at every look of its training.", f"{name}: one line a training.")
        for name, looks in shown.items()
        if looks
    )
    if not said:
        return ""
    told = (
        "A steady detector is as good whichever epoch ends its training. Solid: examples held out of training, "
        "normal ones and, as anomalies, other classes of the same split. Dotted: the examples that are reported on; "
        "they are shown, and choose nothing. Vertical lines part the phases."
    )
    return f'<p>{told}</p><div class="charts">{said}</div>{_html(calmness(found))}'


def over_rounds(trainings: Sequence[Sequence[dict[str, Any]]]) -> charts.Draw:
    """AUROC over the rounds of several trainings, and where their phases end."""

    def draw(axes: Axes, theme: charts.Theme) -> None:
        styles = {"select": ("-", theme.curves[0], "held out"), "report": (":", theme.curves[1], "reported on")}
        for part, (style, colour, label) in styles.items():
            for looks in trainings:
                points = [(look["round"], look[part]) for look in looks if look[part] is not None]
                if points:
                    axes.plot(*np.array(points).T, style, color=colour, linewidth=1.2, alpha=0.8, label=label)
                    label = "_" + label.lstrip("_")  # one entry in the legend
        names = list(dict.fromkeys(look["phase"] for look in trainings[0]))
        ends = [max(look["round"] for look in trainings[0] if look["phase"] == name) for name in names]
        for begin, end, name in zip([0, *ends], ends, names, strict=False):
            if begin:
                axes.axvline(begin, color=theme.ink, linewidth=0.8)
            if len(names) > 1:
                axes.text((begin + end) / 2, 0.02, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom")
        charts.label_rounds(axes, "AUROC")
        axes.legend(ncols=2, **charts.LEGEND)

    return draw
