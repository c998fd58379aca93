"""Who competes, on what, and on which terms: everything about a comparison that can be checked before it begins."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from sparring import models
from sparring.data import Grid, Source, Tiled, open_source, open_tiled, parse_split, settled, splits_of
from sparring.data.fingerprint import fingerprint, identity
from sparring.data.tiles import overlapping
from sparring.errors import UserError, unknown
from sparring.job import Job, read_run
from sparring.metrics.baselines import SHORT
from sparring.opening import of_normal, placed
from sparring.preparation import ask

EACH = "each"
LONGEST = 100  # bytes of a name that is made of others


@dataclass(frozen=True)
class Entrant:
    """A model with a variant of its recipe, such as "ganomaly:authors_code", or a simple detector, such as "knn"."""

    name: str
    recipe: dict[str, Any] = field(default_factory=dict)

    @property
    def is_model(self) -> bool:
        return self.name not in SHORT

    @property
    def model(self) -> str:
        return self.name.partition(":")[0]

    @property
    def variant(self) -> str:
        return self.name.partition(":")[2] or "default"


@dataclass(frozen=True, eq=False)
class Terms:
    """What all entrants get alike.

    Attributes:
        data: A path or a name.
        out: Folder of the comparison; one folder a task, and in it one an entrant and seed.
        split: Part of the data to learn from.
        on: Part of the data to judge on.
        false_alarms: Share of normal examples that may be flagged.
        settings: Of the job: size, channels, limit, tile, overlap, device, precision.
        looks: Whether AUROC is noted at every epoch.
    """

    data: str
    out: Path
    split: str = "train"
    on: str = "test"
    false_alarms: float = 0.05
    settings: dict[str, Any] = field(default_factory=dict)
    looks: bool = True

    def open(self, split: str) -> Source | Tiled:
        """The data at the size that all see them, or at their own: whole, or through the tiles that all see."""
        said: dict[str, Any] = {name: self.settings.get(name) for name in ("channels", "limit")}
        tile = self.settings.get("tile")
        if tile is None:
            return open_source(self.data, split=split, size=self.settings.get("size"), **said)
        return open_tiled(self.data, Grid(tile, overlapping(tile, self.settings.get("overlap"))), split=split, **said)

    @cached_property
    def examples(self) -> list[str]:
        """What the examples to learn from and to judge are known by."""
        parts = (self.open(split) for split in (self.split, self.on))
        return [fingerprint(part) if isinstance(part, Source) else identity(part) for part in parts]

    @cached_property
    def labelled(self) -> bool:
        """Whether the examples to learn from have classes."""
        return self.open(self.split).labels is not None


@dataclass(frozen=True)
class Task:
    """One entrant with one seed, and the classes that count as normal."""

    entrant: Entrant
    normal: tuple[str, ...]
    seed: int
    terms: Terms

    @property
    def folder(self) -> Path:
        return self.terms.out / plain("+".join(self.normal)) / f"{plain(self.entrant.name)}-{self.seed}"

    @property
    def outcome(self) -> Path:
        return self.folder / "evaluation.json"

    @property
    def asked(self) -> dict[str, Any]:
        """What the outcome rests on; of a model, run.yaml knows the rest."""
        t = self.terms
        said = {"data": settled(t.data), "split": t.split, "on": t.on, "false_alarms": t.false_alarms}
        return said | {"examples": t.examples, "settings": t.settings, "normal": list(self.normal), "seed": self.seed}


def plain(name: str) -> str:
    """A name that any file system takes; a long one ends in its hash."""
    made = re.sub(r"[^\w.+-]+", "_", name)
    return made if len(made.encode()) <= LONGEST else f"{made[: LONGEST // 4]}-{sha256(name.encode()).hexdigest()[:12]}"


def detectors() -> list[str]:
    """Models that give scores."""
    return [name for name in models.names() if hasattr(models.find(name).game, "score")]


def entrants(names: Sequence[str], recipe: dict[str, Any]) -> list[Entrant]:
    """Who competes, each with the hyper-parameters that were set for all or for it.

    Raises:
        UserError: For a name that is none of a detector, or hyper-parameters of a model that does not compete.
    """
    names = list(dict.fromkeys(names)) or [*detectors(), *SHORT]
    for name in names:
        if name not in SHORT and name.partition(":")[0] not in detectors():
            raise unknown("detector", name, [*detectors(), *SHORT])
    competing = {name.partition(":")[0] for name in names} | set(names)
    for key in recipe:
        owner, dot, _ = key.rpartition(".")
        if dot and owner not in competing:
            raise unknown("model in this comparison", owner, sorted(competing - set(SHORT)))
    made = []
    for name in names:
        own: dict[str, Any] = {}
        for whose in ("", name.partition(":")[0], name):  # what is said of one outweighs what is said of all
            own |= {key.rpartition(".")[2]: value for key, value in recipe.items() if key.rpartition(".")[0] == whose}
        made.append(Entrant(name, own if name not in SHORT else {}))
    return made


def groups_of(terms: Terms, normal: Sequence[str]) -> list[tuple[str, ...]]:
    """The classes that count as normal, once for all or each in turn.

    Raises:
        UserError: Where the data leave nothing to tell apart.
    """
    if not splits_of(terms.data) and parse_split(terms.on)[1] is None:
        raise UserError(
            f"'{terms.data}' has no splits, and what one learns from is no judge: divide it into folders train and "
            "test, or name two parts of it, in the order of its examples, such as --split '[:-500]' --on '[-500:]'."
        )
    source, judged = terms.open(terms.split), terms.open(terms.on)
    if not set(source.names).isdisjoint(judged.names):
        raise UserError(
            f"'{terms.split}' and '{terms.on}' of '{terms.data}' share examples, and what one learns from is no judge: "
            "choose parts that lie apart with --split and --on."
        )
    if judged.labels is None:
        raise UserError(
            f"'{terms.data}' has no classes in '{terms.on}', and only the truth can rank: give one folder per class."
        )
    groups: list[tuple[str, ...]]
    known = judged if source.labels is None else source
    first, *more = normal or ("",)
    if first.partition(":")[0] == EACH:
        chosen = [first.partition(":")[2], *more]
        names = [name for name in chosen if name] or [known.classes[k] for k in np.unique(np.asarray(known.labels))]
        groups = [(known.classes[known.class_number(name)],) for name in names]
    elif source.labels is None:
        groups = [tuple(judged.classes[judged.class_number(name)] for name in normal) or judged.normal]
    else:
        kept = of_normal(source, normal, "A detector")
        assert kept.labels is not None
        groups = [tuple(kept.classes[k] for k in np.unique(kept.labels))]
    there = {judged.classes[k] for k in np.unique(judged.labels)}
    for group in groups:
        if not there & set(group) or not there - set(group):
            raise UserError(
                f"'{terms.data}' has nothing to tell apart in '{terms.on}' where {', '.join(group) or 'no class'} is "
                f"normal: its classes are {', '.join(sorted(there))}."
            )
    return groups


def check(task: Task) -> None:
    """Look for what would go wrong later.

    Raises:
        UserError: For settings that are misspelt or out of bounds, or a folder that holds another training.
    """
    if not task.entrant.is_model:
        return
    check_same(task.folder, ask(task.entrant.model, task.terms.data, task.entrant.recipe, **settings_of(task)))
    if task.outcome.exists():
        asked, examples = json.loads(task.outcome.read_text(encoding="utf-8"))["asked"], task.terms.examples
        if asked.get("examples", examples)[0] != examples[0]:
            raise UserError(f"'{task.folder}' holds a training on other examples: choose another --out, or remove it.")


def check_same(folder: Path, job: Job) -> None:
    """Raise a UserError where a folder holds another training than this."""
    if (folder / "run.yaml").exists() and read_run(folder)[0] != placed(job):
        raise UserError(f"'{folder}' holds a training with other settings: choose another --out, or remove it.")


def settings_of(task: Task) -> dict[str, Any]:
    """What a training is told; normal classes only where the examples to learn from have classes."""
    t = task.terms
    normal = {"normal": task.normal} if t.labelled else {}
    return {"variant": task.entrant.variant, "split": t.split, "seed": task.seed, **normal, **t.settings}
