"""Tiles cover every image, their maps join without a seam, and an image is as strange as its worst tile."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sparring.data import Grid, Region, open_source, open_tiled
from sparring.errors import UserError

GRID = Grid(16, 4)


def brightness(rows):
    """A score of one tile at a time."""
    return rows.mean((1, 2, 3))


def pointwise(rows):
    """A map that is the same wherever a pixel stands."""
    return np.sin(rows.astype(np.float32).mean(-1) / 20)


@given(st.integers(1, 40), st.data())
@settings(max_examples=60, deadline=None)
def test_tiles_cover_every_side_and_overlap_enough(side, data):
    overlap = data.draw(st.integers(0, side - 1))
    length = data.draw(st.integers(side, 300))
    starts = Grid(side, overlap).starts(length)
    assert starts[0] == 0
    assert starts[-1] == length - side
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= side - overlap).all()
    assert len(starts) == 1 + -(-(length - side) // (side - overlap))  # no more than it takes


@pytest.mark.parametrize("grid", [Grid(16, 0), GRID, Grid(16, 12), Grid(5, 2)])
@pytest.mark.parametrize("shape", [(16, 16), (37, 50), (100, 17)])
def test_maps_join_without_a_seam(grid, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    corners = grid.corners(*shape)
    for anomaly_map in (pointwise, lambda rows: np.full(rows.shape[:3], 0.7, np.float32)):
        tiles = anomaly_map(np.stack(list(grid.cut(image, corners))))
        np.testing.assert_allclose(
            grid.blended(*shape, zip(tiles, corners, strict=True)), anomaly_map(image[None])[0], atol=1e-6
        )


def test_tiles_that_disagree_pass_into_each_other_smoothly():
    grid = Grid(32, 16)
    corners = grid.corners(96, 96)
    levels = np.random.default_rng(0).random(len(corners)).astype(np.float32)
    tiles = np.broadcast_to(levels[:, None, None], (len(corners), 32, 32))
    blended = grid.blended(96, 96, zip(tiles, corners, strict=True))
    steepest = np.pi / 2 / grid.overlap  # of a sine's square over the overlap
    assert max(np.abs(np.diff(blended, axis=axis)).max() for axis in (0, 1)) <= steepest
    hard = Grid(32, 0).blended(96, 96, zip(tiles[:9], Grid(32, 0).corners(96, 96), strict=True))
    assert np.abs(np.diff(hard, axis=0)).max() > 2 * steepest


@pytest.fixture
def mixed(tmp_path):
    """Photographs of several sizes, one of them turned by its camera."""
    random = np.random.default_rng(0)
    for k, (height, width) in enumerate([(40, 25), (16, 16), (33, 60)]):
        Image.fromarray(random.integers(0, 256, (height, width), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    turned = Image.fromarray(random.integers(0, 256, (20, 50), dtype=np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "3.png", exif=exif)
    return tmp_path


def test_an_image_is_as_strange_as_its_worst_tile(mixed):
    source = open_tiled(mixed, GRID)
    assert source.sizes.tolist() == [[40, 25], [16, 16], [33, 60], [50, 20]]
    assert source.spec().shape == (1, 16, 16)
    expected = []
    for path in sorted(mixed.glob("*.png"))[:3]:
        image = np.asarray(Image.open(path))
        tiles = [image[y : y + 16, x : x + 16].mean() for y, x in GRID.corners(*image.shape)]
        expected.append(max(tiles))
    for size in (1, 7, 64):
        np.testing.assert_allclose(source.scores(brightness, size)[:3], expected)
    np.testing.assert_allclose(source.take([2, 0]).scores(brightness, 64), [expected[2], expected[0]])


def test_maps_are_as_large_as_the_images(mixed):
    source = open_tiled(mixed, GRID)
    for number, found in enumerate(source.maps(pointwise, 7)):
        image = np.asarray(source.picture(number))
        assert found.shape == image.shape == tuple(source.sizes[number])
        np.testing.assert_allclose(found, pointwise(image[None, ..., None])[0], atol=1e-6)


@pytest.mark.parametrize("keep", ["loaded", "mapped", "nowhere"])
def test_training_gets_every_tile_once(mixed, keep):
    source = open_tiled(mixed, GRID, keep=keep)
    tiles = source.cut()
    counts = [len(GRID.corners(*size)) for size in source.sizes]
    assert len(tiles) == sum(counts)
    image = np.asarray(source.picture(2))
    start = sum(counts[:2])
    expected = np.stack(list(GRID.cut(image, GRID.corners(*image.shape))))
    assert np.array_equal(tiles.read(slice(start, start + counts[2]))[..., 0], expected)
    assert tiles.names[3].endswith("/tile/3")
    assert len(source.take([0, 2]).cut()) == counts[0] + counts[2]
    assert len(open_tiled(mixed, Grid(16, 8), keep=keep).cut()) > len(tiles)


def test_labels_follow_their_tiles(tmp_path):
    for name, size in (("a", (16, 16)), ("b", (30, 16))):
        (tmp_path / name).mkdir()
        Image.new("RGB", size).save(tmp_path / name / "0.png")
    tiles = open_tiled(tmp_path, GRID).cut()
    assert tiles.labels.tolist() == [0, 1, 1, 1]
    assert tiles.classes == ("a", "b")


def test_arrays_are_cut_too():
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    source = open_tiled(images, GRID)
    assert len(source.cut()) == 3 * 2 * 3
    assert np.array_equal(np.asarray(source.picture(1)), images[1])


def test_what_is_too_small_or_broken_is_skipped(mixed):
    Image.new("L", (15, 99)).save(mixed / "4.png")
    (mixed / "5.png").write_bytes((mixed / "2.png").read_bytes()[:200])
    source = open_tiled(mixed, GRID)
    assert source.names == ("0.png", "1.png", "2.png", "3.png")
    assert source.skipped[0] == ("4.png", "it is 15x99 pixels, less than a tile of 16")
    assert source.skipped[1][0] == "5.png"
    with pytest.raises(UserError, match=r"'4.png' cannot be read because it is 15x99 pixels"):
        open_tiled(mixed, GRID, strict=True)
    with pytest.raises(UserError, match="less than a tile of 99"):
        open_tiled(mixed, Grid(99, 0))


def test_a_grid_that_goes_nowhere():
    with pytest.raises(UserError, match="from 0 to less than --tile 16; got 16"):
        Grid(16, 16)


def test_memory_is_flat_over_a_large_image():
    image = np.random.default_rng(0).integers(0, 256, (1, 4000, 4000, 1), dtype=np.uint8)
    source = open_tiled(image, Grid(64, 16))
    before = tracemalloc_peak(lambda: None)
    scores = tracemalloc_peak(lambda: source.scores(brightness, 64)) - before
    maps = tracemalloc_peak(lambda: sum(anomaly.size for anomaly in source.maps(pointwise, 64))) - before
    assert scores <= 3.5 * 16 * 2**20  # three copies of the image; the tiles as float32 take 110 MB
    assert maps <= scores + 1.2 * 64 * 2**20  # and the map


def tracemalloc_peak(work):
    """Bytes of arrays at most that stand at once while something is done."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.fixture
