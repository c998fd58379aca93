"""Whether examples are new to a run: what it learnt from, was chosen by or calibrated on does not judge it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparring.data.door import open_examples
from sparring.data.named import located, with_split
from sparring.data.source import Numbered
from sparring.errors import UserError
from sparring.run import Run
from sparring.selection import without

TRAINED = "the run was trained on"


def learnt_from(run: Run, data: Any, split: str | None) -> bool:
    """Whether a part of some data holds examples that the run was trained on or, of a detector, first calibrated on."""
    return met_as(run, data, split) == TRAINED


def met_as(run: Run, data: Any, split: str | None) -> str | None:
    """In words, what the run has used these examples for, training before all; None for nothing.

    Of validation examples those count that are of no known class.
    """
    found = known_by(data, split)
    return next((what for what, used in uses(run) if not found.isdisjoint(used)), None)


def uses(run: Run) -> Iterator[tuple[str, set[str]]]:
    """What a run has used, each in words and by what its examples are known."""
    job, anew = run.job, run.facts.get("calibrated")
    yield TRAINED, known_by(job.data, job.split, run.normal or job.known or job.classes)
    if anew:
        yield "the run was calibrated on", known_by(anew["data"], anew["split"], anew.get("normal", run.normal))
    for what, data in (
        ("its weights were chosen by (--open-validation)", job.open_validation),
        ("it learnt from as outliers (--outliers)", job.outliers),
    ):
        if data:
            home, split = with_split(data)
            yield what, known_by(home, split or "train", besides=run.recognised)


def known_by(
    data: Any, split: str | None = "train", classes: tuple[str, ...] = (), besides: tuple[str, ...] = ()
) -> set[str]:
    """What tells each example from all others, wherever it is named from: its file, or its place in the data.

    Nothing for arrays, and for data that are not there any more.

    Args:
        data: A path or a name.
        split: A part of it.
        classes: Only examples of these, where there are classes; empty for all.
        besides: Only examples of other classes than these.
    """
    if not isinstance(data, (str, Path)):
        return set()
    with suppress(UserError):
        examples = open_examples(located(data), split)
        if examples.labels is not None and classes:
            examples = examples.of([name for name in classes if name in examples.classes])
        examples = without(examples, besides)
        if examples.originals is not None:
            return {str(path.resolve()) for path in examples.originals}
        if isinstance(examples.names, Numbered):  # which bear the name of their file, without its folder
            return {f"{located(data)}:{name}" for name in examples.names}
        return set(examples.names)
    return set()
