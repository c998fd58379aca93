"""Captions: several texts an image, which of them is drawn, and images that they do not describe."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparring.data.source import Examples
from sparring.errors import UserError

if TYPE_CHECKING:
    from sparring.data.folder import File

METADATA = ("metadata.jsonl", "metadata.csv")  # of the image folders of `datasets`
FILE = "file_name"
CLOSE = 64  # examples of the most similar captions, among which a near mismatch is drawn
PART = 10_000_000  # distances between captions that are held at once
TEXTS = ("text", "texts", "caption", "captions", "sentence", "sentences", "description")  # columns with captions


@dataclass(frozen=True, eq=False)
class Told:
    """The embeddings of all captions of a source, and which of its examples are of one kind.

    Attributes:
        embeddings: (M, W) float32.
        first: Captions first[k] to first[k + 1] belong to example k, (N + 1,).
        kinds: Examples of one kind are never each other's mismatch, (N,).
        texts: Number of the text of each caption, (M,); the same for the same words.
        average: Captions of an example that are drawn at a time and averaged, as many as it has at most.
        near: Share of mismatches that are drawn among the 64 examples of the most similar captions.
    """

    embeddings: np.ndarray
    first: np.ndarray
    kinds: np.ndarray
    texts: np.ndarray
    average: int = 1
    near: float = 0.0

    def caption(self, examples: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Draw a caption of each of these examples, (B, W)."""
        counts = np.diff(self.first)[examples]
        order = random.random((len(examples), int(counts.max()))).argsort(1)  # of the captions of each example,
        order = np.where(order < counts[:, None], order, -1)  # without those that it lacks
        ahead = np.argsort(order < 0, axis=1, kind="stable")[:, : self.average]
        chosen = np.take_along_axis(order, ahead, 1)
        there = chosen >= 0
        rows = self.embeddings[np.where(there, self.first[examples][:, None] + chosen, 0)]
        return np.einsum("bkw,bk->bw", rows, there / there.sum(1, keepdims=True)).astype(np.float32)

    def mismatch(self, examples: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Draw for each of these examples one of another kind, (B,): uniformly, a share of them among the closest."""
        order = self._order
        begin, end = (np.searchsorted(self.kinds[order], self.kinds[examples], side) for side in ("left", "right"))
        place = random.integers(len(order) - (end - begin))
        drawn = order[place + np.where(place >= begin, end - begin, 0)]
        if not self.near:
            return drawn
        close = self._close[examples, random.integers(self._close.shape[1], size=len(examples))]
        return np.where((random.random(len(examples)) < self.near) & (close >= 0), close, drawn)

    @cached_property
    def _order(self) -> np.ndarray:
        """The examples, those of a kind side by side."""
        return np.argsort(self.kinds, kind="stable")

    @cached_property
    def _close(self) -> np.ndarray:
        """For each example 64 others whose mean embeddings are closest, of other kinds and of no caption in common.

        (N, 64), or fewer columns where there are fewer examples; -1 where there are no more such examples.
        """
        from scipy.sparse import csr_array

        count = len(self.kinds)
        means = np.add.reduceat(self.embeddings, self.first[:-1]) / np.diff(self.first)[:, None].astype(np.float32)
        says = csr_array((np.ones(len(self.texts)), self.texts, self.first))
        most, found = min(CLOSE, count - 1), []
        for part in np.array_split(np.arange(count), -(-count * count // PART)):
            distance = (means**2).sum(1) - 2 * means[part] @ means.T
            distance[(says[part] @ says.T).toarray() > 0] = np.inf
            distance[self.kinds[part, None] == self.kinds] = np.inf
            nearest = np.argpartition(distance, most - 1)[:, :most]
            found.append(np.where(np.isinf(np.take_along_axis(distance, nearest, 1)), -1, nearest))
        return np.concatenate(found)


def tell(source: Examples, embeddings: Mapping[str, np.ndarray], average: int = 1) -> Told:
    """Arrange the embeddings (W,) of captions by the examples of a source.

    Where the source has labels, examples of a class are of a kind; else those of the same captions.

    Raises:
        UserError: Where all examples are of one kind, so that nothing can be a mismatch.
    """
    captions = need_captions(source)
    first = np.cumsum([0, *map(len, captions)])
    kinds = source.labels
    if kinds is None:
        numbers: dict[tuple[str, ...], int] = {}
        kinds = np.array([numbers.setdefault(tuple(sorted(set(own))), len(numbers)) for own in captions])
    if len(np.unique(kinds)) < 2:
        what = "class" if source.labels is not None else "caption"
        raise UserError(
            f"All examples of '{source.name}' have the same {what}, so that no image mismatches a caption: give others."
        )
    said = [text for own in captions for text in own]
    words = {text: k for k, text in enumerate(dict.fromkeys(said))}
    rows = np.stack([embeddings[text] for text in said])
    texts = np.array([words[text] for text in said])
    return Told(np.ascontiguousarray(rows, np.float32), first, kinds, texts, average)


def need_captions(source: Examples) -> Sequence[tuple[str, ...]]:
    """The captions of every example.

    Raises:
        UserError: For an example without a caption, and for an empty caption.
    """
    if source.captions is None:
        raise UserError(
            f"'{source.name}' has no captions: add a {METADATA[0]} with {FILE} and text to the images, or a column "
            "'text' to the table."
        )
    bare = [k for k, own in enumerate(source.captions) if not own]
    if bare:
        raise UserError(
            f"{len(bare)} of the {len(source)} images of '{source.name}' have no caption, such as "
            f"'{source.names[bare[0]]}': add their texts, or remove the images."
        )
    for k, own in enumerate(source.captions):
        if not all(map(str.strip, own)):
            raise UserError(f"'{source.names[k]}' of '{source.name}' has an empty caption: say what it shows.")
    return source.captions


def texts_of(value: Any) -> tuple[str, ...] | None:
    """The captions in a cell: a text or a list of texts; None for anything else."""
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    return tuple(values) if isinstance(values, (list, tuple)) and all(isinstance(v, str) for v in values) else None


def with_metadata(examples: Examples, files: Sequence[File], everything: Sequence[File]) -> Examples:
    """Add to the images of these files, in their order, the captions that metadata files name.

    Args:
        everything: All files of the folder, the metadata among them.

    Raises:
        UserError: For metadata that cannot be read, or that name an image which is not there.
    """
    sheets = [file.path for file in everything if file.path.name in METADATA]
    if not sheets:
        return examples
    there = {file.path for file in everything}
    found: dict[Path, tuple[str, ...]] = {}
    for sheet in sheets:
        for number, row in read_sheet(sheet):
            image = sheet.parent / str(row.get(FILE, ""))
            if image not in there:
                raise UserError(
                    f"Line {number} of '{sheet}' names the image '{row.get(FILE)}', which is not there: add it, or "
                    "remove the line."
                )
            column = next((name for name in TEXTS if name in row), None)
            texts = texts_of(row[column]) if column else ()
            if texts is None:
                raise UserError(f"The {column} in line {number} of '{sheet}' is no text and no list of texts: mend it.")
            found[image] = found.get(image, ()) + texts
    if not any(found.values()):
        return examples
    return replace(examples, captions=tuple(found.get(file.path, ()) for file in files))


def read_sheet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a metadata file, with the numbers of their lines; none of a file that is not about images."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                reader = csv.DictReader(file)
                rows = [(reader.line_num, dict(row)) for row in reader]
            else:
                rows = [(k, json.loads(line)) for k, line in enumerate(file, 1) if line.strip()]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"'{path}' is not readable ({' '.join(str(error).split())}): mend it.") from None
    named = [isinstance(row, dict) and FILE in row for _, row in rows]
    for (number, _), names in zip(rows, named, strict=True):
        if any(named) and not names:
            raise UserError(f"Line {number} of '{path}' has no {FILE}: each line names an image, and its text.")
    return iter(rows if any(named) else ())
