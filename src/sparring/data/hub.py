"""Data sets of the `datasets` library: saved in a folder, or on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from sparring.data.arrays import names_of
from sparring.data.columns import caption_column, captions, cells, declared_classes, image_column, label_column, numbers
from sparring.data.decode import Picture
from sparring.data.folder import Splits
from sparring.data.rows import brief
from sparring.data.source import Pictures
from sparring.errors import UserError

BATCH = 64  # rows that are read at a time
PREFIX = "hf://"


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def open_saved(folder: Path, name: str, image: str | None, label: str | None) -> Splits:
    """What `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""
    library = need_datasets(name)
    try:
        return tables(library.load_from_disk(str(folder)), name, image, label)
    except UserError:
        raise
    except Exception as error:  # the library raises many kinds on damaged files
        raise UserError(f"'{folder}' is not a readable folder of `datasets` ({brief(error)}): save it anew.") from None


def open_hub(address: str, name: str, image: str | None, label: str | None) -> Splits:
    """hf://org/name, or hf://org/name/configuration.

    Raises:
        UserError: When it cannot be had, because of its name or because there is no connection.
    """
    parts = address.removeprefix(PREFIX).strip("/").split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise UserError(f"'{address}' is not the address of a data set: write hf://org/name.")
    library = need_datasets(name)
    try:
        found = library.load_dataset("/".join(parts[:2]), *parts[2:])
    except Exception as error:  # whatever the network and the hub may raise
        raise UserError(
            f"'{address}' cannot be had from the Hugging Face hub ({brief(error)}): check its name and the connection."
        ) from None
    return tables(found, name, image, label)


def need_datasets(name: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"'{name}' needs the `datasets` library, which is not installed: pip install sparring[hub]."
        ) from None
    return datasets


def tables(found: Any, name: str, image: str | None, label: str | None) -> Splits:
    """The splits of a Dataset or a DatasetDict; the classes are those of all splits together."""
    parts: dict[str | None, Any] = dict(found) if isinstance(found, dict) else {None: found}
    schema = next(iter(parts.values())).features.arrow_schema
    picture = image_column(schema, image, name)
    column, told = label_column(schema, label), caption_column(schema)

    @cache
    def labels() -> tuple[dict[str | None, np.ndarray | None], tuple[str, ...]]:
        if column is None:
            return dict.fromkeys(parts), ()
        columns = [whole(part, column) for part in parts.values()]
        found, classes = numbers(columns, declared_classes(schema, column), name)
        return dict(zip(parts, found, strict=True)), classes

    def examples(split: str | None) -> Pictures:
        own, classes = labels()
        return Pictures(
            name=name,
            split=split,
            names=names_of(name, split, len(parts[split])),
            labels=own[split],
            classes=() if own[split] is None else classes,
            captions=captions(whole(parts[split], told)) if told else None,
            opened=opened(parts[split], picture),
            stamp=stamp(parts[split], picture),
        )

    return {split: partial(examples, split) for split in parts}


def whole(part: Any, column: str) -> Any:
    """A column of a Dataset, in memory."""
    return part.select_columns([column]).with_format("arrow")[:][column]


def opened(part: Any, column: str) -> Callable[[np.ndarray], Iterator[Picture]]:
    table = part.select_columns([column]).with_format("arrow")

    def opened(rows: np.ndarray) -> Iterator[Picture]:
        for start in range(0, len(rows), BATCH):
            yield from cells(table[rows[start : start + BATCH].tolist()][column], Path())

    return opened


def stamp(part: Any, column: str) -> list[Any] | None:
    """The files that a Dataset lies in; None when it lies in memory."""
    paths = [Path(file["filename"]) for file in part.cache_files]
    if not paths:
        return None
    return [column, len(part), *((str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths)]
