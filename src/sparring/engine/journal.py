"""The journal: one JSON line per interval with the means of loss terms and the norms of gradients; who watches it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparring.files import write_text, writing

Line = dict[str, Any]


class Journal:
    """Gather loss terms on the device and note their means every so often, under "player/term".

    A line also holds the l2 norm of each player's gradient in one of its last updates, under "gradient_norm" by player.

    Args:
        path: The journal file, appended to; None keeps lines in memory only.
        watchers: Called with every line: progress bars, TensorBoard.
    """

    def __init__(self, path: Path | None = None, watchers: tuple[Callable[[Line], None], ...] = ()) -> None:
        self.path = path
        self.watchers = watchers
        self.lines: list[Line] = []
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.norms: dict[str, Tensor] = {}
        self.since = time.perf_counter()

    def rewind(self, done: int) -> None:
        """Forget what was noted after `done` rounds, counted over all phases, and restart the clock."""
        if self.path is not None and self.path.exists():
            self.lines = [line for line in read_journal(self.path) if line["round"] <= done]
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in self.lines))
        self.since = time.perf_counter()

    def add(self, player: str, terms: dict[str, Tensor], whole: bool = True) -> None:
        """Gather the terms of an update, or of a part that is not the last of one."""
        for term, value in terms.items():
            name, value = f"{player}/{term}", value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + whole

    def measure(self, player: str, gradients: Sequence[Tensor]) -> None:
        """Take the norm of a player's gradient; the last one taken before a line is noted there."""
        self.norms[player] = torch.nn.utils.get_total_norm(gradients)

    def note(self, phase: str, done: int, images: int, **more: float) -> Line:
        """Write the means since the last note as one line, and return it."""
        now = time.perf_counter()
        means = {name: round(float(total) / self.counts[name], 6) for name, total in self.sums.items()}
        spent = max(now - self.since, 1e-9)
        line = {
            "phase": phase,
            "round": done,
            "seconds": round(spent, 4),
            "images_per_second": round(images / spent, 1),
        }
        line |= more | means
        if self.norms:
            line["gradient_norm"] = {player: float(f"{float(norm):.4g}") for player, norm in self.norms.items()}
        self.lines.append(line)
        if self.path is not None:
            with writing(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        for watch in self.watchers:
            watch(line)
        self.sums, self.counts, self.norms, self.since = {}, {}, {}, now
        return line


def read_journal(path: Path) -> list[Line]:
    """Read the lines of a journal; a last line cut short by a crash is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
