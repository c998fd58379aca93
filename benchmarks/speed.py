"""Measure speed as ratios in one run: this library against the loop a user would write.

    python benchmarks/speed.py [--rounds 20] [--repeats 3] [--cases dcgan32,wgan_gp28,...]
                               [--anomalib PYTHON] [--json FILE]

Every measurement is a process of its own, the sides take turns, and the median over the repeats is printed.
Images are the handwritten digits of scikit-learn, enlarged and written as PNG files.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
IMAGES = 512


@dataclass(frozen=True)
class Case:
    model: str
    variant: str
    side: int
    channels: int
    batch: int
    phase: int = 0


CASES = {
    "dcgan32": Case("dcgan", "four", 32, 1, 64),
    "dcgan64": Case("dcgan", "four", 64, 3, 128),
    "ganomaly32": Case("ganomaly", "default", 32, 1, 64),
    "wgan_gp28": Case("wgan_gp", "mnist", 28, 1, 50),
    "wgan_gp32": Case("wgan_gp", "cifar10_conv", 32, 3, 64),
    "cdcgan32": Case("cdcgan", "default", 32, 1, 128),
    "stackgan64": Case("stackgan", "default", 64, 3, 16),
    "stackgan64_second": Case("stackgan", "default", 64, 3, 16, phase=1),
    "discogan64": Case("discogan", "default", 64, 3, 32),
    "bigan28": Case("bigan", "default", 28, 1, 128),
}
CLASSES = tuple("0123456789")
CAPTION = 384  # numbers in the embedding of a caption


def write_images(folder: Path, case: Case) -> None:
    """Write digits as PNG files: coloured where there are three channels, a folder a class where there are labels."""
    from PIL import Image
    from sklearn.datasets import load_digits

    rng, digits = np.random.default_rng(0), load_digits()
    by_class = {"label", "caption"} & set(game_of(case).needs)
    for k, (digit, label) in enumerate(zip(digits.images[:IMAGES], digits.target, strict=False)):
        grey = np.asarray(Image.fromarray((digit * 15.9).astype(np.uint8)).resize((case.side, case.side)))
        array = grey if case.channels == 1 else (grey[..., None] * rng.uniform(0.3, 1, 3)).astype(np.uint8)
        home = folder / CLASSES[label] if by_class else folder
        home.mkdir(exist_ok=True)
        Image.fromarray(array).save(home / f"{k:04d}.png")


def game_of(case: Case) -> Any:
    import torch

    from sparring import models
    from sparring.protocol import Spec

    entry = models.find(case.model)
    recipe = entry.recipe.read({"batch": case.batch, "rounds": 1}, entry.variant(case.variant))
    torch.manual_seed(0)
    caption = CAPTION if "caption" in entry.game.needs else 0
    return entry.game(Spec((case.channels, case.side, case.side), IMAGES, CLASSES, caption), recipe)


def phase_of(game: Any, case: Case) -> Any:
    """What is timed, with its players chosen."""
    phase = game.phases()[case.phase]
    players = phase.players()
    return phase.play, lambda: players


def stream_of(game: Any, case: Case, folder: Path) -> Any:
    """Minibatches of the files, with what else the game needs: a second domain, or the caption of each class."""
    from dataclasses import replace

    from sparring.data import Stream, open_source
    from sparring.data.captions import tell

    source = open_source(folder, size=case.side, channels=case.channels)
    if "partner" in game.needs:
        return Stream(source, case.batch, beside={"partner": source})
    if "caption" not in game.needs:
        return Stream(source, case.batch)
    said = replace(source, captions=tuple((CLASSES[label],) for label in source.labels))
    rows = np.random.default_rng(0).standard_normal((len(CLASSES), CAPTION)).astype(np.float32)
    told = tell(said, dict(zip(CLASSES, rows, strict=True)))
    return Stream(said, case.batch, told=told, mismatched=True)


def plain(case: Case, folder: Path, rounds: int) -> dict[str, float]:
    """Time the plain loop, after three rounds of warm-up."""
    from plain import ROUNDS, minibatches

    game = game_of(case).train()
    phase_of(game, case)
    play = ROUNDS[case.model](game)
    stream = minibatches(folder, case.side, case.channels, case.batch)
    waits: list[float] = []

    def draw() -> Any:
        asked = time.perf_counter()
        minibatch = next(stream)
        waits.append(time.perf_counter() - asked)
        return minibatch

    for _ in range(3):
        play(draw)
    waits.clear()
    began = time.perf_counter()
    for _ in range(rounds):
        play(draw)
    seconds = time.perf_counter() - began
    return {"images_per_second": rounds * game.draws * case.batch / seconds, "waiting": sum(waits) / seconds}


def ours(case: Case, folder: Path, rounds: int, precision: str, compiled: bool = False) -> dict[str, float]:
    """Time the engine over the same files, after three rounds of warm-up."""
    import torch
    from lightning_fabric import Fabric

    from sparring.engine import Engine
    from sparring.protocol import Phase

    game = game_of(case).to(memory_format=torch.channels_last)
    if compiled:
        for network in game.children():
            network.compile()
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    fabric.launch()
    stream = stream_of(game, case, folder)
    play, players = phase_of(game, case)
    game.phases = lambda: [Phase("warm", 3, play, players), Phase("timed", rounds, play, players)]
    engine = Engine(game, stream, fabric)
    engine.play()
    lines = [line for line in engine.journal.lines if line["phase"] == "timed"]
    seconds, waited = sum(line["seconds"] for line in lines), sum(line["waited"] for line in lines)
    return {
        "images_per_second": rounds * game.draws * case.batch / seconds,
        "waiting": waited / seconds,
        "flops": flops(game, stream, play, players()),
    }


def flops(game: Any, stream: Any, play: Any, players: Any) -> float:
    """Floating-point operations of a round per image, the mean of three, by PyTorch's counter (2 a multiply-add)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        for step in range(3):
            move, turn = play(stream, step), None
            with suppress(StopIteration):
                while True:
                    asked = move.send(turn)
                    updates = asked if isinstance(asked, tuple) else (asked,)
                    for update in updates:
                        parameters = [p for group in players[update.player].param_groups for p in group["params"]]
                        update.loss.backward(inputs=parameters, retain_graph=update is not updates[-1])
                    losses = torch.stack([update.loss.detach() for update in updates])
                    turn = losses if isinstance(asked, tuple) else losses[0]
    return counter.get_total_flops() / (3 * game.recipe.batch * game.draws)


