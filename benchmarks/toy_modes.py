"""Which modes of a mixture of Gaussians in the plane generators reach, and what they make between them.

    python benchmarks/toy_modes.py --out runs/toys [--models gan,wgan_gp,r3gan] [--data 8gaussians,25gaussians]
        [--rounds 3000] [--seed 0]

A mode counts as reached when at least one of 10,000 samples lies within three of its standard deviations; the high
quality share is that of samples so near to any mode. Real points have a share of 98.9 %. Every model has networks of
three hidden layers of 512 units, where it has such a choice, and as many rounds of its algorithm; a round of wgan_gp
holds five steps of its critic. Trainings that are done are skipped, so that the command can be stopped and started.
Prints a table in Markdown and draws one picture of all samples, modes.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from measured import trained
from sparring.comparison import of_training
from sparring.data import open_source
from sparring.data.toys import MODES
from sparring.metrics.modes import gaussian_modes

SAMPLES = 10_000
SHOWN = 2_000  # points of a panel
WIDE = (512, 512, 512)
SETTINGS: dict[str, dict[str, Any]] = {  # what the recipe that a model would take by default does not say
    "gan": {
        "variant": "mlp",
        "recipe": {"output": "linear", "hidden": WIDE, "units": WIDE, "latent": 2, "batch": 256, "rate": 1e-4},
    },
    "wgan_gp": {"variant": "toy"},
    "r3gan": {"recipe": {"batch": 256, "latent": 2, "ema": 0.999}},
}


def one(model: str, data: str, folder: Path, rounds: int, seed: int) -> dict[str, Any]:
    """Train, sample and count, and remember what came out."""
    remembered, points = folder / "modes.json", folder / "points.npy"
    if remembered.exists():
        return {**json.loads(remembered.read_text(encoding="utf-8")), "points": np.load(points)}
    own = SETTINGS.get(model, {})
    recipe = {**own.get("recipe", {}), "rounds": rounds}
    run = trained(folder, model, data, recipe, seed=seed, variant=own.get("variant", "default"))
    made = run.sample(SAMPLES, seed=seed).numpy()
    modes = MODES[data]
    found = gaussian_modes(made, modes.centres, modes.sigma)
    found |= {"model": model, "data": data, "rounds": rounds, "seed": seed, **of_training(run)}
    np.save(points, made[:SHOWN])
    remembered.write_text(json.dumps(found), encoding="utf-8")
    return {**found, "points": made[:SHOWN]}


def table(results: list[dict[str, Any]]) -> str:
    lines = ["| data | model | rounds | modes | high quality | train, s |", "|---|---|---|---|---|---|"]
    for f in results:
        share = f"{100 * f['high_quality']:.1f} %"
        lines.append(
            f"| {f['data']} | {f['model']} | {f['rounds']:,} | {f['value']} of {f['of']} | {share} "
            f"| {f['train_seconds']:.0f} |"
        )
    return "\n".join(lines)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """One row a data set; real points first, then those of each model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = list(dict.fromkeys(found["data"] for found in results))
    columns = list(dict.fromkeys(found["model"] for found in results))
    size = (2.4 * (1 + len(columns)), 2.6 * len(rows))
    figure, axes = pyplot.subplots(len(rows), 1 + len(columns), figsize=size, squeeze=False, layout="constrained")
    for panels, data in zip(axes, rows, strict=True):
        real = open_source(data, split="test").items[:SHOWN]
        made = {found["model"]: found for found in results if found["data"] == data}
        reach = 1.25 * np.abs(real).max()
        for panel, name in zip(panels, ("data", *columns), strict=True):
            points = real if name == "data" else made[name]["points"]
            panel.scatter(*points.T, s=1, alpha=0.4, linewidths=0, color="0.25" if name == "data" else "tab:blue")
            count = "" if name == "data" else f", {made[name]['value']} of {made[name]['of']}"
            panel.set(title=f"{name}{count}", xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
            panel.set_aspect("equal")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/toys"))
    parser.add_argument("--models", default="gan,wgan_gp,r3gan")
    parser.add_argument("--data", default="8gaussians,25gaussians")
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    results = []
    for data in arguments.data.split(","):
        for model in arguments.models.split(","):
            folder = arguments.out / f"{model}-{data}-{arguments.rounds}-{arguments.seed}"
            results.append(one(model, data, folder, arguments.rounds, arguments.seed))
    print(table(results))
    draw(results, arguments.out / "modes.png")


if __name__ == "__main__":
    main()
