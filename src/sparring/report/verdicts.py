"""The sections on how well a detector tells anomalies from normal images."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from sparring.metrics.conformal import Calibration
from sparring.report import charts, words
from sparring.report.evidence import Evidence
from sparring.report.page import chart, table, tile

PIXELS = {"pixel_auroc": "Pixel AUROC", "aupro": "AUPRO"}


def verdict(evidence: Evidence) -> str:
    """How well it tells anomalies from normal images: promise, tiles, table, curves."""
    found = evidence.detection
    if not found:
        return ""
    alarms, counts = found["false_alarms"], found["counts"]
    holds = " holds" if alarms and alarms["holds"] else ""
    said = f'<p class="notice{holds}">{escape(words.promise(found["asked"], alarms))}</p>' + warning(evidence)
    said = _tiles(evidence) + said + f"<p>{escape(words.found_of(counts))}</p>"
    return said + _curves(evidence) + _metrics(evidence) + _kinds(found) + _beside(evidence)


def warning(evidence: Evidence) -> str:
    """Say so where there are too few calibration images for any alarm."""
    if evidence.calibration is None or evidence.asked is None:
        return ""
    text = Calibration(evidence.calibration).warning(evidence.asked)
    return f'<p class="notice">{escape(text)}</p>' if text else ""


def spread(evidence: Evidence) -> str:
    """The histogram of scores where there is no judgement to show it with."""
    if evidence.detection or evidence.scores is None or not len(evidence.scores):
        return ""
    said = warning(evidence)
    if evidence.asked is not None:
        said = f"<p>{escape(words.promise(evidence.asked, None).partition(';')[0])}.</p>" + said
    return said + f'<div class="charts">{_histogram(evidence)}</div>'


def _tiles(evidence: Evidence) -> str:
    found: dict[str, Any] = evidence.detection or {}
    said = ""
    for key in ("auroc", "recall"):
        if found[key]:
            share = key in words.SHARES
            name, value = words.MEANING[key][0], words.fixed(found[key]["value"], share)
            said += tile(name, value, f"95 %: {words.interval(found[key], share)}")
    if alarms := found["false_alarms"]:
        below = f"{words.per_cent(alarms['asked'])} asked for"
        said += tile("False alarms", words.per_cent(alarms["value"]), below)
    if evidence.pixel_auroc is not None:
        said += tile("Pixel AUROC", words.fixed(evidence.pixel_auroc), "damaged against sound pixels")
    if evidence.aupro is not None:
        said += tile("AUPRO", words.fixed(evidence.aupro), "damaged regions covered")
    return f'<div class="tiles">{said}</div>' if said else ""


def _curves(evidence: Evidence) -> str:
    if evidence.scores is None or not len(evidence.scores):
        return ""
    said = _histogram(evidence)
    truth = None if evidence.anomalous is None else np.asarray(evidence.anomalous, dtype=bool)
    found = evidence.detection
    if truth is not None and truth.any() and not truth.all():
        at_roc = at_pr = None
        if found and found["recall"] and found["false_alarms"]:
            recall, flagged = found["recall"]["value"], found["counts"]["flagged"]
            at_roc = found["false_alarms"]["value"], recall
            at_pr = (recall, found["counts"]["found"] / flagged) if flagged else None
        said += chart(
            charts.receiver(evidence.scores, truth, at_roc),
            "ROC curve: anomalies found against normal images flagged.",
            "ROC curve. Each point is a threshold; the closer to the upper left corner, the better.",
        )
        said += chart(
            charts.precision(evidence.scores, truth, at_pr),
            "Precision-recall curve: share of right flags against anomalies found.",
            "Precision-recall curve. Of what is flagged, how much is really anomalous; the higher, the better.",
        )
    return f'<div class="charts">{said}</div>'


def _histogram(evidence: Evidence) -> str:
    assert evidence.scores is not None
    threshold = None
    if evidence.calibration is not None and evidence.asked is not None:
        threshold = Calibration(evidence.calibration).threshold(evidence.asked)
    caption = "How the scores are spread; each group adds up to 100 %."
    if threshold is not None and np.isfinite(threshold):
        caption += f" Right of the threshold, {words.number(threshold, 4)}, an image is flagged."
    if evidence.calibration is not None:
        caption += " The outline is the normal images of the calibration."
    draw = charts.histogram(evidence.scores, evidence.anomalous, evidence.calibration, threshold)
    return chart(draw, "Histogram of the scores.", caption)


def _metrics(evidence: Evidence) -> str:
    found: dict[str, Any] = evidence.detection or {}
    rows = []
    for key, (name, meaning) in words.MEANING.items():
        if found[key]:
            share = key in words.SHARES
            rows.append([name, _measured(found[key], share), meaning])
    if evidence.pixel_auroc is not None:
        meaning = "As AUROC, for one damaged and one sound pixel: whether the heat maps point at the damage."
        rows.append(["Pixel AUROC", f"<b>{escape(words.fixed(evidence.pixel_auroc))}</b>", meaning])
    if evidence.aupro is not None:
        meaning = (
            "How much of a damaged region the heat map covers, small regions counting as much as large ones, while "
            "at most 30 % of the sound pixels are marked; the mean over that range."
        )
        rows.append(["AUPRO", f"<b>{escape(words.fixed(evidence.aupro))}</b>", meaning])
    said = (
        '<p class="soft">Another test set of this size would give somewhat other numbers: the 95 % interval shows '
        "by how much.</p>"
    )
    return "<h3>All numbers</h3>" + said + table(["Measure", "Value, 95 % interval", "What it means"], rows, "metrics")


def _beside(evidence: Evidence) -> str:
    """Simple detectors on the same examples, for comparison."""
    if not evidence.baselines or not evidence.detection:
        return ""
    own = {**evidence.detection, "pixel_auroc": evidence.pixel_auroc, "aupro": evidence.aupro}
    rows = []
    for name, found in {"this model": own, **evidence.baselines}.items():
        pixels = ["" if (value := found.get(key)) is None else escape(words.fixed(value)) for key in PIXELS]
        ranked = _measured(found["auroc"]) if found["auroc"] else ""
        alarms = _measured(found["false_alarms"], share=True) if found["false_alarms"] else ""
        rows.append([escape(name), ranked, *pixels, alarms])
    said = '<p class="soft">Fitted and calibrated on the same normal images; they see pixels only.</p>'
    head = ["Detector", "AUROC", *PIXELS.values(), "False alarms"]
    return "<h3>Beside simple detectors</h3>" + said + table(head, rows)


def _kinds(found: dict[str, Any]) -> str:
    if not found["kinds"]:
        return ""
    rows = []
    for kind in found["kinds"]:
        flagged, odd = kind["flagged"], kind["anomalous"]
        ranked = _measured(kind["auroc"]) if kind["auroc"] else ""
        bar = f'<span class="bar{" odd" if odd else ""}"><i style="width:{100 * flagged["value"]:.1f}%"></i></span>'
        name = escape(kind["kind"]) + ("" if odd else ' <span class="soft">normal</span>')
        rows.append([name, f"{kind['n']:,}", words.per_cent(flagged["value"]) + bar, ranked])
    said = '<p class="soft">Of normal kinds few should be flagged, of all others as many as possible.</p>'
    return "<h3>By kind</h3>" + said + table(["Kind", "Images", "Flagged", "AUROC against normal, 95 % interval"], rows)


def _measured(found: dict[str, float], share: bool = False) -> str:
    value, spread = words.fixed(found["value"], share), words.interval(found, share)
    return f'<b>{escape(value)}</b> <span class="soft n">{escape(spread)}</span>'
