"""Pictures for people: grids of images, and anomaly maps laid over their image."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from sparring.errors import UserError
from sparring.files import whole, writing

WIDEST = 1600  # pixels; what a screen shows without scrolling
READABLE = 64  # pixels; sides of tiles are enlarged to at least this
GAP = 255  # white between the tiles
STRIP = 256  # rows that are coloured at once
MADE = ("Software", "sparring")  # what a PNG file says of its origin
COVER = 0.8  # opacity of the strongest anomaly, so that what is below stays visible


def grid(
    images: Tensor | NDArray[Any], columns: int | None = None, scale: int | None = None, padding: int = 2
) -> Image.Image:
    """Lay images out in rows, on white.

    Args:
        images: Tensors and floating-point arrays are (N, C, H, W), uint8 arrays (N, H, W) or (N, H, W, C); C is
            1 or 3. Floating-point values are in [-1, 1]; what lies outside is clipped.
        columns: Images in a row; by default as many as rows, or as many as fit.
        scale: Whole factor of enlargement, nearest neighbour. By default tiles get at least 64 pixels a side,
            as long as the picture stays within 1,600 pixels; a larger one is reduced to that.
        padding: Pixels between the tiles and around them.

    Returns:
        A grey or an RGB picture.

    Raises:
        UserError: For no images, another shape, or values that are not finite.
    """
    tiles = as_uint8(images)
    count, height, width, channels = tiles.shape
    if columns is None:
        columns = max(1, min(math.ceil(math.sqrt(count)), (WIDEST - padding) // (width + padding)))
    factor = scale or max(1, min(math.ceil(READABLE / min(height, width)), (WIDEST // columns - padding) // width))
    tiles = tiles.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width, rows = height * factor, width * factor, math.ceil(count / columns)
    canvas = np.full(
        (rows * (height + padding) + padding, columns * (width + padding) + padding, channels), GAP, dtype=np.uint8
    )
    for index, tile in enumerate(tiles):
        top = padding + index // columns * (height + padding)
        left = padding + index % columns * (width + padding)
        canvas[top : top + height, left : left + width] = tile
    picture = as_picture(canvas)
    if scale is None and picture.width > WIDEST:
        size = WIDEST, max(1, round(picture.height * WIDEST / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return picture


def enlarged(image: Image.Image, least: int = 2 * READABLE) -> Image.Image:
    """Enlarge a small image by a whole factor, nearest neighbour, so that its shorter side has `least` pixels."""
    factor = max(1, math.ceil(least / min(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def as_uint8(images: Tensor | NDArray[Any]) -> NDArray[np.uint8]:
    """Images (N, H, W, C) in 0 to 255 from any form that `grid` takes."""
    given = images.detach().cpu() if isinstance(images, Tensor) else images
    array = np.asarray(given.float() if isinstance(given, Tensor) and given.is_floating_point() else given)
    channels_first = isinstance(images, Tensor) or array.dtype.kind == "f"
    if channels_first and array.ndim == 4:
        array = array.transpose(0, 2, 3, 1)
    elif not channels_first and array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or not array.size:
        raise UserError(f"Images must be one or more, with 1 or 3 channels; got the shape {tuple(images.shape)}.")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise UserError("Images must be uint8, or finite numbers in [-1, 1].")
    return np.rint((array.clip(-1, 1) + 1) * 127.5).astype(np.uint8)


def as_picture(image: Tensor | NDArray[Any]) -> Image.Image:
    """One image, without its leading N, in any form that `grid` takes."""
    array = as_uint8(image[None])[0]
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else np.ascontiguousarray(array))


def heat(image: Image.Image, anomaly: NDArray[np.floating], low: float, high: float) -> Image.Image:
    """Lay an anomaly map over its image: the stranger a place, the brighter and denser the colour.

    Pictures with the same [low, high] can be compared. `low` and less leaves the image as it is (in grey),
    `high` and more is pale yellow.

    Args:
        image: Any mode and size.
        anomaly: (H, W), higher is stranger; resized to the image (bilinear): look at small ones `enlarged`.
        low: Value at which colour begins, such as the median over normal images.
        high: Value of the strongest colour, such as the 99.9 % quantile over normal images. With
            high = low nothing is coloured.

    Returns:
        An RGB picture of the image's size.

    Raises:
        UserError: For a map that is not finite or not (H, W), or high < low.
    """
    anomaly = np.asarray(anomaly, dtype=np.float32)
    if anomaly.ndim != 2 or not np.isfinite(anomaly).all():
        raise UserError(f"An anomaly map must be (height, width) and finite; got the shape {anomaly.shape}.")
    if not low <= high:
        raise UserError(f"The scale of an anomaly map must rise; got {low:g} to {high:g}.")
    resized = np.asarray(Image.fromarray(anomaly).resize(image.size, Image.Resampling.BILINEAR))
    below = np.asarray(image.convert("L"))
    canvas = np.empty((*below.shape, 3), dtype=np.uint8)
    for start in range(0, len(below), STRIP):  # a large photograph takes a dozen times its own size otherwise
        strip = slice(start, start + STRIP)
        value = ((resized[strip] - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(resized[strip])
        colour = _colours()[np.rint(value * 255).astype(np.uint8)]
        cover = (COVER * value)[..., None]
        canvas[strip] = np.rint((1 - cover) * below[strip, :, None].astype(np.float32) + cover * colour)
    return Image.fromarray(canvas)


def save(image: Image.Image, path: str | Path) -> None:
    """Write a PNG file that says what made it, whole or not at all.

    Raises:
        UserError: When the file cannot be written.
    """
    told = PngInfo()
    told.add_text(*MADE)
    with whole(Path(path)) as file:
        image.save(file, format="PNG", pnginfo=told)


def spare(paths: Iterable[Path], read: Iterable[Path] | None = None) -> None:
    """Raise a UserError where to write these files would replace one that is read, or that `save` has not made."""
    originals = {path.resolve() for path in read or ()}
    for path in paths:
        with writing(path):
            there = path.exists()
        if there and (path.resolve() in originals or not is_own(path)):
            raise UserError(f"'{path}' is already there, and no earlier result: choose another folder, or move it.")


def is_own(path: Path) -> bool:
    """Whether `save` has made a file."""
    try:
        with Image.open(path) as image:
            return MADE in image.info.items()
    except OSError:
        return False


def animate(images: Tensor | NDArray[Any], path: str | Path, seconds: float = 0.08) -> None:
    """Write a GIF that shows images, in any form that `grid` takes, one after the other and over again.

    Raises:
        UserError: When the file cannot be written.
    """
    frames = [enlarged(as_picture(image)) for image in images]
    with whole(Path(path)) as file:
        frames[0].save(
            file, format="GIF", save_all=True, append_images=frames[1:], duration=round(1000 * seconds), loop=0
        )


@lru_cache(maxsize=1)
def _colours() -> NDArray[np.float32]:
    """256 colours (256, 3) of rising lightness, for colour-blind people too."""
    from matplotlib import colormaps  # imported here because grids do without

    return np.asarray(colormaps["inferno"](np.arange(256))[:, :3] * 255, dtype=np.float32)
