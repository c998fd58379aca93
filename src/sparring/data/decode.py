"""One image file, whatever its format, to uint8 pixels of one shape."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from sparring.data.rows import brief

Picture: TypeAlias = "Path | bytes | np.ndarray | Cropped"  # a file, its content, pixels (H, W, C), or a part of a file

GREY = {"1", "L", "LA", "La", "I", "F"}  # and I;16 in its byte orders


@dataclass(frozen=True)
class Cropped:
    """A part of an image file.

    Attributes:
        path: The file.
        box: Left, top, right, bottom in pixels; what lies outside of the image is left out.
    """

    path: Path
    box: tuple[int, int, int, int]

    def inside(self, image: Image.Image) -> tuple[int, int, int, int]:
        """The box within this image.

        Raises:
            UnreadableError: Where they do not meet.
        """
        left, top, right, bottom = self.box
        left, top, right, bottom = max(0, left), max(0, top), min(image.width, right), min(image.height, bottom)
        if left >= right or top >= bottom:
            raise UnreadableError("its bounding box lies outside of it")
        return left, top, right, bottom


class UnreadableError(Exception):
    """A picture that cannot be used, with the reason."""


def is_grey(mode: str) -> bool:
    return mode in GREY or mode.startswith("I;16")


def open_image(picture: Path | bytes) -> Image.Image:
    """Open an image file without decoding it."""
    if isinstance(picture, bytes) and not picture:
        raise UnreadableError("there is no content")
    image = Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        image.close()
        raise Image.DecompressionBombError
    return image


def look(picture: Picture) -> tuple[int, int, bool] | str:
    """Width, height and greyness from the header, or the reason why there is none."""
    if isinstance(picture, np.ndarray):
        return picture.shape[1], picture.shape[0], picture.shape[2] == 1
    try:
        if isinstance(picture, Cropped):
            with open_image(picture.path) as image:
                left, top, right, bottom = picture.inside(image)
                return right - left, bottom - top, is_grey(image.mode)
        with open_image(picture) as image:
            return image.width, image.height, is_grey(image.mode)
    except Exception as error:  # a broken file can raise nearly anything
        return reason(error)


def decode(picture: Picture, shape: tuple[int, int, int]) -> np.ndarray | str:
    """Pixels (H, W, C) uint8, or the reason why there are none.

    A picture of another size is cropped to its central square and resampled with antialiasing, which is the
    same as to resize the shorter side and to crop the centre.
    """
    try:
        if isinstance(picture, np.ndarray):
            return decode_pixels(picture, shape)
        if isinstance(picture, Cropped):
            with open_image(picture.path) as image:
                return np.asarray(fit(flatten(image.crop(picture.inside(image))), shape)).reshape(shape)
        with open_image(picture) as image:
            # A JPEG can be decoded at 1/2, 1/4 or 1/8; twice the wanted side is left to the antialiasing.
            short = 2 * max(shape[:2])
            image.draft(None, (short, short))
            return np.asarray(fit(flatten(upright(image)), shape)).reshape(shape)
    except MemoryError:
        raise
    except Exception as error:
        return reason(error)


def decode_pixels(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Bring pixels (H, W, C), uint8 or floats in [0, 1], to the wanted shape."""
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels * 255.0).astype(np.uint8)
    if pixels.shape == shape:
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(fit(image, shape)).reshape(shape)


def fit(image: Image.Image, shape: tuple[int, int, int]) -> Image.Image:
    """Bring an L or RGB image to (height, width, channels)."""
    height, width, channels = shape
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS, box=centre(image.size), reducing_gap=3.0)


def centre(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The central square of an image: left, top, right, bottom."""
    width, height = size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its camera was held."""
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1  # exif_transpose copies in any case
    return ImageOps.exif_transpose(image) if turned else image


def flatten(image: Image.Image) -> Image.Image:
    """Turn any mode into L or RGB: 16 bits become 8, what is transparent shows white."""
    grey = "L" if is_grey(image.mode) else "RGB"
    if image.mode.startswith("I"):  # 16 bits; a few formats hand them over in 32
        return Image.fromarray(np.rint(np.clip(np.asarray(image), 0, 65535) / 257.0).astype(np.uint8))
    if image.mode == "F":
        pixels = np.asarray(image)
        if not ((pixels >= 0) & (pixels <= 1)).all():
            raise UnreadableError("its floating-point pixels are not in [0, 1]")
        return Image.fromarray(np.rint(pixels * 255.0).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(grey)


def original(path: Path) -> Image.Image:
    """The central square of an image file at its own resolution, L or RGB: what a model sees, unreduced."""
    with open_image(path) as file:
        image = flatten(upright(file))
    left, top, right, bottom = (round(edge) for edge in centre(image.size))
    return image.crop((left, top, right, bottom))


def read_mask(path: Path, side: int) -> np.ndarray:
    """The ground truth for the pixels of an image at this side, (side, side) bool: True where half is marked."""
    with Image.open(path) as image:
        mask = flatten(upright(image)).convert("L").point(lambda value: 255 if value else 0)
        small = mask.resize((side, side), Image.Resampling.BOX, box=centre(mask.size))
        return np.asarray(small) >= 128


def reason(error: Exception) -> str:
    """Why a picture cannot be read, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image that Pillow can read"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"it has more than the {Image.MAX_IMAGE_PIXELS:,} pixels that Pillow takes for safe"
    return brief(error)


@contextmanager
def pillow_quiet() -> Iterator[None]:
    """Keep Pillow's remarks on odd files from the user, and hold its limit on pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
