"""Kill ten trainings at random moments with SIGKILL, resume each, and compare the weights they end with.

    python benchmarks/kill.py [--times 10] [--seed 0]

Models take turns. Each training is killed one to three times; its weights must equal, bit for bit, those of the same
training left alone.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAININGS = {
    "gan": ["--variant", "mlp", "--rounds", "1500", "--batch", "32"],
    "dcgan": ["--variant", "four", "--rounds", "60", "--batch", "16", "--set", "width=16"],
    "ganomaly": ["--normal", "0", "--rounds", "60", "--batch", "16", "--set", "width=16"],
}


def command(model: str, out: Path, resume: bool = False) -> list[str]:
    start = [sys.executable, "-m", "sparring", "train"]
    options = ["--resume"] if resume else ["digits", *TRAININGS[model], "--checkpoint-seconds", "0.3"]
    return [*start, model, *options, "--out", str(out), "--json"]


def run(model: str, out: Path, moments: list[float]) -> int:
    """Train with kills after these seconds; count the kills that hit a running training."""
    hits = 0
    for moment in [*moments, None]:
        resume = (out / "run.yaml").exists()
        process = subprocess.Popen(command(model, out, resume), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if moment is None:
            if process.wait():
                raise SystemExit(f"{model} in {out} failed to resume")
            break
        time.sleep(moment)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        hits += 1
    return hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected, seconds = {}, {}
        for model in TRAININGS:
            began = time.perf_counter()
            run(model, folder / model, [])
            seconds[model] = time.perf_counter() - began
            expected[model] = (folder / model / "model.safetensors").read_bytes()
        same = 0
        for k in range(arguments.times):
            model = list(TRAININGS)[k % len(TRAININGS)]
            hits, scale = 0, seconds[model]
            while not hits:  # a machine that has become faster ends before the first kill: try again, and earlier
                shutil.rmtree(folder / f"{k}", ignore_errors=True)
                hits = run(model, folder / f"{k}", [rng.uniform(0.3, 1.0) * scale for _ in range(3)])
                scale *= 0.7
            equal = (folder / f"{k}" / "model.safetensors").read_bytes() == expected[model]
            same += equal
            print(f"{model}: killed {hits} times, weights {'equal' if equal else 'DIFFER'}", flush=True)
    print(f"{same} of {arguments.times} ended with the same weights")
    if same < arguments.times:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
