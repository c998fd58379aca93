"""Numbers in words, for a reader who is not a statistician."""

from __future__ import annotations

from typing import Any

MEANING = {
    "auroc": (
        "AUROC",
        "Show the detector one anomaly and one normal image: how often the anomaly gets the higher score. "
        "1 is perfect, 0.5 is guessing.",
    ),
    "average_precision": (
        "Average precision",
        "Go down the list from the strangest image: the share of real anomalies so far, averaged over all "
        "anomalies. 1 is perfect; guessing gives the share of anomalies in the test set.",
    ),
    "fpr_at_95_tpr": (
        "False alarms at 95 % found",
        "To find 95 of 100 anomalies, this share of normal images would be flagged as well. 0 is perfect.",
    ),
    "recall": ("Anomalies found", "Of the real anomalies, the share that is flagged (recall)."),
    "f1": (
        "F1 of the verdicts",
        "One number for finding anomalies and being right when flagging one. 1 is perfect, 0 is useless.",
    ),
    "accuracy": ("Right verdicts", "Of all images, the share that is judged rightly (accuracy)."),
}
SHARES = ("fpr_at_95_tpr", "recall", "accuracy")  # are shown in per cent


def number(value: float, digits: int = 3) -> str:
    """A number of about `digits` significant digits, without superfluous zeros or exponents where it can be."""
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def per_cent(value: float) -> str:
    """A share as 4.8 %; shares close to 0 and 1 keep the digits that tell them from it."""
    percent = 100 * value
    for digits in (1, 2, 3):
        text = f"{percent:.{digits}f}"
        if float(text) not in (0, 100) or percent in (0, 100):
            break
    return ("0" if percent == 0 else "100" if percent == 100 else text) + " %"


def fixed(value: float, as_share: bool = False) -> str:
    """A metric: a share in per cent, or a number between 0 and 1 with three or four digits."""
    if as_share:
        return per_cent(value)
    if 0.99995 <= value < 1:
        return "> 0.9999"
    return f"{value:.3f}" if value < 0.995 or value == 1 else f"{value:.4f}"


def interval(found: dict[str, Any], as_share: bool = False) -> str:
    low, high = fixed(found["low"], as_share), fixed(found["high"], as_share)
    return f"{low.removesuffix(' %')} to {high}"


def odds(rate: float) -> str:
    """A small share in whole numbers: 0.05 is "5 in 100", 0.001 is "1 in 1,000"."""
    of = 100
    while rate * of < 0.995 and of < 1e9:
        of *= 10
    return f"{round(rate * of, 2):g} in {of:,}"


def promise(false_alarms: float, found: dict[str, Any] | None) -> str:
    """What the threshold promises, and whether this test set agrees."""
    said = f"Of normal images like those it was calibrated on, about {odds(false_alarms)} are flagged"
    if not found:
        return said + "; this test set holds no normal images to check it on."
    said += (
        f"; on this test set {found['count']:,} of {found['of']:,} were ({per_cent(found['value'])}, "
        f"95 % interval {interval(found, as_share=True)}), "
    )
    return said + agreement(found)


def agreement(found: dict[str, Any]) -> str:
    if found["holds"]:
        return "which agrees with the promise."
    more = found["value"] > found["asked"]
    said = f"which is {'more' if more else 'fewer'} than promised"
    expected = found.get("expected")
    if expected and expected["low"] <= found["value"] <= expected["high"]:
        return (
            f"{said}, but within what the luck of the calibration images explains "
            f"({interval(expected, as_share=True)}); more of them make the promise tighter."
        )
    if more:
        return said + ": these normal images look stranger than those it was calibrated on. Are they of the same kind?"
    return said + ": these normal images look plainer than those it was calibrated on, so it misses more than it must."


def found_of(counts: dict[str, int]) -> str:
    """How many anomalies were flagged, in a sentence."""
    if not counts["anomalous"]:
        return "This test set holds no anomalies, so it cannot tell how many the detector finds."
    return f"It flagged {counts['found']:,} of the {counts['anomalous']:,} anomalies and missed {counts['missed']:,}."
