"""SVHN's .mat files, TinyImageNet's text file of labels, Cityscapes' ids: all on files made here."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from sparring.data import open_source, splits_of
from sparring.data.official import CLOSED, OPEN, cityscapes, open_pixels
from sparring.errors import UserError


def paint(path, value, mode="RGB", size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (value,) * 3 if mode == "RGB" else value).save(path)


@pytest.mark.parametrize("whole", [True, False])
def test_svhn(tmp_path, whole):
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 6), dtype=np.uint8)
    for split in ("train", "test"):
        savemat(tmp_path / f"{split}_32x32.mat", {"X": images, "y": np.array([[10, 1, 9, 10, 2, 3]]).T})
    data = tmp_path if whole else tmp_path / "test_32x32.mat"
    source = open_source(data, split="test" if whole else None)
    assert splits_of(data) == (("test", "train") if whole else ())
    assert source.labels.tolist() == [0, 1, 9, 0, 2, 3]  # 10 stands for the digit 0
    assert source.classes == tuple("0123456789")
    assert np.array_equal(source.read([4])[0], images[..., 4])


def test_svhn_refuses(tmp_path):
    savemat(tmp_path / "a.mat", {"Z": np.zeros(3)})
    (tmp_path / "b.mat").write_text("nothing")
    savemat(tmp_path / "c.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((3, 1))})
    for name in "abc":
        with pytest.raises(UserError, match=r"give train_32x32\.mat"):
            open_source(tmp_path / f"{name}.mat")


def tiny(root):
    for k, kind in enumerate(("n01", "n02")):
        for n in range(3):
            paint(root / "train" / kind / "images" / f"{kind}_{n}.JPEG", 100 * k)
    for n in range(4):
        paint(root / "val" / "images" / f"val_{n}.JPEG", 50)
    lines = [f"val_{n}.JPEG\tn0{1 + n % 2}\t0\t0\t7\t7" for n in range(4)]
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines))
    paint(root / "test" / "images" / "test_0.JPEG", 9)
    return root


def test_tiny_imagenet(tmp_path):
    root = tiny(tmp_path)
    assert splits_of(root) == ("train", "test")
    train, test = open_source(root, split="train"), open_source(root, split="test")
    assert train.classes == test.classes == ("n01", "n02")
    assert np.bincount(train.labels).tolist() == [3, 3]
    assert test.labels.tolist() == [0, 1, 0, 1]
    assert (test.read([0]) > 40).all()


def test_tiny_imagenet_names_every_image(tmp_path):
    paint(tiny(tmp_path) / "val" / "images" / "val_9.JPEG", 9)
    with pytest.raises(UserError, match=r"no class for val/val_9\.JPEG"):
        open_source(tmp_path)


def test_cityscapes(tmp_path):
    stem = "ulm/ulm_000000_000019"
    paint(tmp_path / f"leftImg8bit/val/{stem}_leftImg8bit.png", 7)
    with pytest.raises(UserError, match=r"labelIds\.png' is missing"):
        cityscapes(tmp_path, "val")
    paint(tmp_path / f"gtFine/val/{stem}_gtFine_labelIds.png", 7, mode="L")
    ((image, labels),) = cityscapes(tmp_path, "val")
    assert image.name.startswith("ulm_000000_000019_left")
    assert np.asarray(Image.open(labels)).max() == 7
    with pytest.raises(UserError, match="give the folder of Cityscapes"):
        cityscapes(tmp_path, "train")


def test_cityscapes_ids():
    """19 classes are closed; unlabelled, the car itself, borders and outside the region are void."""
    kinds = open_pixels(np.arange(-1, 35))
    assert (kinds == 0).sum() == len(CLOSED) == 19
    assert (kinds == 1).sum() == len(OPEN) == 11
    assert kinds[:5].tolist() == [-1] * 5  # ids -1 to 3
    assert open_pixels(np.array([7, 6, 3])).tolist() == [0, 1, -1]
