"""What OGNet is about: whether phase two calms what phase one shakes, by forks of one training.

    python benchmarks/ognet_stability.py mnist --normal 0 [--variant light] [--epochs 15] [--last 10] [--most 500]
                                         [--out runs/ognet-stability]

Phase one learns for so many epochs, and G_old is kept after the first. After each of the last epochs a copy of it all
goes through phase two, as in the authors' script: restarts that know nothing of each other. AUROC on the judged split,
in eval mode, is that of the discriminator before phase two and after it. The fifth of the normal examples that a
detector is calibrated on is held out here as well.

What is done is skipped, so that the command can be stopped and started. Prints a table in Markdown, and its last rows
as JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sparring.data import Stream
from sparring.engine import Engine
from sparring.files import write_text
from sparring.job import assignment
from sparring.judging import REPORT, Inspector, scored
from sparring.metrics.detection import auroc
from sparring.preparation import Setup, ask, set_up
from sparring.protocol import Game
from sparring.training import make_fabric


class Forks:
    """A judge that sends a copy of what it sees through phase two, and notes AUROC before and after.

    Args:
        setup: The opened job.
        normal: Names of the normal classes.
        on: The judged split.
        most: Normal and strange examples at most, of each; None takes all.
        after: Epochs that it lets pass.
        path: Where the numbers are kept.
    """

    def __init__(
        self, setup: Setup, normal: tuple[str, ...], on: str, most: int | None, after: int, path: Path
    ) -> None:
        self.setup, self.after, self.path = setup, after, path
        self.sound, self.strange = Inspector(setup, normal, on, most).parts[REPORT]
        self.found: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}

    def __call__(self, game: Game, phase: str, done: int) -> Mapping[str, float]:
        epoch = done // game.rounds_in(1)
        if epoch <= self.after or str(epoch) in self.found:
            return {}
        before = self.rank(game)
        self.found[str(epoch)] = {"before": before, "after": self.rank(self.forked(game, done))}
        write_text(self.path, json.dumps(self.found, indent=1))
        print(f"epoch {epoch}: {self.found[str(epoch)]}", flush=True)
        return {}

    def rank(self, game: Game) -> float:
        return auroc(scored(game, self.strange), scored(game, self.sound))

    def forked(self, game: Game, done: int) -> Game:
        """A copy that has been through phase two, on the minibatches that phase one would have drawn next."""
        fork, job = copy.deepcopy(game), self.setup.job
        fabric = make_fabric(job)
        stream = Stream(self.setup.fit, self.setup.recipe.batch, seed=job.seed, device=fabric.device)
        stream.position = done
        engine = Engine(fork, stream, fabric, job.seed)
        engine.phases = engine.phases[1:]
        with torch.enable_grad():
            engine.play()
        return fork.eval()


def forks(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """AUROC before and after phase two, by epoch."""
    recipe = {"epochs": arguments.epochs, "elder": 1 / arguments.epochs} | dict(arguments.set)
    settings = {"variant": arguments.variant, "size": arguments.size, "seed": arguments.seed}
    setup = set_up(ask("ognet", arguments.data, recipe, normal=(arguments.normal,), **settings))
    name = re.sub(r"\W+", "_", f"{Path(arguments.data).name}-{arguments.normal}-{arguments.variant}-{arguments.seed}")
    folder = arguments.out / name
    normal = tuple(setup.fit.classes)
    judge = Forks(setup, normal, arguments.on, arguments.most, arguments.epochs - arguments.last, folder / "forks.json")
    if len(judge.found) < arguments.last:
        fabric = make_fabric(setup.job)
        setup.game.to(fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        stream = Stream(setup.fit, setup.recipe.batch, seed=arguments.seed, device=fabric.device)
        engine = Engine(setup.game, stream, fabric, arguments.seed, path=folder / "checkpoint", judge=judge)
        engine.phases, engine.look_every = engine.phases[:1], setup.game.rounds_in(1)
        if (folder / "checkpoint").exists():
            engine.resume()
        engine.play()
    return judge.found


def table(found: dict[str, dict[str, float]]) -> tuple[str, dict[str, Any]]:
    """The rows in Markdown, and means, standard deviations and their ratio."""
    sides = {side: [one[side] for one in found.values()] for side in ("before", "after")}
    told: dict[str, Any] = {
        side: {"mean": statistics.fmean(values), "deviation": statistics.stdev(values)}
        for side, values in sides.items()
    }
    told["ratio"] = told["after"]["deviation"] / told["before"]["deviation"]
    rows = [(epoch, f"{one['before']:.4f}", f"{one['after']:.4f}") for epoch, one in found.items()]
    rows += [
        (name, *(f"{told[side][key]:.4f}" for side in sides))
        for name, key in (("mean", "mean"), ("standard deviation", "deviation"))
    ]
    rows.append(("ratio of deviations", "", f"{told['ratio']:.3f}"))
    lines = [("after epoch", "phase one", "phase two"), ("---",) * 3, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines), told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--normal", required=True)
    parser.add_argument("--on", default="test", help="the split that is judged on")
    parser.add_argument("--variant", default="default", help="of ognet, such as light")
    parser.add_argument("--epochs", type=int, default=15, help="of phase one")
    parser.add_argument("--last", type=int, default=10, help="epochs, of these, that are forked")
    parser.add_argument("--most", type=int, default=500, help="normal and strange examples at most; 0 for all")
    parser.add_argument("--size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", type=assignment, default=[], help="of ognet: key=value")
    parser.add_argument("--out", type=Path, default=Path("runs/ognet-stability"))
    arguments = parser.parse_args()
    arguments.most = arguments.most or None
    if not 2 <= arguments.last <= arguments.epochs:
        parser.error("--last must be from 2 to --epochs")
    found = forks(arguments)
    rows, told = table(found)
    print(rows)
    print(json.dumps({"data": arguments.data, "normal": arguments.normal, "variant": arguments.variant, **told}))


if __name__ == "__main__":
    main()
