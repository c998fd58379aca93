"""Stacked MNIST: each digit once in each colour, and a class that spells them."""

from __future__ import annotations

import numpy as np
import pytest

from sparring.data import data_folder, open_source, splits_of
from sparring.errors import UserError


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes())


def write_mnist(count=30, labels=True):
    """Images that are their number everywhere, of the class of its last digit."""
    for split, many in (("train", count), ("t10k", 12)):
        numbers = np.arange(many, dtype=np.uint8)
        write_idx(data_folder() / "mnist" / f"{split}-images-idx3-ubyte", np.tile(numbers[:, None, None], (1, 28, 28)))
        if labels:
            write_idx(data_folder() / "mnist" / f"{split}-labels-idx1-ubyte", numbers % 10)


def test_stacks():
    write_mnist()
    source = open_source("stacked_mnist")
    assert splits_of("stacked_mnist") == ("train", "test")
    assert source.items.shape == (30, 28, 28, 3)
    assert source.classes[7] == "007"
    assert len(source.classes) == 1000
    digits = source.items[:, 0, 0].astype(int)
    assert np.array_equal(source.items, np.broadcast_to(digits[:, None, None], source.items.shape))
    assert np.array_equal(source.labels, digits % 10 @ [100, 10, 1])
    assert all(sorted(digits[:, k]) == list(range(30)) for k in range(3))
    assert not np.array_equal(digits[:, 0], digits[:, 1])
    assert np.array_equal(open_source("stacked_mnist").items, source.items)
    assert len(open_source("stacked_mnist", split="test")) == 12
    assert source.names[3] == "stacked_mnist/train/3"


def test_resized_stacks_are_those_of_the_digits_that_are_there():
    write_mnist()
    before = open_source("stacked_mnist", size=16).items
    assert before.shape == (30, 16, 16, 3)
    write_mnist(40)
    assert len(open_source("stacked_mnist", size=16)) == 40


def test_digits_without_labels_cannot_be_stacked():
    write_mnist(labels=False)
    with pytest.raises(UserError, match="'mnist' has no labels from 0 to 9"):
        open_source("stacked_mnist")


def test_real_stacks(real):
    source = open_source("stacked_mnist", split="test")
    assert len(source) == 10_000
    assert len(np.unique(source.labels)) > 990
