"""The one door: whatever the user calls DATA, opened as a Source."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from sparring.data.arrays import open_array, open_npy, open_npz
from sparring.data.decode import is_dim
from sparring.data.described import open_described
from sparring.data.domains import Domain
from sparring.data.folder import File, Splits, by_class, is_image_name, open_folder, printable, walk
from sparring.data.hub import PREFIX, is_saved, open_hub, open_saved
from sparring.data.idx import is_idx, open_idx, open_idx_folder
from sparring.data.layouts import recognised
from sparring.data.named import NAMES, data_folder, located, open_named
from sparring.data.official import is_tiny_imagenet, open_svhn, open_svhn_folder, open_tiny_imagenet
from sparring.data.parquet import open_parquet
from sparring.data.pixels import decode_pictures
from sparring.data.region import Region
from sparring.data.source import Examples, Pictures, Source
from sparring.data.tiles import Grid, Tiled, measured, tiled
from sparring.errors import UserError
from sparring.files import expanded

Keep = Literal["loaded", "mapped", "nowhere"]


def open_source(
    data: Any,
    *,
    split: str | None = "train",
    size: int | Callable[[int], int] | None = None,
    channels: int | None = None,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    strict: bool = False,
    domain: Domain | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    region: Region | None = None,
    keep: Keep = "loaded",
) -> Source:
    """Open data in any form.

    Args:
        data: A path, a name such as "mnist", "hf://org/name", an array, or a pair (X, y) of arrays.
        split: Which split, where the data have splits; None takes "train", or else the first. A part of a
            split is written as a slice: "train[:50000]".
        size: Side of the square images in pixels, or what maps the native side to it; None leaves arrays as
            they are, and takes the native side of image files. That is the shorter side of arrays and, for
            image files, the shortest side among them, but 64 at most.
        channels: 1 or 3; None takes 1 when all images are grey.
        classes: Keep these classes only, renumbered in their old order.
        limit: Keep a random subset of at most so many, always the same one, in the old order.
        strict: Stop at an image that cannot be read, instead of leaving it out.
        domain: One of two domains within the data; None takes them as they are.
        image_column: Column of a table; found by its type unless given.
        label_column: Column of a table; found by its type or name unless given.
        region: Where images count; None for everywhere.
        keep: Where decoded images stay: on disk and, if they are few, "loaded" too; on disk and "mapped", which
            suits reading them once; or "nowhere" but in memory, for a single one.

    Raises:
        UserError: When the data are missing, damaged, empty or not what they should be.
    """
    examples = open_examples(
        data, split, channels=channels, classes=classes, limit=limit, domain=domain, image_column=image_column,
        label_column=label_column,
    )  # fmt: skip
    if isinstance(examples, Pictures):
        if region is not None:
            for name, sides in zip(examples.names, measured(examples), strict=True):
                if not isinstance(sides, str):
                    region.check(name, *sides)
        channels = channels or (domain.channels if domain else None)
        return decode_pictures(kept(examples, keep), size, channels, strict, region)
    if region is not None:
        raise UserError(f"'{examples.name}' holds vectors, and --roi is for images: leave it out.")
    return examples


def open_tiled(
    data: Any,
    grid: Grid,
    *,
    split: str | None = "train",
    channels: int | None = None,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    strict: bool = False,
    region: Region | None = None,
    keep: Keep = "loaded",
) -> Tiled:
    """Open images to be seen through tiles, at their own resolution; the rest is as for `open_source`.

    Raises:
        UserError: Also when the data are no images.
    """
    examples = open_examples(data, split, channels=channels, classes=classes, limit=limit)
    if not isinstance(examples, Pictures):
        raise UserError(f"'{examples.name}' holds vectors, and --tile is for images: leave it out.")
    return tiled(kept(examples, keep), grid, channels, strict, region)


def kept(pictures: Pictures, keep: Keep) -> Pictures:
    """The same pictures as they are to be decoded: what comes of it stays where it should, and dim ones are noted."""
    pictures = replace(pictures, notes=(*pictures.notes, *dim(pictures)))
    return replace(pictures, stamp=None) if keep == "nowhere" else replace(pictures, mapped=keep == "mapped")


def dim(pictures: Pictures) -> tuple[str, ...]:
    """A note where the first image has the 12 bits of a camera in 16, of which 8 show next to nothing."""
    if not pictures.originals or not is_dim(pictures.originals[0]):
        return ()
    return (
        f"'{pictures.names[0]}' has 16 bits a pixel and uses 12 at most, so that 17 levels of grey are left of it: "
        "multiply such images by 16.",
    )


def open_examples(
    data: Any,
    split: str | None = "train",
    *,
    channels: int | None = None,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    domain: Domain | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Pictures | Source:
    """Find data in any form, without decoding images; see `open_source`."""
    if channels not in (None, 1, 3):
        raise UserError(f"Images have 1 or 3 channels; got {channels}.")
    whole, part = parse_split(split)
    splits = find(data, image_column, label_column)
    examples = splits[chosen(splits, whole, str(data) if isinstance(data, (str, Path)) else "array")]()
    if not len(examples):
        raise UserError(f"'{examples.name}' holds no examples: give some.")
    if part is not None:
        examples = sliced(examples, part, str(split))
    if classes is not None:
        examples = examples.of(classes)
    if limit is not None:
        examples = examples.limited(limit)
    found = examples if domain is None else domain.of(examples)
    assert isinstance(found, (Pictures, Source))
    return found


def parse_split(split: str | None) -> tuple[str | None, slice | None]:
    """Tell the split from the slice of it: "train[:50000]" is ("train", slice(None, 50000))."""
    found = re.fullmatch(r"(.*?)\[(-?\d*):(-?\d*)\]", split or "")
    if found is None:
        return split, None
    first, last = (int(text) if text else None for text in found.group(2, 3))
    return found.group(1) or None, slice(first, last)


def sliced(examples: Examples, part: slice, split: str) -> Examples:
    """A part of a split, which must not be empty."""
    taken = examples.take(part)
    if not len(taken):
        raise UserError(f"'{split}' is empty: '{examples.name}' has {len(examples):,} examples in that split.")
    return replace(taken, split=split)


def split_in(data: Any, split: str | None) -> str | None:
    """The same split of other data; of data without splits the same part of all."""
    if split is None or splits_of(data):
        return split
    return split[split.index("[") :] if parse_split(split)[1] is not None else None


def or_test(data: Any, split: str | None) -> str | None:
    """The split that is asked for, or else the test split of data that have splits."""
    return split or ("test" if splits_of(data) else None)


def splits_of(data: Any) -> tuple[str, ...]:
    """Names of the splits that the data have; empty when they have none."""
    return tuple(split for split in find(data, None, None) if split is not None)


def chosen(splits: Splits, split: str | None, name: str) -> str | None:
    """The key of the wanted split."""
    if split in splits:
        return split
    if None in splits:  # "train" of data without splits is all of them
        if split in (None, "train"):
            return None
        raise UserError(f"'{name}' has no splits: leave '{split}' out to use all of it.")
    if split is None:
        return "train" if "train" in splits else next(iter(splits))
    raise UserError(f"'{name}' has no split '{split}': choose one of {', '.join(map(str, splits))}.")


def find(data: Any, image: str | None, label: str | None) -> Splits:
    """Recognise the form of the data."""
    if not isinstance(data, (str, Path)):
        return open_array(data)
    name = printable(str(data))
    if name.startswith(PREFIX):
        return open_hub(name, name, image, label)
    if name in NAMES:
        splits = open_named(
            name,
            lambda folder: in_folder(folder, name, image, label),
            lambda address: open_hub(address, name, image, label),
        )
        here = Path(name)
        return with_note(splits, name) if here.exists() and located(name) != str(here.resolve()) else splits
    path = expanded(data)
    if not path.exists() and not path.is_absolute() and path.parts and (data_folder() / path).exists():
        path = data_folder() / path
    if path.is_dir():
        return in_folder(path, name, image, label)
    if path.is_file():
        return in_file(path, name, image, label)
    close = get_close_matches(name, NAMES, n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'?" if close else f"give a path, hf://org/name, or one of {', '.join(NAMES)}."
    raise UserError(f"There is no file or folder '{name}', and no data set of that name: {hint}")


def with_note(splits: Splits, name: str) -> Splits:
    """The same splits, which say that they are not those of the user's own file or folder of that name."""
    note = f"'{name}' is the data set of that name, and not what lies here under it: write ./{name} for that."

    def noted(opener: Callable[[], Examples]) -> Examples:
        examples = opener()
        return replace(examples, notes=(*examples.notes, note))

    return {split: partial(noted, opener) for split, opener in splits.items()}