def region(tmp_path):
    """The left half of images that are twice as wide as high."""
    mask = np.zeros((20, 40), np.uint8)
    mask[:, :20] = 255
    path = tmp_path / "roi.png"
    Image.fromarray(mask).save(path)
    return Region.read(path)


def test_outside_the_region_nothing_counts(region):
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 80, 1), dtype=np.uint8)
    other = images.copy()
    other[:, :, 40:] = 7
    found = [open_tiled(given, GRID, region=region) for given in (images, other)]
    assert np.array_equal(*(source.scores(brightness, 64) for source in found))
    assert np.array_equal(*(source.cut().read(slice(None)) for source in found))
    for ours, theirs in zip(*(source.maps(pointwise, 64) for source in found), strict=True):
        assert np.array_equal(ours, theirs)
        assert (ours[:, 40:] == 0).all()
        assert (ours[:, :40] != 0).any()
    assert len(found[0].cut()) < len(open_tiled(images, GRID).cut())  # tiles that touch no white are left out


def test_whole_images_are_grey_outside_the_region(region):
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 80, 1), dtype=np.uint8)
    source = open_source(images, size=40, region=region)
    plain = open_source(images, size=40)
    rows = source.read(slice(None))
    assert np.array_equal(rows[:, :, :20], plain.read(slice(None))[:, :, :20])  # the centre of the left half
    assert (rows[:, :, 20:] == 128).all()
    assert all((anomaly[:, 20:] == 0).all() for anomaly in source.maps(pointwise, 64))


def test_a_region_of_other_proportions(region, tmp_path):
    square = np.zeros((2, 40, 40, 1), np.uint8)
    sentence = r"is 40x40 pixels and the mask of --roi 40x20"
    with pytest.raises(UserError, match=sentence):
        open_tiled(square, GRID, region=region)
    with pytest.raises(UserError, match=sentence):
        open_source(square, region=region)


def test_masks_that_cannot_be_used(tmp_path):
    (tmp_path / "text.png").write_text("text")
    Image.new("L", (4, 4)).save(tmp_path / "black.png")
    with pytest.raises(UserError, match="cannot be read because it is not an image"):
        Region.read(tmp_path / "text.png")
    with pytest.raises(UserError, match="no white pixel"):
        Region.read(tmp_path / "black.png")
    with pytest.raises(UserError, match="--roi is for images"):
        open_source(np.zeros((4, 3), np.float32), region=Region(np.ones((2, 2))))
    with pytest.raises(UserError, match="--tile is for images"):
        open_tiled(np.zeros((4, 3), np.float32), GRID)


def test_a_spot_of_the_mask_does_not_vanish():
    mask = np.zeros((100, 100))
    mask[50, 50] = 1
    assert Region(mask).at(10, 10, False).sum() == 1
