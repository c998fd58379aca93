"""Folders of images: what is read, how it is laid out, and what each pixel becomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparring.data import Region, middle, open_source, original, read_mask, splits_of
from sparring.data.flow import Flow
from sparring.errors import UserError


def test_flat_folder_is_read_recursively_and_without_loss(tmp_path, paint):
    first, second = paint("a.png"), paint("deep/er/b.png")
    (tmp_path / "notes.txt").write_text("not an image")
    paint(".hidden.png")
    source = open_source(tmp_path)
    assert list(source.names) == ["a.png", "deep/er/b.png"]
    assert source.labels is None
    assert source.classes == ()
    assert source.split is None
    assert list(source.originals) == [first, second]
    assert np.array_equal(source.read([0, 1]), [np.asarray(Image.open(p)) for p in (first, second)])
    assert "folders are not taken for classes" in source.notes[0]


def test_one_folder_per_class_in_natural_order(tmp_path, paint):
    for name in ("10/x.png", "9/y.png", "9/sub/z.png"):
        paint(name)
    source = open_source(str(tmp_path))
    assert source.classes == ("9", "10")
    assert list(source.names) == ["9/sub/z.png", "9/y.png", "10/x.png"]
    assert source.labels.tolist() == [0, 0, 1]
    assert source.labels.dtype == np.int64


def test_splits_share_their_classes(tmp_path, paint):
    for name in ("train/cat/1.png", "test/cat/1.png", "test/dog/2.png", "val/dog/3.png"):
        paint(name)
    assert set(splits_of(tmp_path)) == {"train", "test", "val"}
    train, test = open_source(tmp_path), open_source(tmp_path, split="test")
    assert train.classes == test.classes == ("cat", "dog")
    assert (train.split, list(train.names)) == ("train", ["train/cat/1.png"])
    assert test.labels.tolist() == [0, 1]
    with pytest.raises(UserError, match="no split 'dev': choose one of train, test, val"):
        open_source(tmp_path, split="dev")


def test_a_class_may_be_called_train(tmp_path, paint):
    paint("train/1.png"), paint("car/1.png")
    assert splits_of(tmp_path) == ()
    assert open_source(tmp_path).classes == ("car", "train")
    with pytest.raises(UserError, match="has no splits: leave 'test' out"):
        open_source(tmp_path, split="test")


def test_mvtec_layout(tmp_path, paint):
    for name in ("train/good/0.png", "train/good/1.png", "test/good/2.png", "test/broken/3.png", "test/bent/4.png"):
        paint(name, (40, 30), "L")
    mask = np.zeros((30, 40), np.uint8)
    mask[:, :20] = 255
    (tmp_path / "ground_truth" / "broken").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "ground_truth" / "broken" / "3_mask.png")
    train, test = open_source(tmp_path, size=16), open_source(tmp_path, size=16, split="test")
    assert train.classes == test.classes == ("good", "bent", "broken")
    assert train.normal == test.normal == ("good",)
    assert train.masks is None
    found = dict(zip(test.names, test.masks, strict=True))
    assert found["test/good/2.png"] is None
    assert found["test/bent/4.png"] is None
    expected = np.zeros((16, 16), bool)
    expected[:, :8] = True  # the centre crop keeps the halves
    whole = Image.fromarray(read_mask(found["test/broken/3.png"]))
    assert np.array_equal(np.asarray(middle(whole).resize((16, 16))), expected)
    assert test.of(["broken"]).masks == (found["test/broken/3.png"],)


def test_twelve_bits_in_sixteen_are_noted(tmp_path):
    pixels = np.linspace(0, 4095, 256, dtype=np.uint16).reshape(16, 16)
    for factor in (1, 16):
        Image.fromarray(pixels * np.uint16(factor)).save(tmp_path / "0.png")
        assert any("multiply such images by 16" in note for note in open_source(tmp_path).notes) == (factor == 1)


def test_masks_in_any_form_mark_the_same(tmp_path):
    marked = np.zeros((32, 32), bool)
    marked[:, :13] = True
    white = np.where(marked, np.uint8(255), np.uint8(0))
    forms = {
        "transparent.png": np.stack([np.full_like(white, 255)] * 3 + [white], -1),
        "numbers.png": marked.astype(np.uint16),
        "colour.png": marked[..., None] * np.array([0, 0, 1], np.uint8),
        "lossy.jpg": white,
    }
    for name, pixels in forms.items():
        Image.fromarray(pixels).save(tmp_path / name)
        assert np.array_equal(read_mask(tmp_path / name), marked), name
        assert np.array_equal(Region.read(tmp_path / name).mask, marked), name


def test_a_damaged_mask_is_named(tmp_path):
    (tmp_path / "mask.png").write_text("text")
    with pytest.raises(UserError, match="' cannot be read because it is not an image that Pillow can read"):
        read_mask(tmp_path / "mask.png")


def test_resize_the_shorter_side_then_crop_the_centre(tmp_path):
    image = Image.effect_noise((128, 64), 90)
    image.save(tmp_path / "wide.png")
    expected = np.asarray(image.resize((64, 32), Image.Resampling.LANCZOS).crop((16, 0, 48, 32)), int)
    assert abs(open_source(tmp_path, size=32).items[0, ..., 0] - expected).max() <= 1


def test_shrinking_averages_rather_than_picks(tmp_path):
    board = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    assert abs(open_source(tmp_path, size=16).items.astype(int) - 127).max() <= 3


def test_exif_orientation(tmp_path, paint):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    path = paint("turned.png", (16, 16), "L", exif=exif)
    expected = np.rot90(np.asarray(Image.open(path)), -1)
    assert np.array_equal(open_source(tmp_path).items[0, ..., 0], expected)
    assert np.array_equal(original(path), expected)


def test_sixteen_bits_and_float(tmp_path):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values.astype(np.float32) / 65535).save(tmp_path / "b.tif")
    items = open_source(tmp_path).items
    assert items.shape == (2, 16, 16, 1)
    expected = np.arange(256).reshape(16, 16)
    assert np.array_equal(items[0, ..., 0], expected)
    assert np.array_equal(items[1, ..., 0], expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_shows_white(tmp_path, mode):
    Image.new(mode, (8, 8)).save(tmp_path / "clear.png")
    source = open_source(tmp_path)
    assert (source.items == 255).all()
    assert source.items.shape[3] == {"RGBA": 3, "LA": 1}[mode]


def test_transparent_palette(tmp_path):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((0, 0), 1)
    image.save(tmp_path / "clear.gif", transparency=0)
    items = open_source(tmp_path, channels=3).items[0]
    assert items[0, 0].tolist() == [255, 0, 0]
    assert (items[4:] == 255).all()


def test_grey_and_colour_mixed_become_colour_unless_told(tmp_path, paint):
    grey = paint("grey.png", mode="L")
    assert open_source(tmp_path).spec().shape == (1, 16, 16)
    paint("rgb.png")
    source = open_source(tmp_path)
    assert source.spec().shape == (3, 16, 16)
    assert np.array_equal(source.items[0], np.repeat(np.asarray(Image.open(grey))[..., None], 3, 2))
    assert open_source(tmp_path, channels=1).spec().shape == (1, 16, 16)
    with pytest.raises(UserError, match="1 or 3 channels; got 2"):
        open_source(tmp_path, channels=2)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp", "tif", "ppm"])
def test_many_formats(tmp_path, paint, suffix):
    path = paint(f"a.{suffix}")
    assert np.array_equal(open_source(tmp_path).items[0], np.asarray(Image.open(path)))


def test_a_single_image(paint):
    source = open_source(paint("photo.png"))
    assert len(source) == 1
    assert list(source.names) == ["photo.png"]


def test_native_side_and_callable_size(tmp_path, paint):
    paint("a.png", (100, 200)), paint("b.png", (90, 80))
    asked = []
    source = open_source(tmp_path, size=lambda side: asked.append(side) or 32)
    assert asked == [64]
    assert source.items.shape[1:3] == (32, 32)
    paint("c.png", (40, 60))
    assert open_source(tmp_path).items.shape[1:3] == (40, 40)


def test_what_is_cut_off_is_said(tmp_path, paint):
    paint("a.png", size=(40, 42)), paint("b.png", size=(40, 60))
    said = ("Only the central square is seen of images that are not square (1 of 2, such as 'b.png').",)
    for _ in range(2):  # the second time it is remembered
        assert open_source(tmp_path, size=32).notes == said
    assert Flow(tmp_path, (3, 32, 32)).notes == said
    wide = np.zeros((3, 20, 30), np.uint8)
    assert open_source(wide, size=16).notes == (
        said[0].replace("1 of 2, such as 'b.png'", "3 of 3, such as 'array/0'"),
    )
    assert not open_source(wide).notes


def test_enlarging_stops_at_twice(tmp_path, paint):
    paint("big.png", (100, 100)), paint("a.png", (20, 20))
    source = open_source(tmp_path, size=40)
    assert source.notes == ("Images smaller than 40x40 pixels are enlarged, such as 'a.png'.",)
    with pytest.raises(UserError) as caught:
        open_source(tmp_path, size=64)
    assert str(caught.value) == (
        "'a.png' is 20x20 pixels, too small for --size 64 (enlarging stops at 2x): use --size 32 or less, "
        "or larger images."
    )
    with pytest.raises(UserError, match=r"--size is the side .* got 0"):
        open_source(tmp_path, size=0)


def spoil(folder: Path) -> dict[str, str]:
    """Files that look like images and are none, with a word of the reason expected."""
    Image.effect_noise((64, 64), 50).save(folder / "whole.png")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:1000])
    (folder / "whole.png").unlink()
    (folder / "text.png").write_text("I am not an image")
    (folder / "void.png").write_bytes(b"")
    Image.new("1", (120, 120)).save(folder / "bomb.png")
    Image.new("1", (200, 200)).save(folder / "worse.png")
    return {"cut.png": "", "text.png": "an image", "void.png": "an image", "bomb.png": "pixels", "worse.png": "pixels"}


def test_unreadable_files_are_skipped_and_listed(tmp_path, paint, monkeypatch):
    paint("a/good.png"), paint("b/good.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # Pillow warns above, and raises above twice of it
    reasons = spoil(tmp_path / "a")
    source = open_source(tmp_path)
    assert list(source.names) == ["a/good.png", "b/good.png"]
    assert source.labels.tolist() == [0, 1]
    assert {name.removeprefix("a/") for name, _ in source.skipped} == set(reasons)
    for name, why in source.skipped:
        assert reasons[name.removeprefix("a/")] in why
    again = open_source(tmp_path)  # from the cache
    assert again.skipped == source.skipped
    assert list(again.names) == list(source.names)
    with pytest.raises(UserError, match=r"'a/\w+.png' cannot be read because .*: repair or remove it"):
        open_source(tmp_path, strict=True)


def test_strict_finds_what_only_decoding_shows(tmp_path, paint):
    path = paint("a.png", (64, 64))
    path.write_bytes(path.read_bytes()[:4000])
    paint("b.png")
    assert [name for name, _ in open_source(tmp_path).skipped] == ["a.png"]
    with pytest.raises(UserError, match=r"'a.png' cannot be read"):
        open_source(tmp_path, strict=True)


def test_nothing_usable(tmp_path, paint):
    with pytest.raises(UserError, match=r"folder '.*' is empty"):
        open_source(tmp_path)
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(UserError, match=r"has no image files"):
        open_source(tmp_path)
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(UserError, match=r"'a.png' cannot be read because it is not an image"):
        open_source(tmp_path)
    path = paint("a.png", (64, 64))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(UserError, match=r"'a.png' cannot be read because"):
        open_source(tmp_path)
    with pytest.raises(UserError, match=r"no file or folder '.*missing'"):
        open_source(tmp_path / "missing")
    with pytest.raises(UserError, match=r"readme.txt' is no kind of data"):
        open_source(tmp_path / "readme.txt")


def test_links_in_a_circle(tmp_path, paint):
    paint("a/1.png")
    (tmp_path / "a" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert len(open_source(tmp_path)) == 1


def test_classes_and_limit(tmp_path, paint):
    for k in range(12):
        paint(f"{'abc'[k % 3]}/{k}.png")
    source = open_source(tmp_path, classes=["c", "a"], limit=5)
    assert source.classes == ("a", "c")
    assert len(source) == 5
    assert list(source.names) == [n for n in open_source(tmp_path).names if n in set(source.names)]
    assert list(open_source(tmp_path, classes=["c", "a"], limit=5).names) == list(source.names)
    with pytest.raises(UserError, match="no class 'aa': did you mean 'a'"):
        open_source(tmp_path, classes=["aa"])
    with pytest.raises(UserError, match="must be 1 or more; got 0"):
        open_source(tmp_path, limit=0)


def test_real_photographs(real):
    train = open_source("magnetic_tile", size=64)
    test = open_source(real / "magnetic_tile", size=64, split="test")
    assert train.spec().shape == test.spec().shape == (1, 64, 64)
    assert test.classes[0] == "good"
    assert train.normal == ("good",)
    assert sum(mask is not None for mask in test.masks) == (test.labels > 0).sum() > 0
