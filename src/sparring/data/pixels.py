"""From pictures to pixels: which size, how many channels, what is too small, what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from sparring.data.cache import decoded, in_threads, none_of, remembered
from sparring.data.decode import Picture, as_image, decode_whole, fit, look
from sparring.data.region import Region
from sparring.data.source import Examples, Pictures, Source
from sparring.errors import UserError

LARGEST = 64  # native side of image files, unless they are smaller
OBLONG = 1.1  # ratio of sides above which a note says that images are cut to their central squares
ENLARGED = 2  # images may be enlarged by this factor, with a note; more would train on blur

Size = int | Callable[[int], int] | None


@dataclass(frozen=True)
class Look:
    """What the headers of pictures tell, without decoding.

    Attributes:
        smallest: Name of the picture with the shortest side.
        width: Of that picture; height likewise.
        grey: Whether all of them are.
        native: Side that suits them, in pixels.
        oblong: How many are far from square, and the name of the first.
    """

    smallest: str
    width: int
    height: int
    grey: bool
    native: int
    oblong: tuple[int, str] = (0, "")

    @property
    def side(self) -> int:
        return min(self.width, self.height)


def decode_pictures(
    pictures: Pictures, size: Size, channels: int | None, strict: bool, region: Region | None = None
) -> Source:
    """Decode what can be read into a Source; see `open_source`.

    Raises:
        UserError: When images are too small or none can be read; with `strict`, when one cannot be read.
    """
    seen = look_at_array(pictures, pictures.array) if pictures.array is not None else look_at_files(pictures, strict)
    shape = shape_for(pictures, seen, size, channels)
    array = pictures.array
    if region is None and array is not None and array.dtype == np.uint8 and array.shape[1:] == shape:
        return as_source(pictures, array, index=pictures.index)
    notes = losses(pictures, seen, shape)
    if region is None:
        items, skipped, more = decoded(pictures, shape)
    else:
        items, skipped, more = decoded(
            pictures, shape, region.stamp, work=partial(decode_within, shape=shape, region=region)
        )
    bad = tuple((pictures.names[number], why) for number, why in sorted(skipped.items()))
    if bad and strict:
        raise refusal(*bad[0])
    kept = np.ones(len(pictures), bool)
    kept[list(skipped)] = False
    left = pictures if not bad else pictures.take(kept)
    return replace(
        as_source(left, items, index=None, skipped=bad, notes=(*pictures.notes, *notes, *more)), region=region
    )


def decode_within(picture: Picture, shape: tuple[int, int, int], region: Region) -> np.ndarray | str:
    """A picture as one row (1, H, W, C) uint8, grey outside of the region, or the reason why there is none."""
    found = decode_whole(picture, shape[2])
    return found if isinstance(found, str) else np.asarray(fit(as_image(region.blank(found)), shape)).reshape(1, *shape)


def as_source(pictures: Pictures, items: np.ndarray, **changes: Any) -> Source:
    about = {field.name: getattr(pictures, field.name) for field in fields(Examples)}
    return Source(items=items, **{**about, **changes})


def shape_for(pictures: Pictures, seen: Look, size: Size, channels: int | None) -> tuple[int, int, int]:
    """(height, width, channels) that the pictures shall have."""
    depth = channels or (1 if seen.grey else 3)
    if size is None and pictures.array is not None:
        return *pictures.array.shape[1:3], depth
    side = seen.native if size is None else size(seen.native) if callable(size) else size
    if not isinstance(side, int) or side < 1:
        raise UserError(f"--size is the side of the images in pixels and must be 1 or more; got {side}.")
    return side, side, depth


def look_at_array(pictures: Pictures, array: np.ndarray) -> Look:
    height, width, channels = array.shape[1:]
    oblong = (len(pictures), pictures.names[0]) if is_oblong(width, height) else (0, "")
    return Look(pictures.names[0], width, height, channels == 1, min(height, width), oblong)


def look_at_files(pictures: Pictures, strict: bool) -> Look:
    """Read the headers; what they tell is remembered."""
    if pictures.alike is not None:
        width, height, grey = pictures.alike
        return Look(pictures.names[0], width, height, grey, min(LARGEST, width, height))

    def make() -> dict[str, Any]:
        seen = [found for group in in_threads(pictures, look) for found in group]
        good = [(number, found) for number, found in enumerate(seen) if not isinstance(found, str)]
        bad = [(number, found) for number, found in enumerate(seen) if isinstance(found, str)]
        smallest = min(good, key=lambda pair: min(pair[1][:2]), default=None)
        oblong = [number for number, found in good if is_oblong(*found[:2])]
        return {"smallest": smallest, "grey": all(found[2] for _, found in good), "bad": bad[0] if bad else None,
                "oblong": [len(oblong), *oblong[:1]]}  # fmt: skip

    facts = remembered(pictures, make, "sides")
    if facts["bad"] is not None and (strict or facts["smallest"] is None):
        number, why = facts["bad"]
        raise refusal(pictures.names[number], why) if strict else none_of(pictures, number, why)
    number, (width, height, _) = facts["smallest"]
    many, *first = facts["oblong"]
    oblong = (many, pictures.names[first[0]] if first else "")
    return Look(pictures.names[number], width, height, facts["grey"], min(LARGEST, width, height), oblong)


def is_oblong(width: int, height: int) -> bool:
    return max(width, height) > OBLONG * min(width, height)


def refusal(name: str, why: str) -> UserError:
    return UserError(f"'{name}' cannot be read because {why}: repair or remove it, or leave --strict out.")


def losses(pictures: Pictures, seen: Look, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Notes on what a model does not see of the pictures as they are.

    Raises:
        UserError: As `too_small` does.
    """
    notes = too_small(pictures, seen, shape)
    many, name = seen.oblong
    if not many or shape[0] != shape[1]:
        return notes
    which = f"{many:,} of {len(pictures):,}, such as '{name}'"
    return (*notes, f"Only the central square is seen of images that are not square ({which}).")


def too_small(pictures: Pictures, seen: Look, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """A note when images are enlarged; a UserError when by more than ENLARGED."""
    side = max(shape[:2])
    if seen.side >= side or (pictures.array is not None and shape[:2] == (seen.height, seen.width)):
        return ()
    if seen.side * ENLARGED < side:
        largest = 1 << ((seen.side * ENLARGED).bit_length() - 1)  # networks like powers of two
        raise UserError(
            f"'{seen.smallest}' is {seen.width}x{seen.height} pixels, too small for --size {side} (enlarging stops at "
            f"{ENLARGED}x): use --size {largest} or less, or larger images."
        )
    if pictures.array is not None:
        return (f"The images are enlarged from {seen.width}x{seen.height} to {side}x{side} pixels.",)
    return (f"Images smaller than {side}x{side} pixels are enlarged, such as '{seen.smallest}'.",)