def peak(precision: str) -> dict[str, float]:
    """The best rate of a convolution and its two gradients on this machine, in operations a second."""
    import torch

    kind = torch.bfloat16 if "bf16" in precision else torch.float32
    best = 0.0
    for inputs, outputs, side in ((64, 128, 32), (128, 256, 16), (256, 512, 8)):
        x = torch.randn(64, inputs, side, side, dtype=kind).to(memory_format=torch.channels_last).requires_grad_()
        convolution = torch.nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False, dtype=kind).to(
            memory_format=torch.channels_last
        )
        for _ in range(6):
            began = time.perf_counter()
            y = convolution(x)
            y.backward(torch.ones_like(y))
            best = max(best, 3 * 2 * y.numel() * inputs * 16 / (time.perf_counter() - began))
    return {"operations_per_second": best}


def scoring(case: Case, batch: int) -> dict[str, float]:
    """Time scoring by PyTorch and by onnxruntime, and how far their scores lie apart."""
    import torch

    from sparring.export import session, to_onnx

    game = game_of(case).eval()
    x = torch.rand(batch, case.channels, case.side, case.side) * 2 - 1
    fast = session(to_onnx(game))
    with torch.no_grad():
        ways = {"eager": lambda: game.score(x).numpy(), "onnxruntime": lambda: fast(x)}
        a, b = (way() for way in ways.values())
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(7):
            for name, way in ways.items():
                began, count = time.perf_counter(), max(3, 128 // batch)
                for _ in range(count):
                    way()
                times[name].append((time.perf_counter() - began) / count)
    rates = {f"{name}_per_second": batch / statistics.median(t) for name, t in times.items()}
    return {**rates, "difference": float(np.abs(a - b).max() / np.abs(a).max())}


def child(arguments: argparse.Namespace) -> None:
    """Do one measurement and print it as JSON."""
    case, folder = CASES[arguments.case], Path(arguments.folder)
    sides = {
        "plain": lambda: plain(case, folder, arguments.rounds),
        "fp32": lambda: ours(case, folder, arguments.rounds, "32-true"),
        "bf16": lambda: ours(case, folder, arguments.rounds, "bf16-mixed"),
        "compiled": lambda: ours(case, folder, arguments.rounds, "32-true", compiled=True),
        "peak fp32": lambda: peak("fp32"),
        "peak bf16": lambda: peak("bf16"),
        "score 1": lambda: scoring(case, 1),
        "score 64": lambda: scoring(case, 64),
    }
    found = sides[arguments.side]()
    found["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


def measure(case: str, side: str, folder: Path, rounds: int, python: str = sys.executable) -> dict[str, float]:
    """Do one measurement in a process of its own."""
    script = "speed.py" if side != "anomalib" else "anomalib_speed.py"
    command = [
        python,
        str(HERE / script),
        "--case",
        case,
        "--side",
        side,
        "--folder",
        str(folder),
        "--rounds",
        str(rounds),
    ]
    environment = {**os.environ, "SPARRING_CACHE": str(folder.parent / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure a case on all sides in turn."""
    sides = ["plain", "fp32", "bf16", *(["compiled"] if arguments.compile else [])]
    if arguments.anomalib and CASES[name].model == "ganomaly":
        sides.append("anomalib")
    found: dict[str, list[dict[str, float]]] = {side: [] for side in [*sides, "peak fp32", "peak bf16"]}
    for _ in range(arguments.repeats):
        for side in found:
            python = arguments.anomalib if side == "anomalib" else sys.executable
            found[side].append(measure(name, side, folder, arguments.rounds, python))
    middle = {
        side: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for side, runs in found.items()
    }
    result: dict[str, Any] = {"case": name, **middle}
    for side in sides[1:]:
        pairs = zip(found[side], found["plain"], strict=True)
        ratios = [a["images_per_second"] / b["images_per_second"] for a, b in pairs]
        result[f"{side} / plain"] = [round(r, 2) for r in (min(ratios), statistics.median(ratios), max(ratios))]
    for side in ("fp32", "bf16"):
        rate = middle[side]["images_per_second"] * middle[side]["flops"]
        result[f"{side} share of peak"] = rate / middle[f"peak {side}"]["operations_per_second"]
    if CASES[name].model == "ganomaly":
        result |= {side: measure(name, side, folder, 1) for side in ("score 1", "score 64")}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--anomalib", metavar="PYTHON", help="interpreter of an environment that has anomalib")
    parser.add_argument("--json", type=Path)
    for hidden in ("--case", "--side", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        child(arguments)
        return
    results = []
    for name in arguments.cases.split(","):
        with tempfile.TemporaryDirectory() as folder:
            images = Path(folder) / "images"
            images.mkdir()
            write_images(images, CASES[name])
            results.append(compare(name, images, arguments))
        print(json.dumps(results[-1], indent=1), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
