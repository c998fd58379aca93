"""The sections of a report but the verdicts, each as HTML, or empty where there is nothing to show."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sparring.report import charts, reading, words
from sparring.report.evidence import Evidence, Example, pick
from sparring.report.page import chart, embedded, table

EARLIER = 6  # grids shown before the last
GROUPS = {
    "missed": ("Missed anomalies", "Real anomalies that pass as normal; the least strange first."),
    "false": ("False alarms", "Normal images that are flagged; the strangest first."),
    "strangest": ("Most strange", "The highest scores."),
    "plainest": ("Least strange", "The lowest scores."),
}


def facts(evidence: Evidence) -> str:
    rows = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in evidence.facts.items())
    return f"<dl>{rows}</dl>" if rows else ""


def notes(evidence: Evidence) -> str:
    return "".join(f'<p class="notice">{escape(note)}</p>' for note in evidence.notes)


def examples(evidence: Evidence) -> str:
    """Images that a person should look at, in groups."""
    shown = evidence.examples
    if not shown:
        return ""
    truth = [bool(e.anomalous) for e in shown] if all(e.anomalous is not None for e in shown) else None
    groups = pick([e.score for e in shown], [e.flagged for e in shown], truth)
    said = ""
    if any(e.heat is not None for e in shown):
        said = "<p>Beside each image stands the same in grey, where purple to yellow marks what looks strange.</p>"
    for name, (heading, meaning) in GROUPS.items():
        if chosen := groups.get(name):
            wide = " wide" if any(shown[i].heat is not None for i in chosen) else ""
            cards = "".join(_card(shown[i]) for i in chosen)
            said += f'<h3>{heading}</h3><p class="soft">{meaning}</p><div class="cards{wide}">{cards}</div>'
    return said


def training(evidence: Evidence) -> str:
    """Loss curves, one panel a player, norms of gradients, and what they say."""
    players = charts.players(evidence.journal)
    if not players:
        return ""
    rounds = max(line["round"] for line in evidence.journal)
    seconds = sum(line.get("seconds") or 0 for line in evidence.journal)
    speeds = [line["images_per_second"] for line in evidence.journal if line.get("images_per_second")]
    said = f"{rounds:,} rounds in {_duration(seconds)}"
    said += f", at a median of {words.number(float(np.median(speeds)))} images per second." if speeds else "."
    said += (
        " Adversaries push against each other, so losses need not fall: look for curves that stay level and do not "
        "run away from one another."
    )
    panels = "".join(
        chart(
            charts.losses(evidence.journal, player, terms),
            f"Loss terms of the {player} over the rounds: {', '.join(terms)}.",
            f"Losses of the {player}.",
        )
        for player, terms in players.items()
    )
    if any(line.get("gradient_norm") for line in evidence.journal):
        panels += chart(
            charts.norms(evidence.journal),
            "The l2 norm of each player's gradient over the rounds.",
            "Norms of the gradients. One that falls towards nothing means that its player no longer learns.",
        )
    if found := reading.wasserstein(evidence.journal):
        drawn = "a running median" if found.window > 1 else "each point a mean of all rounds since the one before"
        panels += chart(
            charts.estimate(found),
            "The critic's estimate of the Wasserstein distance over the rounds.",
            f"The critic's estimate of the Wasserstein distance, {drawn}; compare it within one recipe only.",
        )
    notices = "".join(f'<p class="notice">{escape(text)}</p>' for text in reading.readings(evidence.journal))
    return f'<p>{escape(said)}</p>{notices}<div class="charts">{panels}</div>'


def samples(evidence: Evidence) -> str:
    """What was made in training, or originals above their reconstructions: the last grid large, earlier ones small."""
    pictures = []
    for number, path in _spaced(sorted(evidence.samples, key=lambda sample: sample[0])):
        try:
            with Image.open(Path(path)) as image:
                image.load()
                pictures.append((number, image.copy()))
        except OSError:
            continue  # a picture that was removed or cut short is no reason to have no report
    if not pictures:
        return ""
    *earlier, (last, picture) = pictures
    said = (
        f'<figure><img src="{embedded(picture, 1000)}" alt="Grid of images after round {last:,}.">'
        f"<figcaption>After round {last:,}, the last.</figcaption></figure>"
    )
    if earlier:
        strip = "".join(
            f'<figure><img src="{embedded(image, 360)}" alt="Grid of images after round {number:,}.">'
            f"<figcaption>Round {number:,}</figcaption></figure>"
            for number, image in earlier
        )
        said = f'<div class="made">{said}<div><h3>How it came about</h3><div class="strip">{strip}</div></div></div>'
    return (f"<p>{escape(evidence.legend)}</p>" if evidence.legend else "") + said


def generation(evidence: Evidence) -> str:
    """Named numbers on what is generated, beside what training examples reach where that is known."""
    shown = {
        name: value if isinstance(value, dict) else {"value": value}
        for name, value in (evidence.generation or {}).items()
    }
    if not shown:
        return ""
    compared = any(found.get("reference") is not None for found in shown.values())
    rows = []
    for name, found in shown.items():
        cells = [str(name), _measured(found)]
        if compared:
            cells.append(_plain(found.get("reference")))
        rows.append([escape(cell) for cell in (*cells, str(found.get("note", "")))])
    return table(["Measure", "Value", *(["Training images"] if compared else []), "What it means"], rows, "metrics")


def nearest(evidence: Evidence) -> str:
    """Whether made images are copies, and the made images that lie closest to a training image."""
    if not evidence.nearest:
        return ""
    said = f"<p>{escape(evidence.nearest['verdict'])}</p>"
    for name, picture in evidence.nearest["pictures"].items():
        caption = f"By {name}: the made images closest to a training image, each above that training image."
        said += f'<figure><img src="{embedded(picture, 1000)}" alt="Pairs of images, closest by {escape(name)}.">'
        said += f"<figcaption>{escape(caption)}</figcaption></figure>"
    return said


def _measured(found: dict[str, Any]) -> str:
    """A value with its uncertainty."""
    text = _plain(found.get("value", found.get("mean", "")))
    if found.get("standard_error") is not None:
        text += f" ± {words.number(float(found['standard_error']), 2)}"
    if found.get("low") is not None and found.get("high") is not None:
        text += f" ({words.number(found['low'], 4)} to {words.number(found['high'], 4)})"
    return text


def _plain(value: Any) -> str:
    """A number with four digits, or a text."""
    if value is None:
        return ""
    return words.number(float(value), 4) if isinstance(value, (int, float)) else str(value)


def _card(example: Example) -> str:
    small = " small" if max(example.thumbnail.size) < 128 else ""
    pictures = f'<img src="{embedded(example.thumbnail, 256)}" alt="{escape(example.name)}">'
    if example.heat is not None:
        pictures += f'<img src="{embedded(example.heat, 256)}" alt="Heat map of {escape(example.name)}">'
    verdict = '<span class="flag">flagged</span>' if example.flagged else '<span class="pass">passes</span>'
    truth = {True: "anomalous", False: "normal", None: ""}[example.anomalous]
    kind = " · ".join(escape(text) for text in (example.kind, truth) if text)
    return (
        f'<div class="card"><div class="pair{small}">{pictures}</div><span class="name">{escape(example.name)}</span>'
        f"{kind + '<br>' if kind else ''}{verdict} · score {words.number(example.score, 4)}"
        f"<br>p-value {words.number(example.p_value)}</div>"
    )


def _spaced(chosen: list[tuple[int, Path]]) -> list[tuple[int, Path]]:
    """The first grids close together, where most happens, later ones ever farther apart, and the last."""
    if len(chosen) <= EARLIER + 1:
        return chosen
    where = [0]
    for position in np.geomspace(1, len(chosen), EARLIER + 1)[1:]:
        where.append(max(round(position) - 1, where[-1] + 1))
    return [chosen[i] for i in where]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{words.number(seconds, 2)} seconds"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} minute{'s' if minutes != 1 else ''}"
