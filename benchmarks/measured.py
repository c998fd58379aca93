"""Trainings and evaluations that are done once, so that a command can be stopped and started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparring import Run, UserError, evaluate, load, train
from sparring.job import read_run
from sparring.opening import placed
from sparring.preparation import ask


def trained(folder: Path, model: str, data: str, recipe: Mapping[str, Any] | None = None, **settings: Any) -> Run:
    """The run in a folder: as it is, resumed, or made.

    Raises:
        UserError: Where a run of other settings stands there.
    """
    wanted = placed(ask(model, data, recipe, **settings)).model_dump()
    if (folder / "run.yaml").exists():
        there = read_run(folder)[0].model_dump()
        if there["select"] == "classes":  # which sets the number of rounds
            there["recipe"]["rounds"] = wanted["recipe"]["rounds"]
        if other := [name for name, value in wanted.items() if there[name] != value]:
            raise UserError(f"'{folder}' holds a run with another {' and '.join(other)}: choose another --out.")
        if (folder / "model.safetensors").exists():
            return load(folder)
    if (folder / "checkpoint").exists():
        return train(model, data, out=folder, resume=True)
    return train(model, data, out=folder, force=folder.exists(), progress=True, recipe=recipe, **settings)


def measured(folder: Path, model: str, data: str, samples: int, **settings: Any) -> dict[str, Any]:
    """Train, or go on with a training, and evaluate it on the test split; out of evaluation.json where it is there."""
    remembered = folder / "evaluation.json"
    if not remembered.exists():
        run = trained(folder, model, data, **settings)
        remembered.write_text(json.dumps(evaluate(run, samples=samples)), encoding="utf-8")
    return json.loads(remembered.read_text(encoding="utf-8"))
