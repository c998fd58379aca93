"""The region of interest: which part of every image counts."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from sparring.data.decode import fit, read_mask
from sparring.errors import UserError

GREY = 128  # what stands in place of everything outside


class Region:
    """A mask for all images of one camera: where it is white, they count, and everything else is made grey.

    A model never sees what lies outside, neither in training nor later, so that nothing there moves a score: images
    are made grey before they are reduced, since afterwards the pixels at the edge are mixed.

    Args:
        mask: (H, W), non-zero where images count; their sides must be as this one's.
    """

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = np.asarray(mask) != 0
        self.at = lru_cache(maxsize=8)(self._at)

    @classmethod
    def read(cls, path: Path) -> Region:
        """Read the mask from an image file; white, more than half, counts.

        Raises:
            UserError: For a file that is no image, or without a white pixel.
        """
        found = read_mask(path, white=True)
        if not found.any():
            raise UserError(f"The mask '{path}' of --roi has no white pixel, so that nothing would count: paint some.")
        return cls(found)

    @property
    def picture(self) -> Image.Image:
        """The mask as a picture: white on black."""
        return Image.fromarray(np.where(self.mask, np.uint8(255), np.uint8(0)))

    def check(self, name: str, height: int, width: int) -> None:
        """Raise a UserError for an image whose sides are in another proportion."""
        h, w = self.mask.shape
        if abs(h * width - w * height) >= max(h, w, height, width):
            raise UserError(
                f"'{name}' is {width}x{height} pixels and the mask of --roi {w}x{h}: the mask must be a picture of the "
                "whole image, in the same proportions."
            )

    def _at(self, height: int, width: int, square: bool) -> np.ndarray:
        """Where an image of this size counts, (height, width) bool, or the central square of one."""
        if square:
            found = np.asarray(fit(self.picture, (height, width, 1)))
        else:
            found = np.asarray(self.picture.resize((width, height), Image.Resampling.BOX))
        return found >= max(1, min(GREY, found.max()))  # a spot that shrinks below a pixel stays one

    def blank(self, image: np.ndarray) -> np.ndarray:
        """An image (H, W, C) uint8 at its own resolution, grey where it does not count."""
        return np.where(self.at(*image.shape[:2], False)[..., None], image, np.uint8(GREY))

    @property
    def stamp(self) -> str:
        """What the mask is known by."""
        return hashlib.sha256(repr(self.mask.shape).encode() + np.packbits(self.mask).tobytes()).hexdigest()
