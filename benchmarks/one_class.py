"""Each class of a labelled data set as the normal one in turn: a detector beside simple baselines.

    python benchmarks/one_class.py ganomaly mnist --out runs/one-class [--classes 0,1,2] [--seed 0] [--set key=value]

Classes that are done are skipped, so that the command can be stopped and started. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from sparring import evaluate, load, train
from sparring.data import open_source
from sparring.job import assignment
from sparring.metrics.baselines import BASELINES


def one(model: str, data: str, normal: str, folder: Path, seed: int, recipe: dict[str, Any]) -> dict[str, Any]:
    """Train on one class, measure on the test split, and remember both."""
    remembered = folder / "evaluation.json"
    if remembered.exists():
        return json.loads(remembered.read_text(encoding="utf-8"))
    began = time.perf_counter()
    resume = (folder / "checkpoint").exists()
    if resume:
        train(model, data, out=folder, resume=True)
    else:
        train(model, data, out=folder, normal=(normal,), seed=seed, recipe=recipe, force=True)
    seconds = time.perf_counter() - began
    found = evaluate(load(folder), baselines=True)
    found |= {"class": normal, "train_seconds": round(seconds, 1), "resumed": resume}
    remembered.write_text(json.dumps(found), encoding="utf-8")
    return found


def row(name: str, values: list[str]) -> str:
    return "| " + " | ".join([name, *values]) + " |"


def table(model: str, results: list[dict[str, Any]]) -> str:
    """One row a class: AUROC of the model with its interval, AUROC of the baselines, false alarms."""
    names = list(BASELINES)
    lines = [row("normal", [model, *names, "false alarms at 5 %"]), "|" + "---|" * (len(names) + 3)]
    for found in results:
        own, alarms = found["detection"]["auroc"], found["detection"]["false_alarms"]
        ours = f"{own['value']:.3f} ({own['low']:.3f} to {own['high']:.3f})"
        others = [f"{found['baselines'][name]['auroc']['value']:.3f}" for name in names]
        lines.append(row(found["class"], [ours, *others, f"{100 * alarms['value']:.1f} %"]))
    mean = [sum(f["detection"]["auroc"]["value"] for f in results) / len(results)]
    mean += [sum(f["baselines"][name]["auroc"]["value"] for f in results) / len(results) for name in names]
    lines.append(row("mean", [*(f"{value:.3f}" for value in mean), ""]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, default=Path("runs/one-class"))
    parser.add_argument("--classes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    names = arguments.classes.split(",") if arguments.classes else open_source(arguments.data).classes
    recipe = dict(assignment(text) for text in arguments.set)
    results = []
    for name in names:
        folder = arguments.out / f"{arguments.model}-{name}-{arguments.seed}"
        results.append(one(arguments.model, arguments.data, name, folder, arguments.seed, recipe))
        print(f"{name}: {results[-1]['detection']['auroc']['value']:.4f}", flush=True)
    print(table(arguments.model, results))


if __name__ == "__main__":
    main()
