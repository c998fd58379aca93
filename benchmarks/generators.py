"""Every generator after the same number of real images: distances to the test split, speed and memory.

    python benchmarks/generators.py mnist --images 200000 [--models dcgan,wgan_gp:mnist] [--seeds 3] [--size 32]
                                    [--out runs/generators] [--samples 10000]

A name after a colon is a variant, and what follows a plus is set: `wgan+eager_steps=5`. What is done is skipped, so
that the command can be stopped and started. Every training is a process of its own, whose peak memory is noted. Prints
a table in Markdown: the mean over the seeds, and the spread from the smallest to the largest. Draws a row of samples of
each model (seed 0) to OUT/DATA.png, in the order of the table.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from measured import trained
from sparring import evaluate, load, pictures
from sparring.engine.journal import read_journal
from sparring.models import find, names
from sparring.protocol import Game

COLUMNS = {  # of the table: heading, key of the measure, digits
    "FD": ("frechet_distance", 1), "KD": ("kernel_distance", 1), "precision": ("precision", 3),
    "recall": ("recall", 3), "class accuracy": ("class_accuracy", 4),
}  # fmt: skip


SHOWN = 20  # samples of a model in the picture
PLAIN = (("x",), ("x", "label"))  # what they learn from


def generators() -> list[str]:
    """Models that generate images from noise alone or by class, and judge nothing."""
    games = {name: find(name).game for name in names()}
    return [
        n
        for n, game in games.items()
        if game.needs in PLAIN and hasattr(game, "generate") and not hasattr(game, "score")
    ]


def parts(model: str) -> tuple[str, str, dict[str, str]]:
    """Name, variant and settings: of "wgan:mlp+clip=0.1" these are wgan, mlp and {"clip": "0.1"}."""
    model, *settings = model.split("+")
    name, _, variant = model.partition(":")
    return name, variant or "default", dict(setting.split("=", 1) for setting in settings)


def rounds_of(arguments: argparse.Namespace) -> int:
    """Rounds in which the model draws so many real images."""
    from sparring.preparation import ask, set_up

    name, variant, recipe = parts(arguments.one)

    def game(epochs: float) -> Game:
        asked = recipe | {"rounds": None, "epochs": epochs}
        return set_up(ask(name, arguments.data, asked, variant=variant, size=arguments.size)).game

    whole = game(1.0)
    batch = whole.recipe.batch
    return game(arguments.images / (batch * (whole.spec.count // batch))).rounds


def one(arguments: argparse.Namespace) -> None:
    """Train and measure one model with one seed, in this process, and remember both."""
    name, variant, recipe = parts(arguments.one)
    folder = Path(arguments.folder)
    recipe |= {"rounds": rounds_of(arguments)}
    run = trained(folder, name, arguments.data, recipe, variant=variant, size=arguments.size, seed=arguments.seed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines = read_journal(folder / "journal.jsonl")
    seconds = sum(line["seconds"] for line in lines)
    speed = sum(line["images_per_second"] * line["seconds"] for line in lines) / seconds
    found = evaluate(run, samples=arguments.samples)
    found |= {"images_per_second": round(speed, 1), "train_seconds": round(seconds, 1), "peak_memory_mb": round(peak)}
    (folder / "evaluation.json").write_text(json.dumps(found), encoding="utf-8")


def folder_of(model: str, seed: int, arguments: argparse.Namespace) -> Path:
    return arguments.out / f"{re.sub('[:+=]', '-', model)}-{Path(arguments.data).stem}-{seed}"


def of_seed(model: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The measures of one training, done in a process of its own where they are not there yet."""
    folder = folder_of(model, seed, arguments)
    remembered = folder / "evaluation.json"
    if not remembered.exists():
        command = [
            sys.executable,
            __file__,
            arguments.data,
            "--one",
            model,
            "--folder",
            str(folder),
            "--seed",
            str(seed),
        ]
        command += ["--images", str(arguments.images), "--samples", str(arguments.samples)]
        command += ["--size", str(arguments.size)] if arguments.size else []
        subprocess.run(command, check=True, stdout=sys.stderr)
    return json.loads(remembered.read_text(encoding="utf-8"))


def spread(values: list[float], digits: int) -> str:
    mean = sum(values) / len(values)
    text = f"{mean:.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def row(model: str, results: list[dict[str, Any]]) -> str:
    cells = [model]
    for key, digits in COLUMNS.values():
        found = [r["distances"]["measures"].get(key) for r in results]
        cells.append(spread([f["value"] for f in found], digits) if all(found) else "")
    cells.append(spread([r["images_per_second"] for r in results], 0))
    cells.append(f"{max(r['peak_memory_mb'] for r in results):,} MB")
    return "| " + " | ".join(cells) + " |"


def draw(models: Iterable[str], arguments: argparse.Namespace) -> Path:
    """Picture a row of samples of each model; one by class makes each class in turn."""
    rows = []
    for model in models:
        run = load(folder_of(model, 0, arguments))
        told = {"label": [k % len(run.spec.classes) for k in range(SHOWN)]} if run.game.conditional else {}
        rows.append(run.sample(SHOWN, **told))
    path = arguments.out / f"{Path(arguments.data).stem}.png"
    pictures.save(pictures.grid(torch.cat(rows), columns=SHOWN), path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--models", default=",".join(generators()))
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/generators"))
    for hidden in ("--one", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments)
        return
    table = {}
    for model in arguments.models.split(","):
        table[model] = [of_seed(model, seed, arguments) for seed in range(arguments.seeds)]
        print(row(model, table[model]), file=sys.stderr, flush=True)
    first = next(iter(table.values()))[0]["distances"]
    print(f"Features: {first['features']} ({first['hash']}); {first['made']:,} made, {first['real']:,} real.\n")
    headings = ["model", *COLUMNS, "images/s", "peak memory"]
    print("| " + " | ".join(headings) + " |\n|" + "---|" * len(headings))
    best = {key: found for results in table.values() for key, found in results[0]["distances"]["training"].items()}
    reached = [f"{best[key]['value']:.{digits}f}" if best.get(key) else "" for key, digits in COLUMNS.values()]
    print("| " + " | ".join(["training images", *reached, "", ""]) + " |")
    for model, results in table.items():
        print(row(model, results))
    print(f"\nSamples are in {draw(table, arguments)}.")


if __name__ == "__main__":
    main()
