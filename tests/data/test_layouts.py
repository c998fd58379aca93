"""Caltech-256 and UCSD Ped2, on files made in their official layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparring.data import open_source, splits_of


def frame(path: Path, marked: bool = False, shape: tuple[int, int] = (24, 36)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(shape, np.uint8)
    if path.suffix != ".bmp":
        pixels += 90
    if marked:
        pixels[5:9, 10:20] = 255
    Image.fromarray(pixels).save(path)


@pytest.fixture
def ped2(tmp_path):
    """Two training clips of three frames, two test clips of four with ground truth, and one without."""
    root = tmp_path / "UCSDped2"
    for clip in (1, 2):
        for k in (1, 2, 3):
            frame(root / f"Train/Train00{clip}/00{k}.tif")
        for k in (1, 2, 3, 4):
            frame(root / f"Test/Test00{clip}/00{k}.tif")
            frame(root / f"Test/Test00{clip}_gt/00{k}.bmp", marked=k > 2 and clip == 1)
    frame(root / "Test/Test003/001.tif")
    (root / "Test/UCSDped2.m").write_text("TestVideoFile = {};")
    (root / "Train/Train001/._001.tif").write_text("what a Mac leaves behind")
    return root


@pytest.mark.parametrize("above", [False, True])
def test_ped2_frames_are_anomalous_where_any_pixel_is(ped2, above):
    root = ped2.parent if above else ped2
    assert splits_of(root) == ("train", "test")
    train, test = (open_source(root, split=split, size=16) for split in ("train", "test"))
    assert (len(train), len(test)) == (6, 8)
    assert train.classes == test.classes == ("normal", "anomalous")
    assert train.normal == ("normal",)
    assert train.labels.tolist() == [0] * 6
    assert test.labels.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]  # clip after clip
    assert list(test.names)[:5] == [f"test/Test001/00{k}.tif" for k in (1, 2, 3, 4)] + ["test/Test002/001.tif"]
    assert train.masks is None
    assert [mask.name if mask else None for mask in test.masks[:4]] == [None, None, "003.bmp", "004.bmp"]
    assert test.notes[0].startswith("1 frames of")
    assert test.items.shape[1:] == (16, 16, 1)


@pytest.mark.parametrize("above", [False, True])
def test_caltech_keeps_the_images_of_the_set_only(tmp_path, above):
    root = tmp_path / "256_ObjectCategories"
    for name in ("001.ak47", "056.dog", "257.clutter"):
        for k in (1, 2, 10):
            frame(root / name / f"{name[:3]}_00{k:02d}.jpg")
    frame(root / "056.dog/greg/vision309/056_0001.jpg")
    (root / "198.spider").mkdir()
    (root / "198.spider/RENAME2").write_text("a script that was left behind")
    source = open_source(tmp_path if above else root, size=16)
    assert source.classes == ("001.ak47", "056.dog", "257.clutter")
    assert np.bincount(source.labels).tolist() == [3, 3, 3]
    assert list(source.names)[:3] == [f"001.ak47/001_00{k}.jpg" for k in ("01", "02", "10")]
    assert splits_of(root) == ()


def test_other_folders_are_not_taken_for_these(tmp_path):
    frame(tmp_path / "Train/a/1.png")
    frame(tmp_path / "Test/b/1.png")
    assert open_source(tmp_path, split=None, size=16).classes == ("Test", "Train")
