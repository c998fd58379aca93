"""Two domains within one set of data: the halves of images, an image and what is made of it, or classes.

Where the second domain is made of the first, or stands beside it, the pairs are known. A training never sees both
parts of a pair: it takes domain A from one half of the examples and domain B from the other. To judge by, both
domains are made of all examples, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sparring.data.decode import Picture, viewed
from sparring.data.source import Examples, Pictures
from sparring.errors import UserError, unknown

INK, GROUND = (250, 204, 21), (20, 24, 82)  # what white and black become in colour
STEEP = 32.0  # grey levels a pixel at which an edge is black

Change = Callable[[np.ndarray], np.ndarray]


def inverted(pixels: np.ndarray) -> np.ndarray:
    """The negative of an image (H, W, C) uint8."""
    return 255 - pixels


def rotated(pixels: np.ndarray) -> np.ndarray:
    """An image turned left by 90 degrees."""
    return np.ascontiguousarray(np.rot90(pixels))


def coloured(pixels: np.ndarray) -> np.ndarray:
    """Yellow on blue for white on black; the image has 3 channels."""
    share = pixels.mean(2, keepdims=True) / 255
    return np.rint(share * np.array(INK) + (1 - share) * np.array(GROUND)).astype(np.uint8)


def edges(pixels: np.ndarray) -> np.ndarray:
    """Dark lines on white where the brightness changes."""
    from scipy.ndimage import gaussian_gradient_magnitude

    slope = gaussian_gradient_magnitude(pixels.mean(2), 0.7, mode="nearest")
    lines = np.rint(255 * (1 - (slope / STEEP).clip(0, 1))).astype(np.uint8)
    return np.repeat(lines[..., None], pixels.shape[2], 2)


RULES: dict[str, tuple[Change | None, Change | None]] = {  # what makes A and B of an image; None leaves it alone
    "inverted": (None, inverted),
    "rotated": (None, rotated),
    "coloured": (None, coloured),
    "edges": (edges, None),
}
HALVES = "halves"
NAMES = (HALVES, *RULES)


@dataclass(frozen=True)
class Domain:
    """One of two domains within data.

    Args:
        rule: "halves" (of each image: A left, B right), a name in `RULES`, or classes of A and of B, as in "0,1:2,3".
        second: Domain B instead of A.
        apart: Where pairs are known, take a half of the examples, so that no pair is in both domains.

    Raises:
        UserError: For a rule that does not exist.
    """

    rule: str
    second: bool = False
    apart: bool = False

    def __post_init__(self) -> None:
        if ":" not in self.rule and self.rule not in NAMES:
            raise unknown("way to make two domains", self.rule, (*NAMES, "CLASSES:CLASSES, such as 0,1:2,3"))

    @property
    def channels(self) -> int | None:
        """How many the images must have."""
        return 3 if self.rule == "coloured" else None

    def of(self, examples: Examples) -> Examples:
        """The examples of this domain, in their old order and under their old names.

        Raises:
            UserError: Where that is none, or the examples cannot be divided in this way.
        """
        if ":" in self.rule:
            wanted = self.rule.partition(":")[2 if self.second else 0]
            return examples.of([name.strip() for name in wanted.split(",") if name.strip()])
        if not isinstance(examples, Pictures):
            raise UserError(f"'{examples.name}' holds vectors, and --domains {self.rule} is for images: leave it out.")
        if self.apart:
            first = first_half(examples)
            if not first.any():
                raise UserError(f"'{examples.name}' holds too few images for two domains: give at least 2 of a class.")
            examples = examples.take(~first if self.second else first)
        half = int(self.second) if self.rule == HALVES else None
        change = None if self.rule == HALVES else RULES[self.rule][self.second]
        if half is None and change is None:
            return examples
        stamp: Any = None if examples.stamp is None else [examples.stamp, self.rule, self.second]
        opened = partial(changed, examples.opened, half, change)
        return replace(examples, opened=opened, stamp=stamp, array=None, alike=None, originals=None, masks=None)


def changed(opened: Callable[..., Any], half: int | None, change: Change | None, rows: np.ndarray) -> Iterator[Picture]:
    return (replace(viewed(picture), half=half, change=change) for picture in opened(rows))


def first_half(examples: Examples) -> np.ndarray:
    """Which examples are in the first half, (N,) bool: of each class, where there are labels."""
    labels = np.zeros(len(examples), np.int64) if examples.labels is None else examples.labels
    first = np.zeros(len(examples), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        first[own[: len(own) // 2]] = True
    return first
