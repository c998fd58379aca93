"""Parquet files, as the `datasets` library and the hub write them; read with pyarrow alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparring.data.arrays import names_of, stamp_of
from sparring.data.columns import caption_column, captions, cells, declared_classes, image_column, label_column, numbers
from sparring.data.decode import Picture
from sparring.data.folder import SPLITS, Splits
from sparring.data.rows import brief
from sparring.data.source import Pictures
from sparring.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 64  # rows that are read at a time
SPLIT = re.compile(rf"({'|'.join(SPLITS)})(?![a-z])", re.IGNORECASE)


def open_parquet(paths: Sequence[Path], name: str, image: str | None, label: str | None) -> Splits:
    """Splits by the names of the files (train-00000-of-00002.parquet) or of their folders."""
    groups: dict[str | None, list[Path]] = {}
    for path in paths:
        found = SPLIT.match(path.name) or (SPLIT.fullmatch(path.parent.name) if len(paths) > 1 else None)
        groups.setdefault(found[1].lower() if found and len(paths) > 1 else None, []).append(path)
    if len(groups) > 1:
        groups.pop(None, None)
        groups = {split: groups[split] for split in SPLITS if split in groups}

    @cache  # the classes are those of all splits together
    def tables() -> dict[str | None, Table]:
        return read_tables(groups, name, image, label)

    def examples(split: str | None) -> Pictures:
        return tables()[split].examples(name, split)

    return {split: partial(examples, split) for split in groups}


class Table:
    """The files of one split."""

    def __init__(self, paths: Sequence[Path], name: str, image: str | None) -> None:
        self.paths = paths
        files = [open_file(path) for path in paths]
        self.schema = files[0].schema_arrow
        self.counts = [file.metadata.num_rows for file in files]
        self.image = image_column(self.schema, image, name)
        self.labels: np.ndarray | None = None
        self.classes: tuple[str, ...] = ()

    def column(self, column: str) -> pa.ChunkedArray:
        import pyarrow as pa

        try:
            parts = [open_file(path).read(columns=[column])[column] for path in self.paths]
        except (OSError, KeyError, pa.ArrowException) as error:
            raise unreadable(self.paths[0], error) from None
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)

    def examples(self, name: str, split: str | None) -> Pictures:
        return Pictures(
            name=name,
            split=split,
            names=names_of(name, split, sum(self.counts)),
            labels=self.labels,
            classes=self.classes,
            captions=captions(self.column(told)) if (told := caption_column(self.schema)) else None,
            opened=self.opened(),
            stamp=[self.image, *(stamp_of(path) for path in self.paths)],
        )

    def opened(self) -> Callable[[np.ndarray], Iterator[Picture]]:
        def opened(rows: np.ndarray) -> Iterator[Picture]:
            """Of rows that ascend, files are read from front to back, and only the groups in demand."""
            for some in np.split(rows, np.flatnonzero(np.diff(rows) < 0) + 1):
                first = 0
                for path, count in zip(self.paths, self.counts, strict=True):
                    inside = some[np.searchsorted(some, first) : np.searchsorted(some, first + count)] - first
                    yield from read_cells(path, self.image, inside)
                    first += count

        return opened


def read_tables(
    groups: dict[str | None, list[Path]], name: str, image: str | None, label: str | None
) -> dict[str | None, Table]:
    tables = {split: Table(paths, name, image) for split, paths in groups.items()}
    schema = next(iter(tables.values())).schema
    column = label_column(schema, label)
    if column is not None:
        labelled = [table for table in tables.values() if column in table.schema.names]
        found, classes = numbers([table.column(column) for table in labelled], declared_classes(schema, column), name)
        for table, labels in zip(labelled, found, strict=True):
            table.labels, table.classes = labels, classes if labels is not None else ()
    return tables


def read_cells(path: Path, column: str, rows: np.ndarray) -> Iterator[Picture]:
    """The images in these rows of a file, in ascending order; little of the file is in memory at a time."""
    import pyarrow as pa

    if len(rows) == 0:
        return
    try:
        file = open_file(path)
        first = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if np.searchsorted(rows, first) < np.searchsorted(rows, first + count):
                start = first
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=[column]):
                    inside = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(batch))] - start
                    yield from cells(batch.column(0).take(pa.array(inside)), path.parent)
                    start += len(batch)
            first += count
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from None


def open_file(path: Path) -> pq.ParquetFile:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError(f"'{path}' needs pyarrow, which is not installed: pip install sparring[hub].") from None
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"'{path}' is not a readable Parquet file ({brief(error)}): fetch or write it anew.")
