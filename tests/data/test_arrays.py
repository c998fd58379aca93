"""Arrays in memory, in .npy, .npz and IDX files."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from sparring.data import open_source, parse_split, splits_of
from sparring.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def write_idx(path, array):
    content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("images", [IMAGES, IMAGES[..., :1], IMAGES[..., 0]])
def test_images_stay_what_they_are(tmp_path, images):
    np.save(tmp_path / "x.npy", images)
    np.savez(tmp_path / "x.npz", images=images, labels=LABELS)
    expected = images.reshape(6, 8, 8, -1)
    for data in (images, (images, LABELS), tmp_path / "x.npy", str(tmp_path / "x.npz")):
        source = open_source(data)
        assert np.array_equal(source.read(range(6)), expected)
        assert source.spec().shape == (expected.shape[3], 8, 8)
        assert source.is_image
    assert source.labels.tolist() == LABELS.tolist()
    assert source.classes == ("0", "1", "2")
    assert source.names[3] == "x.npz/3"


def test_floats_become_bytes(tmp_path):
    floats = (IMAGES / 255).astype(np.float32)
    np.save(tmp_path / "x.npy", floats)
    assert np.array_equal(open_source(floats).items, IMAGES)
    assert np.array_equal(open_source(tmp_path / "x.npy").items, IMAGES)


def test_features(tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 3))
    np.save(tmp_path / "x.npy", x)
    for data in (x, tmp_path / "x.npy", x.astype(int)):
        source = open_source(data, size=64)  # features have no size
        assert source.items.dtype == np.float32
        assert source.spec().shape == (3,)
        assert not source.is_image
    assert np.array_equal(open_source(x).read([1]), x[[1]].astype(np.float32))


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)))
@settings(deadline=None, max_examples=30)
def test_any_grey_array_is_read_back(images):
    assert np.array_equal(open_source(images).read(slice(None))[..., 0], images)


def test_size_and_channels_of_arrays():
    source = open_source(IMAGES, size=16, channels=1)
    assert source.items.shape == (6, 16, 16, 1)
    assert source.notes == ("The images are enlarged from 8x8 to 16x16 pixels.",)
    asked = []
    open_source(IMAGES, size=lambda side: asked.append(side) or side)
    assert asked == [8]
    with pytest.raises(UserError, match=r"'array/0' is 8x8 pixels, too small for --size 32 .* use --size 16 or less"):
        open_source(IMAGES, size=32)
    assert open_source(IMAGES[:, :6]).items.shape == (6, 6, 8, 3)


@pytest.mark.parametrize(
    ("labels", "numbers", "classes"),
    [
        ([0, 3, 0, 3, 0, 3], [0, 3, 0, 3, 0, 3], ("0", "1", "2", "3")),
        ([-1, 1, -1, 1, -1, 1], [0, 1, 0, 1, 0, 1], ("-1", "1")),
        (["b", "a", "b", "a", "b", "a"], [1, 0, 1, 0, 1, 0], ("a", "b")),
        ([1.0, 0.0] * 3, [1, 0] * 3, ("0", "1")),
        ([True, False] * 3, [1, 0] * 3, ("0", "1")),
    ],
)
def test_labels(labels, numbers, classes):
    source = open_source((IMAGES, np.array(labels)))
    assert source.labels.tolist() == numbers
    assert source.classes == classes
    assert source.labels.dtype == np.int64


def test_npz_with_splits(tmp_path):
    np.savez(tmp_path / "d.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:2], y_test=LABELS[:2])
    assert splits_of(tmp_path / "d.npz") == ("train", "test")
    test = open_source(tmp_path / "d.npz", split="test")
    assert len(test) == 2
    assert test.split == "test"
    assert test.names[1] == "d.npz/test/1"


def test_npz_has_the_same_classes_in_all_splits(tmp_path):
    names = np.array(list("abcabc"))
    np.savez(tmp_path / "d.npz", x_train=IMAGES, y_train=names, x_test=IMAGES[:2], y_test=names[1:3, None])
    np.savez(tmp_path / "e.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:2], y_test=[0, 0])
    test = open_source(tmp_path / "d.npz", split="test")
    assert (test.classes, test.labels.tolist()) == (("a", "b", "c"), [1, 2])
    for data in ("d.npz", "e.npz"):
        assert len({open_source(tmp_path / data, split=split).classes for split in ("train", "test")}) == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.full((2, 3), np.nan), "NaN, infinite"),
        (np.full((2, 3), np.inf), "NaN, infinite"),
        (np.full((2, 3), 1e300), "beyond float32"),
        (np.full((2, 4, 4), np.nan), "NaN, infinite"),
        (np.full((2, 4, 4), 2.0), r"pixels from 2 to 2: floating-point images must be in \[0, 1\]"),
        (np.zeros((2, 4, 4), np.int64), "images of type int64: give uint8"),
        (np.zeros((2, 4, 4, 2), np.uint8), "2 channels"),
        (np.zeros((2, 3, 4, 4), np.uint8), "move the channels last"),
        (np.zeros(3), r"shape \(3,\): give images"),
        (np.zeros((0, 3)), "at least one"),
        (np.array([["a", "b"]]), "features of type"),
        (np.zeros((2, 2), complex), "features of type complex128"),
        ([[1, 2], [3]], "no array"),
        ((IMAGES, LABELS[:3]), "6 examples but labels of shape"),
        ((IMAGES, np.linspace(0, 1, 6)), "labels of type float64"),
        ((IMAGES, np.array([None] * 6)), "labels of type object"),
    ],
)
def test_bad_arrays(data, message):
    with pytest.raises(UserError, match=message):
        open_source(data)


def test_arrays_have_no_splits():
    assert splits_of(IMAGES) == ()
    with pytest.raises(UserError, match="'array' has no splits: leave 'test' out"):
        open_source(IMAGES, split="test")


def test_classes_without_labels():
    with pytest.raises(UserError, match="'array' has no labels to choose classes by"):
        open_source(IMAGES, classes=["0"])


def test_damaged_files(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:300])
    (tmp_path / "text.npy").write_text("hello")
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    for name in ("cut", "text", "objects"):
        with pytest.raises(UserError, match=f"{name}.npy' is not a readable .npy file"):
            open_source(tmp_path / f"{name}.npy")
    np.savez(tmp_path / "x.npz", a=IMAGES, b=IMAGES)
    with pytest.raises(UserError, match="has the arrays a, b: name one x"):
        open_source(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:500])
    with pytest.raises(UserError, match=r"x.npz' is not a readable .npz file"):
        open_source(tmp_path / "x.npz")


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_files_and_folder(tmp_path, end):
    for split, count in (("train", 6), ("t10k", 4)):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte{end}", IMAGES[:count, ..., 0])
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte{end}", LABELS[:count])
    assert splits_of(tmp_path) == ("train", "test")
    train, test = open_source(tmp_path), open_source(tmp_path, split="test")
    assert np.array_equal(train.items[..., 0], IMAGES[..., 0])
    assert len(test) == 4
    assert train.labels.tolist() == LABELS.tolist()
    assert train.classes == test.classes == ("0", "1", "2")
    one = open_source(tmp_path / f"t10k-images-idx3-ubyte{end}")
    assert len(one) == 4
    assert one.labels.tolist() == LABELS[:4].tolist()
    assert one.split is None


def test_damaged_idx(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    write_idx(path, IMAGES[..., 0])
    content = path.read_bytes()
    for broken, message in [(content[:-5], "does not hold"), (content[:6], "does not hold"), (b"hello", "not an IDX")]:
        path.write_bytes(broken)
        with pytest.raises(UserError, match=message):
            open_source(path)
    packed = tmp_path / "test-images-idx3-ubyte.gz"
    packed.write_bytes(gzip.compress(content)[:100])
    with pytest.raises(UserError, match="cannot be unpacked"):
        open_source(packed)
    write_idx(path, LABELS)
    with pytest.raises(UserError, match="give the IDX file of the images"):
        open_source(path)


def test_a_slice_of_a_split_and_its_complement(tmp_path):
    x = np.arange(20, dtype=np.uint8).repeat(16).reshape(20, 4, 4)
    np.savez(tmp_path / "set.npz", x_train=x[:12], x_test=x[12:])
    assert parse_split("train[:5]") == ("train", slice(None, 5))
    assert parse_split("[3:-2]") == (None, slice(3, -2))
    assert parse_split("test") == ("test", None)
    head, tail = (open_source(tmp_path / "set.npz", split=f"train[{part}]") for part in (":5", "5:"))
    found = np.concatenate([source.read(np.arange(len(source)))[:, 0, 0, 0] for source in (head, tail)])
    assert found.tolist() == list(range(12))
    assert head.split == "train[:5]"


def test_an_empty_slice_says_how_many_there_are():
    with pytest.raises(UserError, match=r"'train\[30:\]' is empty: 'array' has 20 examples in that split\."):
        open_source(np.zeros((20, 4, 4), np.uint8), split="train[30:]")
