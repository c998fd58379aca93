"""Data in any form, decoded while they are read."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from sparring.data.cache import Skipped, blocks, decode_row, refuse_nothing
from sparring.data.door import open_examples
from sparring.data.pixels import look_at_array, look_at_files, losses, refusal
from sparring.data.source import Pictures, Source
from sparring.errors import UserError

ROWS = 256  # vectors at a time


class Flow:
    """Names and rows of all examples in order, of which only a few are in memory at a time; nothing is kept.

    Args:
        data: As for `open_source`.
        shape: Of an example, as a model sees it: (channels, height, width) or (width,).
        strict: Stop at an image that cannot be read, instead of leaving it out.
        options: `split`, `classes`, `limit` and `domain`, as for `open_source`.

    Attributes:
        names: Of all examples.
        notes: Sentences worth telling the user.
        skipped: (name, reason) of the images that could not be read so far.

    Raises:
        UserError: For data that cannot be opened, are of another kind, or too small.
    """

    def __init__(self, data: Any, shape: tuple[int, ...], *, strict: bool = False, **options: Any) -> None:
        self.examples = there = open_examples(data, **options)
        self.names, self.notes = there.names, there.notes
        self.shape, self.strict = shape, strict
        self.skipped: list[tuple[str, str]] = []
        if isinstance(there, Pictures) and len(shape) == 3:
            seen = look_at_files(there, strict) if there.array is None else look_at_array(there, there.array)
            self.notes = (*self.notes, *losses(there, seen, self._stored))
        elif isinstance(there, Pictures) or there.spec().shape != shape:
            what = "images" if isinstance(there, Pictures) else f"vectors of {there.spec().size} numbers"
            wants = f"images of {shape[1]}x{shape[2]} pixels" if len(shape) == 3 else f"vectors of {shape[0]} numbers"
            raise UserError(f"'{there.name}' holds {what}, and the run was trained on {wants}: give data of that kind.")

    @property
    def _stored(self) -> tuple[int, int, int]:
        channels, height, width = self.shape
        return height, width, channels

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """Names, and rows (B, H, W, C) uint8 or (B, D) float32."""
        if isinstance(self.examples, Source):
            for start in range(0, len(self), ROWS):
                part = slice(start, start + ROWS)
                yield list(self.names[part]), self.examples.read(part)
            return
        skipped: Skipped = {}
        place = 0
        work = partial(decode_row, shape=self._stored)
        for block in blocks(self.examples, work, len(self.examples), skipped):
            names: list[str] = []
            while len(names) < len(block):  # what is skipped before the end of a block is known with it
                if place not in skipped:
                    names.append(self.names[place])
                place += 1
            self._note(skipped)
            yield names, block
        self._note(skipped)
        refuse_nothing(self.examples, len(self) - len(skipped), skipped)

    def _note(self, skipped: Skipped) -> None:
        self.skipped = [(self.names[k], why) for k, why in sorted(skipped.items())]
        if self.strict and self.skipped:
            raise refusal(*self.skipped[0])
