"""StackGAN on captions: distances, R-precision, diversity, and on shapes what is as asked, by stage.

    python benchmarks/texts.py shapes|emoji [--text characters,FOLDER] [--variant small] [--size 64] [--seeds 1]
                               [--samples 2000] [--out runs/texts]

One training for each text encoder and seed, judged by captions that it never saw. A training that was stopped goes on;
what is done is skipped. Prints a table in Markdown, and draws a grid for each training beside its run: a row for each
of eight captions of the training, then of eight that are new, stage I on the left and stage II on the right.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from measured import measured
from sparring import load, pictures
from sparring.data.captions import need_captions
from sparring.run import Run

SHOWN, IMAGES = 8, 4  # captions of either split, and images of each stage


def rows(found: dict[str, Any]) -> dict[str, tuple[float, float | None]]:
    """What was measured, and what real images reach."""
    measures, best = found["distances"]["measures"], found["distances"]["training"]
    texts = found["texts"]
    shown = {
        name: (measures[key]["value"], best[key]["value"])
        for name, key in (("Fréchet distance", "frechet_distance"), ("kernel distance", "kernel_distance"))
    }
    shown["R-precision"] = (texts["r_precision"]["value"], texts["r_precision"]["reference"])
    shown["diversity of a text"] = (texts["diversity"]["value"], None)
    for stage, by_name in texts.get("attributes", {}).items():
        where = "" if stage == "images" else f", {stage}"
        score = texts["class_score"][stage]
        shown[f"class score{where}"] = (score["value"], score["reference"])
        shown |= {f"{name} as asked{where}": (one["value"], one["reference"]) for name, one in by_name.items()}
    return shown


@torch.no_grad()
def draw(run: Run, path: Path) -> list[str]:
    """Draw the grid, and give its captions in order."""
    texts = []
    for split in ("train", "test"):
        own = need_captions(run.open(None, split))
        texts += [own[k][0] for k in np.linspace(0, len(own) - 1, SHOWN).astype(int)]
    z = run.sampler().latents(range(IMAGES))
    tiles = []
    for caption in torch.from_numpy(run.text_encoder(texts)):
        said = caption.expand(IMAGES, -1)
        large = run.game.generate(IMAGES, z, said)
        tiles += [F.interpolate(run.game.sketch(IMAGES, z, said), large.shape[-1]), large]
    pictures.save(pictures.grid(torch.cat(tiles), columns=2 * IMAGES), path)
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("shapes", "emoji"))
    parser.add_argument("--text", default="characters")
    parser.add_argument("--variant", default="small")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("runs/texts"))
    arguments = parser.parse_args()
    print("| text encoder | seed | measure | made | real images |\n|---|---|---|---|---|")
    captions = []
    for encoder in arguments.text.split(","):
        for seed in range(arguments.seeds):
            name = f"{arguments.data}-{Path(encoder).name}-{arguments.variant}-{arguments.size}-{seed}"
            folder = arguments.out / name
            found = measured(
                folder, "stackgan", arguments.data, arguments.samples, variant=arguments.variant, size=arguments.size,
                seed=seed, text=encoder,
            )  # fmt: skip
            for measure, (made, real) in rows(found).items():
                beside = "" if real is None else f"{real:.3f}"
                print(f"| {Path(encoder).name} | {seed} | {measure} | {made:.3f} | {beside} |", flush=True)
            captions = draw(load(folder), folder / "captions.png")
    print("\nRows of captions.png: " + "; ".join(captions) + ".")


if __name__ == "__main__":
    main()
