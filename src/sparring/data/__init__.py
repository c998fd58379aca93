"""Data in any form, decoded once, drawn without end.

`open_source` turns a folder, a file, a name or an array into a `Source`; `Stream` draws minibatches from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparring.data.cache import cache_folder
from sparring.data.decode import middle, original, read_mask
from sparring.data.domains import Domain
from sparring.data.door import open_source, open_tiled, or_test, parse_split, split_in, splits_of
from sparring.data.folder import File, images_in
from sparring.data.named import NAMES, data_folder, located, settled, with_split
from sparring.data.region import Region
from sparring.data.source import Source
from sparring.data.tiles import Grid, Tiled

if TYPE_CHECKING:
    from sparring.data.stream import Stream, batches, to_tensor

__all__ = [
    "NAMES",
    "Domain",
    "File",
    "Grid",
    "Region",
    "Source",
    "Stream",
    "Tiled",
    "batches",
    "cache_folder",
    "data_folder",
    "images_in",
    "located",
    "middle",
    "open_source",
    "open_tiled",
    "or_test",
    "original",
    "parse_split",
    "read_mask",
    "settled",
    "split_in",
    "splits_of",
    "to_tensor",
    "with_split",
]


def __getattr__(name: str) -> Any:
    """Import `stream`, which brings torch, only when something of it is asked for."""
    if name in ("Stream", "batches", "to_tensor"):
        from sparring.data import stream

        return getattr(stream, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
