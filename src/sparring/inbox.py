"""A watched folder: each new image is judged once, and what was judged stands in a ledger."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sparring.data import File, images_in
from sparring.errors import UserError
from sparring.files import writing
from sparring.metrics.conformal import check_rate
from sparring.metrics.drift import WINDOW, Drift, find_drift
from sparring.presentation import check_maps, write_maps
from sparring.run import Run

Key = tuple[str, int, int]


@dataclass(frozen=True)
class Entry:
    """What is noted of one image.

    Attributes:
        name: Its path from the watched folder.
        size: Of its file, in bytes.
        changed: When its file was written last, in nanoseconds since 1970.
        judged: When it was judged, in UTC.
        verdict: "normal" or "strange", of an open-set run "known: NAME" or "unknown"; or "unreadable".
        score: Higher is stranger; None where it is unreadable.
        p_value: Share of held-out normal examples at least as strange; None where it is unreadable.
        note: Why it is unreadable.
    """

    name: str
    size: int
    changed: int
    judged: str
    verdict: str
    score: float | None = None
    p_value: float | None = None
    note: str = ""

    @property
    def key(self) -> Key:
        """What makes it this image: one that is written anew under the same name is another."""
        return self.name, self.size, self.changed

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)

    def sentence(self) -> str:
        told = self.note if self.score is None else f"score {self.score:.6g}, p {self.p_value:.4g}"
        return f"{self.judged} {self.verdict:>10} {self.name}: {told}"


COLUMNS = tuple(field.name for field in fields(Entry))
NUMBERS = ("score", "p_value")


class Ledger:
    """A .csv or .jsonl file with a line an image, each on disk before the next image is judged.

    A line is written at once and then forced to disk; half a line, which only a crash can leave, is cut off at the next
    start.

    Args:
        path: Is made where it does not exist.
        window: Images that are asked about drift at once.

    Attributes:
        seen: What was judged.
        recent: Scores since the last window was full.

    Raises:
        UserError: For a file that is no ledger, or cannot be written.
    """

    def __init__(self, path: Path, window: int = WINDOW) -> None:
        if path.suffix not in (".csv", ".jsonl"):
            raise UserError(f"'{path}' is no ledger that can be written: give a file that ends in .csv or .jsonl.")
        self.path, self.window = path, window
        self.seen: set[Key] = set()
        self.recent: list[float] = []
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        try:
            for entry in self._read(whole.decode()):
                self._count(entry)
            readable = bool(whole) or not content
        except (ValueError, TypeError, KeyError, AttributeError, csv.Error):
            readable = False
        if not readable:
            raise UserError(f"'{path}' is no ledger of images, or damaged: name another with --out.")
        with writing(path):
            if len(whole) < len(content):
                os.truncate(path, len(whole))
        if path.suffix == ".csv" and not whole:
            self._write(_row(COLUMNS))

    def append(self, entry: Entry) -> list[float] | None:
        """Write a line; where it fills a window, give the window's scores."""
        self._write(
            _row("" if value is None else value for value in asdict(entry).values())
            if self.path.suffix == ".csv"
            else json.dumps(asdict(entry)) + "\n"
        )
        return self._count(entry)

    def _count(self, entry: Entry) -> list[float] | None:
        self.seen.add(entry.key)
        if entry.score is not None:
            self.recent.append(entry.score)
        if len(self.recent) < self.window:
            return None
        full, self.recent = self.recent, []
        return full

    def _write(self, line: str) -> None:
        with writing(self.path), open(self.path, "ab", buffering=0) as file:
            file.write(line.encode())
            os.fsync(file.fileno())

    def _read(self, text: str) -> Iterator[Entry]:
        lines: Iterable[dict[str, Any]] = map(json.loads, text.splitlines())
        if self.path.suffix == ".csv":
            lines = table = csv.DictReader(io.StringIO(text, newline=""))
            if text and tuple(table.fieldnames or ()) != COLUMNS:
                raise ValueError(table.fieldnames)
        for line in lines:
            score, p_value = (None if line[key] in ("", None) else float(line[key]) for key in NUMBERS)
            about = {**line, "size": int(line["size"]), "changed": int(line["changed"])}
            yield Entry(**{**about, "score": score, "p_value": p_value})


def _row(values: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


class Inbox:
    """A folder into which images come.

    An image is judged when two looks in a row find its file of the same size and date, so that nobody is still
    writing it. One that cannot be read is noted once, and judged when it was written anew.

    Args:
        run: A trained detector.
        folder: Looked through with all folders in it; hidden files and what has no image's name are passed over.
        ledger: What was judged before, and will be.
        false_alarms: Share of normal images that may be flagged.
        maps: Folder for heat maps; None for none.

    Raises:
        UserError: For a folder that does not exist, or with the maps in it.
    """

    def __init__(
        self, run: Run, folder: Path, ledger: Ledger, false_alarms: float = 0.05, maps: Path | None = None
    ) -> None:
        if not folder.is_dir():
            raise UserError(f"'{folder}' is no folder, and --watch watches one: name it, or leave --watch out.")
        if maps is not None:
            check_maps(maps, folder)
        self.run, self.folder, self.ledger, self.maps = run, folder, ledger, maps
        self.false_alarms = check_rate(false_alarms)
        self.waiting: set[Key] = set()
        _ = run.scorer, run.calibration, maps and run.map_scale  # what a run lacks is said before anything is judged

    def look(self) -> Iterator[Entry | Drift]:
        """Judge the images that have settled since the last look, and say whether what comes has changed."""
        waited, self.waiting = self.waiting, set()
        for file in images_in(self.folder):
            key = (str(file.relative), file.size, file.changed)
            if key in self.ledger.seen:
                continue
            entry = self.judge(file) if key in waited else None
            if entry is None:
                self.waiting.add(key)
                continue
            window = self.ledger.append(entry)
            yield entry
            if window is not None:
                yield find_drift(self.run.calibration, window, self.false_alarms)

    def judge(self, file: File) -> Entry | None:
        """Judge an image; None where its file changed meanwhile."""
        name = str(file.relative)
        about: dict[str, Any] = {"name": name, "size": file.size, "changed": file.changed}
        try:
            verdicts = self.run.score(file.path, self.false_alarms, split=None, keep="nowhere")
            found = {key: values[0] for key, values in verdicts.table().items() if key in ("verdict", *NUMBERS)}
        except UserError as error:
            verdicts, found = None, {"verdict": "unreadable", "note": str(error)}
        try:
            facts = file.path.stat()
        except OSError:
            return None
        if (facts.st_size, facts.st_mtime_ns) != (file.size, file.changed):
            return None
        if verdicts is not None and self.maps is not None:
            write_maps(self.run, verdicts, self.maps / Path(name).parent)
        return Entry(**about, judged=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **found)