def in_folder(folder: Path, name: str, image: str | None, label: str | None) -> Splits:
    if is_saved(folder):
        return open_saved(folder, name, image, label)
    files = walk(folder)
    if not files:
        raise UserError(f"The folder '{name}' is empty: give one with images, .parquet files or IDX files.")
    if idx := open_idx_folder(files, name):
        return idx
    if mats := open_svhn_folder(files, name):
        return mats
    if is_tiny_imagenet(folder):
        return open_tiny_imagenet(folder, name, files)
    if described := open_described(folder, files, name):
        return described
    tables = [file.path for file in files if file.relative.suffix.lower() == ".parquet"]
    if tables and not any(is_image_name(file.relative.name) for file in files):
        return open_parquet(tables, name, image, label)
    return recognised(folder, name, files) or open_folder(folder, name, files)


def in_file(path: Path, name: str, image: str | None, label: str | None) -> Splits:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return open_npy(path, name)
    if suffix == ".npz":
        return open_npz(path, name)
    if suffix == ".parquet":
        return open_parquet([path], name, image, label)
    if is_idx(path.name):
        return open_idx(path, name)
    if suffix == ".mat":
        return open_svhn(path, name)
    if is_image_name(path.name):
        facts = path.stat()
        only = File(path, PurePosixPath(printable(path.name)), facts.st_size, facts.st_mtime_ns)
        return {None: partial(by_class, path.parent, name, None, [only])}
    raise UserError(
        f"'{name}' is no kind of data that is known: give a folder of images, an image, a .parquet, .npy or .npz file, "
        f"or an IDX file such as train-images-idx3-ubyte.gz."
    )
