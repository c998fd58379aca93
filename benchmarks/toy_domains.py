"""DiscoGAN's toy problem: does a translation between two mixtures of Gaussians keep them apart, or merge them?

    python benchmarks/toy_domains.py --out runs/domains [--rounds 4000] [--seeds 3]

Trains the variant `toy` of discogan on 5gaussians and 10gaussians, with reconstruction both ways (DiscoGAN), on one
way, and without (plain GANs): the paper's ablations, all for as many rounds. Counts the Gaussians of B that points of A
reach (a mode counts where at least 1 % of the points of some Gaussian of A fall within three standard deviations) and
those that are shared, to which more than one Gaussian of A sends at least 1, 5 or 10 % of its points: none where the
mapping is one-to-one. A training has collapsed where some are shared at 10 %, and at least half of all points lie near
a mode. Trainings that are done are skipped. Prints a table in Markdown and draws the figure of the first seed,
domains.png: points of A, where they go, coloured by their Gaussian.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from measured import trained
from sparring.data import open_source
from sparring.data.toys import MODES
from sparring.metrics.modes import mapped_modes

A, B = "5gaussians", "10gaussians"
COUPLINGS = {"none": "plain GAN", "one": "reconstruction one way", "both": "DiscoGAN"}
POINTS = 2_000
SHARES = (0.01, 0.05, 0.1)


def one(coupling: str, folder: Path, rounds: int, seed: int) -> dict[str, Any]:
    """Train and count, and remember what came out."""
    remembered, points = folder / "domains.json", folder / "points.npy"
    if not remembered.exists():
        recipe = {"coupling": coupling, "rounds": rounds}
        run = trained(folder, "discogan", A, recipe, partner=B, seed=seed, variant="toy")
        source = open_source(A, split="test", limit=POINTS)
        with torch.no_grad():
            made = run.game.translate(torch.from_numpy(source.read(slice(None))), "b").numpy()
        by_share = [mapped_modes(source.labels, made, MODES[B].centres, MODES[B].sigma, least=s) for s in SHARES]
        found = by_share[0] | {"shared": [one["shared"] for one in by_share]}
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
    figure.savefig(path, dpi=75)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/domains"))
    parser.add_argument("--rounds", type=int, default=4_000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print(
        "| training | seed | modes of B | shared at 1, 5, 10 % | one-to-one | near a mode | collapsed |\n"
        "|---|---|---|---|---|---|---|"
    )
    first = {}
    for seed in range(arguments.seeds):
        for coupling, name in COUPLINGS.items():
            found = one(coupling, arguments.out / f"{coupling}-{seed}-{arguments.rounds}", arguments.rounds, seed)
            first.setdefault(name, found)
            cells = [name, seed, f"{found['value']} of {found['of']}", ", ".join(map(str, found["shared"]))]
            cells += ["yes" if found["one_to_one"] else "no", f"{100 * found['high_quality']:.1f} %"]
            print("| " + " | ".join(map(str, [*cells, "yes" if found["collapsed"] else "no"])) + " |", flush=True)
    draw(first, arguments.out / "domains.png")


if __name__ == "__main__":
    main()
