"""The section on a generator's opponent: what it still tells apart, and where its clipped weights lie."""

from __future__ import annotations

from html import escape
from typing import Any

from sparring.report import charts, words
from sparring.report.evidence import Evidence
from sparring.report.page import chart, table

SURE = 0.99  # share of each kind above which a discriminator is hardly ever fooled
GUESSED = 0.55  # share of pairs ranked rightly below which a critic hardly values one above the other
PILED = 0.5  # share of the weights at the bounds
FEW = 100  # examples of each kind below which nothing is said


def section(evidence: Evidence) -> str:
    """A table of what the opponent makes of unseen real and of made images, what is wrong with it, and its weights."""
    found = evidence.opponent
    if not found:
        return ""
    notices = "".join(f'<p class="notice">{escape(said)}</p>' for said in readings(found))
    clipped = found.get("clipping")
    figure = ""
    if clipped:
        caption = (
            f"Weights of the critic, and gains and biases, against the bounds of {clipped['bound']:g} that they are "
            "clipped to; the outermost bars take what lies beyond."
        )
        histogram = clipped["histogram"]
        drawn = charts.weights(histogram["shares"], histogram["edges"], clipped["bound"])
        figure = f'<div class="charts">{chart(drawn, "Histogram of the weights of the critic.", caption)}</div>'
    return notices + table(["Measure", "Value", "What it means"], rows(found), "metrics") + figure


def rows(found: dict[str, Any]) -> list[list[str]]:
    """Cells of the table."""
    shown = []
    if "ranked" in found:
        if found["real"] is not None:
            told = f"of {found['count']:,} that the discriminator never trained on; it takes the rest for made"
            shown.append(["Real taken for real", words.per_cent(found["real"]), told])
            told = f"of {found['count']:,}; the rest fool it. Half of each kind is guessing"
            shown.append(["Made taken for made", words.per_cent(found["made"]), told])
        meaning = (
            f"of all pairs of {found['count']:,} real examples that it never trained on and as many made ones, the "
            "real one is valued higher; 50 % is guessing, 100 % is never fooled"
        )
        shown.append(["Pairs ranked rightly", words.per_cent(found["ranked"]), meaning])
    if clipped := found.get("clipping"):
        meaning = f"of {clipped['count']:,}, within 2 % of the bounds of {clipped['bound']:g} or beyond"
        shown.append(["Weights at the bounds", words.per_cent(clipped["at_bounds"]), meaning])
    return [[escape(cell) for cell in cells] for cells in shown]


def readings(found: dict[str, Any]) -> list[str]:
    """Say what looks wrong, with what to try; thresholds stand in the text."""
    said = []
    if found.get("count", 0) >= FEW and found["real"] is not None and min(found["real"], found["made"]) > SURE:
        said.append(
            f"The discriminator is hardly ever fooled: it is right about {words.per_cent(found['real'])} of the real "
            f"and {words.per_cent(found['made'])} of the made examples, more than {SURE:.0%} of each. Its opponent is "
            "too weak, or learns too slowly: try a lower learning rate or less width for the discriminator, longer "
            "training, or a critic, which may be as good as it can (wgan_gp, r3gan)."
        )
    if found.get("count", 0) >= FEW and found["real"] is None and found["ranked"] < GUESSED:
        said.append(
            "The critic tells real from made no better than guessing: it ranks "
            f"{words.per_cent(found['ranked'])} of the pairs rightly, less than {GUESSED:.0%}. Either the generator "
            "has matched the data or the critic learns nothing; the images tell which. If they are poor, try a higher "
            "learning rate or more width for the critic, or more of its steps a round."
        )
    clipped = found.get("clipping")
    if clipped and clipped["at_bounds"] > PILED:
        said.append(
            f"{words.per_cent(clipped['at_bounds'])} of the critic's weights sit at the bounds of their clipping, more "
            f"than {PILED:.0%}: such a critic can be a simple function only. This is the known weakness of clipping "
            "(arXiv:1704.00028). Try wgan_gp, which needs none, or other bounds with --set clip=..."
        )
    return said
