"""One image file, whatever its format, to uint8 pixels of one shape."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from sparring.data.rows import brief
from sparring.errors import UserError

Picture: TypeAlias = "Path | bytes | np.ndarray | View"  # a file, its content, pixels (H, W, C), or a part of these

LOSSY = {"JPEG", "MPO", "JPEG2000", "WEBP", "AVIF"}
GREY = {"1", "L", "LA", "La", "I", "F"}  # and I;16 in its byte orders


@dataclass(frozen=True)
class View:
    """A picture of which a part is seen, or that is changed once it has its size.

    Attributes:
        half: 0 is the left one, 1 the right one, None the whole.
        change: Pixels (H, W, C) uint8 to such pixels; None changes nothing.
        box: Left, top, right, bottom in pixels of the file as it is stored; what lies outside of it is left out.
    """

    picture: Path | bytes | np.ndarray
    half: int | None = None
    change: Callable[[np.ndarray], np.ndarray] | None = None
    box: tuple[int, int, int, int] | None = None

    def part(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of what is seen of a picture of this size.

        Raises:
            UnreadableError: Where that is nothing.
        """
        left, top, right, bottom = self.box or (0, 0, width, height)
        left, top, right, bottom = max(0, left), max(0, top), min(width, right), min(height, bottom)
        if left >= right or top >= bottom:
            raise UnreadableError("its bounding box lies outside of it")
        middle = (right - left) // 2
        if self.half is not None:
            left, right = (left + middle, left + 2 * middle) if self.half else (left, left + middle)
        return left, top, right, bottom

    def of(self, image: Image.Image) -> Image.Image:
        """The part of an open image that is seen, upright."""
        whole = flatten(upright(image) if self.box is None else image)
        part = self.part(whole.width, whole.height)
        return whole if part == (0, 0, whole.width, whole.height) else whole.crop(part)

    def within(self, pixels: np.ndarray) -> np.ndarray:
        """The part of pixels (H, W, C) that is seen."""
        left, top, right, bottom = self.part(pixels.shape[1], pixels.shape[0])
        return as_bytes(pixels[top:bottom, left:right])

    def changed(self, pixels: np.ndarray) -> np.ndarray:
        return pixels if self.change is None else self.change(pixels)


def viewed(picture: Picture) -> View:
    return picture if isinstance(picture, View) else View(picture)


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
    view = viewed(picture)
    try:
        if isinstance(view.picture, np.ndarray):
            height, width, grey = *view.picture.shape[:2], view.picture.shape[2] == 1
        else:
            with open_image(view.picture) as image:
                width, height, grey = image.width, image.height, is_grey(image.mode)
        left, top, right, bottom = view.part(width, height)
        return right - left, bottom - top, grey
    except Exception as error:  # a broken file can raise nearly anything
        return reason(error)


def decode(picture: Picture, shape: tuple[int, int, int]) -> np.ndarray | str:
    """Pixels (H, W, C) uint8, or the reason why there are none.

    A picture of another size is cropped to its central square and resampled with antialiasing, which is the
    same as to resize the shorter side and to crop the centre.
    """
    view = viewed(picture)

    def decoded() -> np.ndarray:
        if isinstance(view.picture, np.ndarray):
            pixels = view.within(view.picture)
            if pixels.shape != shape:
                pixels = np.asarray(fit(as_image(pixels), shape)).reshape(shape)
            return view.changed(pixels)
        with open_image(view.picture) as image:
            if view.box is None:
                # A JPEG can be decoded at 1/2, 1/4 or 1/8; twice the wanted side is left to the antialiasing.
                short = 2 * max(shape[:2])
                image.draft(None, (short, short))
            return view.changed(np.asarray(fit(view.of(image), shape)).reshape(shape))

    return attempt(decoded)


def decode_whole(picture: Picture, channels: int) -> np.ndarray | str:
    """All pixels (H, W, C) uint8 of a picture at its own resolution, or the reason why there are none."""
    view = viewed(picture)

    def decoded() -> np.ndarray:
        if isinstance(view.picture, np.ndarray):
            image = as_image(view.within(view.picture))
        else:
            with open_image(view.picture) as file:
                image = view.of(file)
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        return view.changed(pixels.reshape(image.height, image.width, channels))

    return attempt(decoded)


def attempt(decoded: Callable[[], np.ndarray]) -> np.ndarray | str:
    """What comes of it, or the reason why nothing does: a broken file can raise nearly anything."""
    try:
        return decoded()
    except MemoryError:
        raise
    except Exception as error:
        return reason(error)


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Pixels (H, W, C), uint8 or floats in [0, 1], as uint8."""
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels * 255.0).astype(np.uint8)


def as_image(pixels: np.ndarray) -> Image.Image:
    """An L or RGB image of pixels (H, W, C), uint8."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))


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
        return middle(flatten(upright(file)))


def middle(image: Image.Image) -> Image.Image:
    """The central square of an image, to the pixel."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def own_side(path: Path) -> int:
    """The side of the central square of an image file, in pixels, by its header."""
    with open_image(path) as image:
        return min(image.size)


def is_dim(path: Path) -> bool:
    """Whether an image file has 16 bits a pixel, and none that needs more than 12."""
    with suppress(Exception), pillow_quiet(), open_image(path) as file:  # what cannot be read is told elsewhere
        return file.mode.startswith("I;16") and 0 < np.asarray(file).max() < 4096
    return False


def read_mask(path: Path, white: bool = False) -> np.ndarray:
    """The pixels that a mask marks, (H, W) bool: all but black, or only what is `white`, more than half.

    A mask of a lossy format has grey pixels around what it marks, so that there only white counts.

    Raises:
        UserError: For a file that is no image.
    """

    def read() -> np.ndarray:
        with pillow_quiet(), open_image(path) as file:
            values = levels(upright(file))
            return values > (values.max() / 2 if white or file.format in LOSSY else 0)

    found = attempt(read)
    if isinstance(found, str):
        raise UserError(f"The mask '{path}' cannot be read because {found}: give an image, white on black.")
    return found


def levels(image: Image.Image) -> np.ndarray:
    """How bright the pixels of a mask are, (H, W): whole numbers as they are stored, and 0 what is transparent."""
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    black = Image.new("RGBA", image.size, "black")
    return np.asarray(Image.alpha_composite(black, image.convert("RGBA")))[..., :3].max(-1)


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
