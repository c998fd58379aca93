"""DiscoGAN between two domains of one set: right partners, classes kept, the way back, distances.

    python benchmarks/translations.py mnist [--domains inverted,rotated,coloured] [--size 32] [--seeds 1]
                                      [--variant small] [--samples 10000] [--out runs/translations]
    python benchmarks/translations.py emoji --domains edges --size 64

Turning an image takes the extra layers, which `rotated` gets (see docs/papers/discogan.md). A training that was stopped
goes on; what is done is skipped. Prints a table in Markdown, and draws for each training a grid of test images, what
they become, and what these become on the way back: from A to B, then from B to A.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from measured import measured
from sparring import load, pictures
from sparring.data import Domain, to_tensor
from sparring.run import Run

SHOWN = 12


def cells(found: dict[str, Any]) -> list[str]:
    """Of one direction: right partners, classes kept and how sure that is, cycle error, distance made and untouched."""
    kept = found.get("class_agreement", {})
    values = [
        found.get("partner_rate", {}).get("value"), kept.get("value"), kept.get("accuracy"),
        found["cycle_error"]["value"], (found["measures"]["frechet_distance"] or {}).get("value"),
        (found["untranslated"]["frechet_distance"] or {}).get("value"),
    ]  # fmt: skip
    return ["" if value is None else f"{value:.3f}" for value in values]


@torch.no_grad()
def draw(run: Run, path: Path) -> None:
    """Test images of both domains, their translations, and the ways back."""
    assert run.job.domains is not None
    tiles = []
    for to, home in (("b", "a"), ("a", "b")):
        source = run.open(run.job.data, "test", domain=Domain(run.job.domains, home == "b"), limit=SHOWN)
        x = to_tensor(source.read(slice(None)))
        made = run.game.translate(x, to)
        tiles += [x, made, run.game.translate(made, home)]
    pictures.save(pictures.grid(torch.cat(tiles), columns=SHOWN), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--domains", default="inverted,rotated,coloured")
    parser.add_argument("--variant", default="small")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("runs/translations"))
    arguments = parser.parse_args()
    headings = ["B", "seed", "way", "right partner", "class kept", "classifier right", "cycle error", "FD", "FD before"]
    print("| " + " | ".join(headings) + " |\n|" + "---|" * len(headings))
    for domains in arguments.domains.split(","):
        for seed in range(arguments.seeds):
            folder = arguments.out / f"{arguments.data}-{domains}-{arguments.variant}-{arguments.size}-{seed}"
            found = measured(
                folder, "discogan", arguments.data, arguments.samples, variant=arguments.variant, size=arguments.size,
                seed=seed, domains=domains, recipe={"extra": True} if domains == "rotated" else {},
            )["translation"]  # fmt: skip
            for way, name in (("to_b", "A to B"), ("to_a", "B to A")):
                print("| " + " | ".join([domains, str(seed), name, *cells(found[way])]) + " |", flush=True)
            draw(load(folder), folder / "ways.png")


if __name__ == "__main__":
    main()
