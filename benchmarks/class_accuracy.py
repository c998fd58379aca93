"""How often a conditional generator makes what it was asked for, by a classifier of images that it never saw.

    sparring train cdcgan mnist --split 'train[:50000]' --epochs 5 --out RUN
    python benchmarks/class_accuracy.py RUN --judge 'train[50000:]' [--samples 10000]

The classifier (the one that distances are measured by) learns from the part of the run's data that --judge names.
Prints its accuracy on the test split, that of the generator's images with its 95 % interval (Clopper and Pearson), and
the accuracy by class.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from scipy.stats import binomtest

from sparring import load
from sparring.apart import learnt_from
from sparring.data import batches
from sparring.features import BATCH, classifier
from sparring.generation import as_saved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--judge", default="train[50000:]")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    run = load(arguments.run)
    if learnt_from(run, run.job.data, arguments.judge):
        parser.error(f"the generator learnt from '{run.job.split}': train it on another split than {arguments.judge}")
    judge = classifier(run.open(run.job.data, arguments.judge), print)
    test = run.open(run.job.data, "test")
    said = judge(batches(test, BATCH)).probabilities
    assert said is not None
    print(
        f"Judge: {judge.name}; right about {(said.argmax(1) == test.labels).mean():.2%} of {len(test):,} test images."
    )
    classes = run.spec.classes
    known = torch.tensor([judge.classes.index(name) for name in classes])
    asked = torch.arange(arguments.samples) % len(classes)
    torch.manual_seed(arguments.seed)
    made = judge(as_saved(run.game.generate(len(part), label=part)) for part in asked.split(BATCH)).probabilities
    assert made is not None
    right = made.argmax(1) == known[asked].numpy()
    interval = binomtest(int(right.sum()), len(right)).proportion_ci()
    print(f"As asked: {right.mean():.2%} of {len(right):,} ({interval.low:.2%} to {interval.high:.2%})")
    by_class = [f"{name} {right[np.asarray(asked) == k].mean():.1%}" for k, name in enumerate(classes)]
    print("By class: " + ", ".join(by_class))


if __name__ == "__main__":
    main()
