"""Data sets that go by a name: MNIST and its likes, the digits that scikit-learn ships, toys, and captioned shapes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sparring.data.arrays import from_array
from sparring.data.folder import Splits
from sparring.data.shapes import SHAPES, shapes
from sparring.data.source import Examples
from sparring.data.stacked import STACKED, stacked
from sparring.data.toys import TOYS, toy
from sparring.errors import UserError
from sparring.files import expanded


@dataclass(frozen=True)
class Named:
    """Where a data set is on the hub, and its classes where the files do not tell their names."""

    hub: str
    classes: tuple[str, ...] = ()


NAMED = {
    "mnist": Named("hf://ylecun/mnist"),
    "fashion_mnist": Named(
        "hf://zalando-datasets/fashion_mnist",
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "cifar10": Named(
        "hf://uoft-cs/cifar10",
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
}
DIGITS = "digits"
NAMES = (*NAMED, DIGITS, *TOYS, STACKED, SHAPES)
TRAIN = 0.7  # share of `digits` that is the training split


def data_folder() -> Path:
    """Where named data sets lie: SPARRING_DATA, else a folder in the user's cache."""
    return Path(os.environ.get("SPARRING_DATA") or Path.home() / ".cache" / "sparring" / "data")


def with_split(data: str) -> tuple[str, str | None]:
    """Data, and the split that is named behind it: "photos@train[:500]" is ("photos", "train[:500]")."""
    home, _, split = data.rpartition("@")
    return (data, None) if not home or "/" in split or expanded(data).exists() else (home, split)


def settled(data: str | Path) -> str:
    """Write a path so that it is found from any folder; names stay as they are, and so does a split behind it."""
    home, split = with_split(str(data))
    path = expanded(home)
    found = home if home in NAMES or not path.exists() else str(path.resolve())
    return found if split is None else f"{found}@{split}"


def located(data: str | Path) -> str:
    """Where data lie, as a path from the root, by whatever name or path they go; a name where they lie nowhere."""
    path = expanded(data)
    if str(data) in NAMES or not path.exists():
        path = data_folder() / path
    return str(path.resolve()) if path.exists() else str(data)


def open_named(name: str, open_folder: Callable[[Path], Splits], open_hub: Callable[[str], Splits]) -> Splits:
    """A data set by its name: from `data_folder()` where it is there, else from the hub."""
    if name == DIGITS:
        return {split: partial(digits, split) for split in ("train", "test")}
    if name in TOYS:
        return {split: partial(toy, name, split) for split in ("train", "test")}
    if name == STACKED:
        return {split: partial(stacked, split) for split in ("train", "test")}
    if name == SHAPES:
        return {split: partial(shapes, split) for split in ("train", "test")}
    named = NAMED[name]
    folder = data_folder() / name
    if folder.is_dir():
        splits = open_folder(folder)
    else:
        try:
            splits = open_hub(named.hub)
        except UserError as error:
            raise UserError(f"There is no folder '{folder}' (see SPARRING_DATA), and {error}") from None
    return {split: partial(with_classes, opener, named.classes) for split, opener in splits.items()}


def with_classes(opener: Callable[[], Examples], classes: tuple[str, ...]) -> Examples:
    """Open examples and name the classes that have only numbers."""
    examples = opener()
    bare = examples.classes == tuple(str(k) for k in range(len(examples.classes)))
    return replace(examples, classes=classes) if bare and len(classes) == len(examples.classes) else examples


def digits(split: str) -> Examples:
    """Handwritten digits, 8x8 grey: 70 % of each class to train on and 30 % to test on, always the same."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    random = np.random.default_rng(0)
    train = np.zeros(len(data.target), bool)
    for label in range(10):
        own = random.permutation(np.flatnonzero(data.target == label))
        train[own[: round(TRAIN * len(own))]] = True
    chosen = train if split == "train" else ~train
    images = np.rint(data.images[chosen] * (255 / 16)).astype(np.uint8)
    return from_array(images, DIGITS, data.target[chosen], None, split)
