"""Data sets by name, and what a misspelt one answers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from sparring.data import data_folder, open_source, splits_of
from sparring.errors import UserError


def test_digits():
    train, test = open_source("digits"), open_source("digits", split="test")
    assert splits_of("digits") == ("train", "test")
    assert (len(train), len(test)) == (1258, 539)
    assert train.items.shape == (1258, 8, 8, 1)
    assert train.items.max() == 255
    assert train.items.min() == 0
    shares = np.bincount(train.labels) / (np.bincount(train.labels) + np.bincount(test.labels))
    assert abs(shares - 0.7).max() < 0.01
    assert train.names[5] == "digits/train/5"
    assert train.classes == tuple("0123456789")
    assert np.array_equal(open_source("digits").items, train.items)
    rows = {row.tobytes() for row in train.items}
    assert sum(row.tobytes() in rows for row in test.items) == 0


@pytest.mark.parametrize(("given", "meant"), [("minst", "mnist"), ("cifar-10", "cifar10"), ("digit", "digits")])
def test_misspelt(given, meant):
    with pytest.raises(
        UserError, match=f"no file or folder '{given}', and no data set of that name: did you mean '{meant}'"
    ):
        open_source(given)


def test_neither_path_nor_name():
    with pytest.raises(UserError, match="give a path, hf://org/name, or one of mnist, fashion_mnist, cifar10, digits"):
        open_source("./holiday")


def test_a_folder_of_that_name_is_told_from_the_set(paint, monkeypatch):
    monkeypatch.chdir(paint("digits/a.png").parents[1])
    assert "write ./digits for that." in open_source("digits").notes[-1]
    assert not open_source("./digits").notes


def test_any_folder_of_the_data_folder_goes_by_its_name(paint):
    paint("x.png").rename(data_folder() / "x.png")
    (data_folder() / "mine").mkdir()
    (data_folder() / "x.png").rename(data_folder() / "mine" / "x.png")
    assert open_source("mine").name == "mine"


def test_fashion_mnist_has_names(tmp_path):
    (data_folder() / "fashion_mnist").mkdir()
    np_images = np.zeros((10, 4, 4), np.uint8)
    for name, array in (("images-idx3", np_images), ("labels-idx1", np.arange(10, dtype=np.uint8))):
        content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
        (data_folder() / "fashion_mnist" / f"train-{name}-ubyte").write_bytes(content)
    source = open_source("fashion_mnist")
    assert source.classes[:2] == ("T-shirt/top", "Trouser")
    assert source.of(["Trouser", "9"]).classes == ("Trouser", "Ankle boot")


def test_real_mnist(real):
    train, test = open_source("mnist"), open_source("mnist", split="test", classes=["0"])
    assert train.items.shape == (60_000, 28, 28, 1)
    assert train.spec().classes == tuple("0123456789")
    assert len(test) == 980
    assert test.names[0].startswith("mnist/test/")


def test_real_cifar10(real):
    source = open_source("cifar10", split="test", limit=200)
    assert source.spec().shape == (3, 32, 32)
    assert source.classes[3] == "cat"


def test_torch_is_not_needed_to_open_data(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 4, 4), np.uint8))
    code = "import sys; from sparring.data import open_source as o; o(sys.argv[1]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, tmp_path / "x.npy"], check=True)
