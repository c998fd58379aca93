"""Which columns of a table are images and labels, and how their cells are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparring.data.captions import TEXTS, texts_of
from sparring.data.decode import Picture
from sparring.data.source import natural
from sparring.errors import UserError, unknown

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = ("label", "labels", "class", "target", "category", "fine_label")


def image_column(schema: pa.Schema, wanted: str | None, name: str) -> str:
    """The column with images: named by the user, declared an image, or the first that holds bytes.

    Raises:
        UserError: When there is none.
    """
    if wanted is not None:
        if wanted not in schema.names:
            raise unknown("column", wanted, schema.names)
        if not holds_bytes(schema.field(wanted).type):
            raise UserError(
                f"The column '{wanted}' of '{name}' has the type {schema.field(wanted).type}: images are bytes, or a "
                f"struct of bytes and path."
            )
        return wanted
    declared = [column for column, kind in features(schema).items() if kind.get("_type") == "Image"]
    for column in [*declared, *schema.names]:
        if column in schema.names and holds_bytes(schema.field(column).type):
            return str(column)
    raise UserError(f"'{name}' has no column of images, only {', '.join(schema.names)}: images are bytes in a column.")


def label_column(schema: pa.Schema, wanted: str | None) -> str | None:
    """The column with classes: named by the user, declared as one, or called label or the like; None without."""
    if wanted is not None:
        if wanted not in schema.names:
            raise unknown("column", wanted, schema.names)
        return wanted
    declared = [column for column, kind in features(schema).items() if kind.get("_type") == "ClassLabel"]
    return next((column for column in [*declared, *LABELS] if column in schema.names), None)


def caption_column(schema: pa.Schema) -> str | None:
    """The column with captions, by its name: texts, or lists of texts; None without."""
    return next((column for column in TEXTS if column in schema.names and holds_texts(schema.field(column).type)), None)


def holds_texts(kind: pa.DataType) -> bool:
    import pyarrow.types as t

    if t.is_list(kind) or t.is_large_list(kind):
        kind = kind.value_type
    return bool(t.is_string(kind) or t.is_large_string(kind))


def captions(column: pa.ChunkedArray) -> tuple[tuple[str, ...], ...]:
    """The captions of each row; an empty cell has none."""
    return tuple(texts_of(value) or () for value in column.to_pylist())


def declared_classes(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """Names of the classes as the `datasets` library writes them into a file; empty without."""
    return tuple(features(schema).get(column, {}).get("names", ()))


def features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What the `datasets` library says of each column."""
    try:
        told = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {column: kind for column, kind in told.items() if isinstance(kind, dict)}
    except (KeyError, ValueError, TypeError):
        return {}


def holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow.types as t

    if t.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind))


def cells(column: pa.ChunkedArray | pa.Array, folder: Path) -> Iterator[Picture]:
    """The images of a column; a cell without bytes names a file."""
    for cell in column:
        value = cell.as_py()
        if isinstance(value, dict):
            path = value.get("path")
            value = value.get("bytes") or (folder / path if path else b"")
        yield value or b""


def numbers(
    columns: Sequence[pa.ChunkedArray], declared: tuple[str, ...], name: str
) -> tuple[list[np.ndarray | None], tuple[str, ...]]:
    """Class numbers of each split, and the names of the classes of all of them.

    A split in which no example has a label (an empty cell, or -1) has None.
    """
    values = [column.to_pylist() for column in columns]
    if all(isinstance(v, (int, np.integer)) or v is None for part in values for v in part):
        found = [np.array([-1 if v is None else int(v) for v in part], np.int64) for part in values]
        most = max((int(part.max()) for part in found if len(part)), default=-1)
        classes = declared if len(declared) > most else tuple(str(k) for k in range(most + 1))
    else:
        if not all(isinstance(v, str) or v is None for part in values for v in part):
            raise UserError(f"The labels of '{name}' are neither whole numbers nor names: choose another column.")
        classes = tuple(sorted({v for part in values for v in part if v is not None}, key=natural))
        number = {c: k for k, c in enumerate(classes)}
        found = [np.array([-1 if v is None else number[v] for v in part], np.int64) for part in values]
    for part in found:
        if (part < 0).any() and not (part < 0).all():
            raise UserError(f"Some examples of '{name}' have no label and others do: label all of them or none.")
    return [part if (part >= 0).all() else None for part in found], classes
