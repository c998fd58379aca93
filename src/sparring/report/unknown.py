"""The section on open-set recognition: what was called unknown, from which class, and what known it resembles."""

from __future__ import annotations

from html import escape
from typing import Any

from PIL import Image

from sparring.report.evidence import Evidence, Unknown
from sparring.report.page import embedded, table

SIDE = 96  # pixels of an image
MEASURES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "unknown_accepted_at_95": "unknown accepted where 95 % of the known are",
    "oscr": "OSCR",
    "closed_accuracy": "accuracy on known classes",
    "f1": "F1 over known classes and unknown",
    "rejected_known": "known called unknown",
}


def recognition(evidence: Evidence) -> str:
    """The measures beside those of other detectors, and the examples that were called unknown."""
    said = ""
    if found := evidence.recognition:
        beside = found.get("baselines", {})
        rows = [(name, *map(_number, _values(part))) for name, part in {"this model": found, **beside}.items()]
        said += table(("", *MEASURES.values()), rows)
    if evidence.unknown:
        said += "<h3>Called unknown</h3>"
        said += '<p class="soft">The strangest first; beside each the most similar known examples.</p>'
        said += "".join(map(_row, evidence.unknown))
    return said


def _values(found: dict[str, Any]) -> list[float]:
    return [found[name] for name in MEASURES]


def _number(value: float) -> str:
    return f"{value:.3f}"


def _row(one: Unknown) -> str:
    """One example, with what it is, what it would have been called, and its neighbours."""
    kind = f"is {escape(one.kind)}, " if one.kind else ""
    words = f"{escape(one.name)}: {kind}would be {escape(one.predicted)}; p = {one.p_value:.3g}"
    near = "".join(f"<li>{_image(image)} {escape(kind or name)}</li>" for name, kind, image in one.nearest)
    return f"<p>{_image(one.image)} {words}</p><ul>{near}</ul>"


def _image(image: Image.Image | None) -> str:
    return "" if image is None else f'<img src="{embedded(image, SIDE)}" alt="" width="48">'
