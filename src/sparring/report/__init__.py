"""One HTML file that shows what a run is worth, to be opened anywhere and kept."""

from __future__ import annotations

from html import escape
from pathlib import Path

from sparring.files import write_text
from sparring.report import opponent, sections, unknown, verdicts
from sparring.report.evidence import Evidence, Example, Unknown, pick
from sparring.report.page import page

__all__ = ["Evidence", "Example", "Unknown", "pick", "write_report"]

ORDER = (
    ("notes", "To be known", sections.notes),
    ("detection", "Verdicts", verdicts.verdict),
    ("scores", "Scores", verdicts.spread),
    ("recognition", "Known and unknown", unknown.recognition),
    ("examples", "Images to look at", sections.examples),
    ("samples", "What the model makes", sections.samples),
    ("generation", "Quality of what it makes", sections.generation),
    ("nearest", "Closest to the training images", sections.nearest),
    ("opponent", "Its opponent", opponent.section),
    ("training", "Training", sections.training),
    ("facts", "How it was made", sections.facts),
)


def write_report(path: str | Path, evidence: Evidence) -> None:
    """Write the evidence as one HTML file that loads nothing from elsewhere, whole or not at all.

    Raises:
        UserError: When the file cannot be written.
    """
    shown = [(anchor, heading, html) for anchor, heading, make in ORDER if (html := make(evidence))]
    named = [evidence.facts[key] for key in ("model", "data", "date") if evidence.facts.get(key)]
    lead = f'<p class="soft">{escape(" · ".join(map(str, named)))}</p>' if named else ""
    write_text(Path(path), page(evidence.title, lead, shown))
