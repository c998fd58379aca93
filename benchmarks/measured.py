"""A training and its evaluation that are done once, and remembered beside the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sparring import evaluate, load, train


def measured(model: str, data: str, folder: Path, samples: int, **settings: Any) -> dict[str, Any]:
    """Train, or go on with a training, and evaluate it on the test split; out of evaluation.json where it is there."""
    remembered = folder / "evaluation.json"
    if not remembered.exists():
        if (folder / "checkpoint").exists():
            train(model, data, out=folder, resume=True)
        else:
            train(model, data, out=folder, force=True, **settings)
        remembered.write_text(json.dumps(evaluate(load(folder), samples=samples)), encoding="utf-8")
    return json.loads(remembered.read_text(encoding="utf-8"))
