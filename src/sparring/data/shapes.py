"""Captioned shapes that we draw ourselves, so that everything in an image is known: colour, shape, size, place, ground.

Some pairs of colour and shape are never drawn for training; they are the test split. A model that puts colours and
shapes together as its captions say makes them all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
from PIL import Image, ImageDraw

from sparring.data.arrays import names_of
from sparring.data.source import Pictures

SHAPES = "shapes"
VERSION = 1  # counts the changes to what is drawn
SIDE, FINER = 64, 4  # pixels of an image; it is drawn at FINER times the side and reduced
COUNTS = {"train": 10_000, "test": 2000, "all": 10_000}

COLOURS = {
    "red": (214, 40, 40), "orange": (245, 140, 25), "yellow": (250, 220, 50), "green": (40, 160, 70),
    "blue": (45, 80, 215), "purple": (130, 50, 165), "white": (250, 250, 250), "black": (15, 15, 15),
}  # fmt: skip
FORMS = ("circle", "square", "triangle", "cross", "star")
SIZES = {"small": 0.18, "large": 0.30}  # radius, as a share of the side
PLACES = {
    "in the centre": (0, 0), "on the left": (-1, 0), "on the right": (1, 0), "at the top": (0, -1),
    "at the bottom": (0, 1),
}  # fmt: skip
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS), "shape": FORMS, "size": tuple(SIZES), "place": tuple(PLACES), "ground": tuple(COLOURS),
}  # fmt: skip
UNSEEN = tuple((colour, FORMS[k % len(FORMS)]) for k, colour in enumerate(COLOURS))  # pairs that are held out
CAPTIONS = (
    "a {size} {colour} {shape} {place} on {ground}",
    "a {size} {colour} {shape} on {ground}",
    "a {colour} {shape} on a {ground} background",
    "{place} of a {ground} picture is a {colour} {shape}",
    "a {size} {shape} in {colour} {place}",
)


def shapes(split: str) -> Pictures:
    """Images 64x64x3 with five captions each, always the same.

    Args:
        split: "train" (10,000), or "test" (2,000) with the pairs of colour and shape that "train" lacks; "all"
            (10,000 others) has every pair, for classifiers of the attributes.
    """
    drawn = attributes(split)
    count = len(drawn["colour"])
    words = [{name: values[row] for name, values in drawn.items()} for row in range(count)]

    def opened(rows: np.ndarray) -> Iterator[np.ndarray]:
        for row in rows:
            yield picture(words[row], np.random.default_rng([VERSION, *split.encode(), int(row)]))

    return Pictures(
        name=SHAPES, split=split, names=names_of(SHAPES, split, count),
        captions=tuple(tuple(caption.format(**word) for caption in CAPTIONS) for word in words),
        opened=opened, alike=(SIDE, SIDE, False), stamp=[SHAPES, VERSION, split],
    )  # fmt: skip


def attributes(split: str) -> dict[str, Sequence[str]]:
    """What each image of a split shows, by attribute: one of `ATTRIBUTES` an image. The ground has another colour."""
    random = np.random.default_rng([VERSION, *split.encode()])
    count = COUNTS[split]
    held = split == "test"
    pairs = [pair for pair in product(COLOURS, FORMS) if split == "all" or (pair in UNSEEN) == held]
    drawn = [pairs[k] for k in random.permutation(np.arange(count) % len(pairs))]
    found: dict[str, Sequence[str]] = {
        "colour": [colour for colour, _ in drawn],
        "shape": [form for _, form in drawn],
        **{name: [ATTRIBUTES[name][k] for k in random.integers(len(ATTRIBUTES[name]), size=count)]
           for name in ("size", "place")},
    }  # fmt: skip
    palette = list(COLOURS)
    steps = random.integers(1, len(palette), size=count)  # away from the colour of the shape
    grounds = [palette[(palette.index(colour) + k) % len(palette)] for (colour, _), k in zip(drawn, steps, strict=True)]
    return found | {"ground": grounds}


def picture(words: Mapping[str, str], random: np.random.Generator) -> np.ndarray:
    """Draw an image (64, 64, 3) uint8 of these attributes; position, size and colours vary a little."""
    side = SIDE * FINER
    radius = SIZES[words["size"]] * side * random.uniform(0.92, 1.08)
    x, y = (
        side / 2 + step * (side / 2 - radius) * 0.8 + random.uniform(-0.02, 0.02) * side
        for step in PLACES[words["place"]]
    )
    colour, ground = (
        tuple(int(v) for v in np.clip(np.array(COLOURS[words[name]]) + random.integers(-10, 11, 3), 0, 255))
        for name in ("colour", "ground")
    )
    image = Image.new("RGB", (side, side), ground)
    pen = ImageDraw.Draw(image)
    if words["shape"] == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    else:
        pen.polygon([(x + radius * a, y + radius * b) for a, b in OUTLINES[words["shape"]]], fill=colour)
    return np.asarray(image.reduce(FINER))


def ring(points: int, turn: float, radii: tuple[float, ...] = (1.0,)) -> list[tuple[float, float]]:
    """Points on a circle, or in turns on several, the first at this angle."""
    angles = [turn + 2 * math.pi * k / points for k in range(points)]
    return [(radii[k % len(radii)] * math.cos(a), radii[k % len(radii)] * math.sin(a)) for k, a in enumerate(angles)]


ARM = 0.33  # half-width of the arms of a cross
OUTLINES = {
    "square": ring(4, math.pi / 4, (1.2,)),
    "triangle": ring(3, -math.pi / 2, (1.15,)),
    "star": ring(10, -math.pi / 2, (1.15, 0.5)),
    "cross": [(ARM, -1), (ARM, -ARM), (1, -ARM), (1, ARM), (ARM, ARM), (ARM, 1), (-ARM, 1), (-ARM, ARM), (-1, ARM),
              (-1, -ARM), (-ARM, -ARM), (-ARM, -1)],
}  # fmt: skip


def asked(caption: str) -> dict[str, str]:
    """The attributes that a caption asks for, by name; those that it does not mention are left out."""
    text = f" {' '.join(caption.lower().replace(',', ' ').split())} "
    found: dict[str, str] = {}
    for name in ("shape", "size", "place"):
        found.update((name, value) for value in ATTRIBUTES[name] if f" {value} " in text)
    for name in COLOURS:
        if any(f" {before}{name} {after}" in text for before, after in GROUND):
            found["ground"] = name
        elif f" {name} " in text:
            found["colour"] = name
    return found


GROUND = (("on ", ""), ("on a ", "background"), ("of a ", "picture"))  # what stands around the colour of the ground
