"""DiscoGAN's toy problem: does a translation between two mixtures of Gaussians keep them apart, or merge them?

    python benchmarks/toy_domains.py --out runs/domains [--rounds 5000] [--seeds 3]

Trains the variant `toy` of discogan on 5gaussians and 10gaussians, with reconstruction both ways (DiscoGAN), on one
way, and without (plain GANs): the paper's ablations. Counts the Gaussians of B that points of A reach (a mode counts
where at least 1 % of the points of some Gaussian of A fall within three standard deviations) and those that more than
one Gaussian of A goes to: none where the mapping is one-to-one. Trainings that are done are skipped. Prints a table in
Markdown and draws the figure of the first seed, domains.png: points of A, where they go, coloured by their Gaussian.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparring import load, train
from sparring.data import open_source
from sparring.data.toys import MODES
from sparring.metrics.modes import mapped_modes

A, B = "5gaussians", "10gaussians"
COUPLINGS = {"none": "plain GAN", "one": "reconstruction one way", "both": "DiscoGAN"}
POINTS = 2_000


def one(coupling: str, folder: Path, rounds: int, seed: int) -> dict[str, Any]:
    """Train and count, and remember what came out."""
    remembered, points = folder / "domains.json", folder / "points.npy"
    if not remembered.exists():
        recipe = {"coupling": coupling, "rounds": rounds}
        train("discogan", A, out=folder, partner=B, seed=seed, force=True, variant="toy", recipe=recipe)
        source = open_source(A, split="test", limit=POINTS)
        with torch.no_grad():
            made = load(folder).game.translate(torch.from_numpy(source.read(slice(None))), "b").numpy()
        found = mapped_modes(source.labels, made, MODES[B].centres, MODES[B].sigma)
        np.save(points, made)
        remembered.write_text(json.dumps({**found, "seed": seed}), encoding="utf-8")
    return {**json.loads(remembered.read_text(encoding="utf-8")), "points": np.load(points)}


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Points of A, and where each of the trainings sends them, over the Gaussians of B."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    a, b = (open_source(name, split="test", limit=POINTS) for name in (A, B))
    figure, axes = pyplot.subplots(1, 1 + len(results), figsize=(3 * (1 + len(results)), 3.2), layout="constrained")
    panels = {"A and B": {"points": a.items[a.index]}, **results}
    for panel, (name, found) in zip(axes, panels.items(), strict=True):
        panel.scatter(*b.items[b.index].T, s=3, color="0.85", linewidths=0)
        panel.scatter(*found["points"].T, s=3, c=a.labels, cmap="tab10", vmax=9, linewidths=0)
        count = f", {found['value']} of {found['of']}" if "of" in found else ""
        panel.set(title=f"{name}{count}", xticks=[], yticks=[])
        panel.set_aspect("equal")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/domains"))
    parser.add_argument("--rounds", type=int, default=5_000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print(
        "| training | seed | modes of B | reached from several | one-to-one | near a mode |\n|---|---|---|---|---|---|"
    )
    first = {}
    for seed in range(arguments.seeds):
        for coupling, name in COUPLINGS.items():
            found = one(coupling, arguments.out / f"{coupling}-{seed}-{arguments.rounds}", arguments.rounds, seed)
            first.setdefault(name, found)
            alone = "yes" if found["one_to_one"] else "no"
            near = f"{100 * found['high_quality']:.1f} %"
            print(f"| {name} | {seed} | {found['value']} of {found['of']} | {found['shared']} | {alone} | {near} |")
    draw(first, arguments.out / "domains.png")


if __name__ == "__main__":
    main()
