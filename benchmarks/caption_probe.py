"""What the embedding of a caption still tells: colour, shape and ground of captioned shapes, by a linear probe.

    python benchmarks/caption_probe.py [--text characters]

Embeds the distinct captions of the training split, fits a logistic regression to each attribute, and counts how often
it is right about the captions of the test split, whose pairs of colour and shape the encoder never saw. What a linear
layer cannot find here, StackGAN's condition cannot either. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sparring.data import open_source
from sparring.data.captions import need_captions
from sparring.data.shapes import ATTRIBUTES, asked
from sparring.text import choose, embed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", default="characters")
    arguments = parser.parse_args()
    sources = {split: open_source("shapes", split=split) for split in ("train", "test")}
    encoder = choose(arguments.text, lambda: sources["train"])
    vectors: dict[str, dict[str, np.ndarray]] = {
        split: embed(encoder, sorted({text for own in need_captions(source) for text in own}))
        for split, source in sources.items()
    }
    print(f"| attribute | {encoder.name}, hash {encoder.hash}: right about new captions | by chance | captions |")
    print("|---|---|---|---|")
    for name, values in ATTRIBUTES.items():
        told = {
            split: [(row, words[name]) for text, row in own.items() if name in (words := asked(text))]
            for split, own in vectors.items()
        }
        (x, y), (new, truth) = (tuple(map(np.array, zip(*pairs, strict=True))) for pairs in told.values())
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(x, y)
        print(f"| {name} | {probe.score(new, truth):.3f} | {1 / len(values):.3f} | {len(truth):,} |", flush=True)


if __name__ == "__main__":
    main()
