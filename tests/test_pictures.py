import numpy as np
import pytest
import torch
from PIL import Image

from sparring.errors import UserError
from sparring.pictures import COVER, WIDEST, as_picture, enlarged, grid, heat, save


def test_every_pixel_of_a_grid_stands_where_it_should():
    tiles = np.arange(3 * 2 * 3, dtype=np.uint8).reshape(3, 2, 3)
    picture = np.asarray(grid(tiles, columns=2, scale=4, padding=1))
    assert picture.shape == (2 * (8 + 1) + 1, 2 * (12 + 1) + 1)
    expected = np.full_like(picture, 255)
    for i, (top, left) in enumerate([(1, 1), (1, 14), (10, 1)]):
        expected[top : top + 8, left : left + 12] = np.kron(tiles[i], np.ones((4, 4), np.uint8))
    np.testing.assert_array_equal(picture, expected)


def test_the_forms_of_images_agree():
    bytes_ = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    first = torch.from_numpy(bytes_).permute(0, 3, 1, 2)
    scaled = first.float() / 127.5 - 1
    expected = np.asarray(grid(bytes_))
    for form in (first, scaled, scaled.numpy(), scaled.clone().requires_grad_()):
        np.testing.assert_array_equal(np.asarray(grid(form)), expected)
    assert grid(bytes_).mode == "RGB"
    assert grid(scaled[:, :1]).mode == grid(bytes_[..., :1]).mode == grid(bytes_[..., 0]).mode == "L"
    assert grid(scaled.bfloat16()).size == grid(bytes_).size


def test_values_out_of_range_are_clipped():
    x = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0]).view(1, 1, 1, 5)
    assert np.asarray(as_picture(x[0])).tolist() == [[0, 0, 128, 255, 255]]


@pytest.mark.parametrize(("side", "count", "columns"), [(8, 4, None), (28, 64, None), (32, 100, 10), (64, 9, None)])
def test_small_tiles_are_enlarged_by_a_whole_factor_to_be_readable(side, count, columns):
    picture = grid(np.zeros((count, side, side), np.uint8), columns)
    across = columns or int(np.ceil(np.sqrt(count)))
    tile = (picture.width - 2) // across - 2
    assert tile % side == 0
    assert 64 <= tile <= 127
    assert picture.width <= WIDEST


@pytest.mark.parametrize(
    ("side", "count", "columns"), [(64, 900, None), (512, 16, None), (512, 16, 8), (2000, 1, None)]
)
def test_no_picture_is_wider_than_a_screen(side, count, columns):
    picture = grid(np.zeros((count, side, side), np.uint8), columns)
    assert picture.width <= WIDEST
    if columns == 8:
        assert picture.size == (WIDEST, round((2 * 514 + 2) * WIDEST / (8 * 514 + 2)))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((1, 4, 4, 2), np.uint8),
        torch.full((1, 1, 2, 2), torch.nan),
        torch.zeros(1, 1, 2, 2, dtype=torch.int64),
        torch.zeros(2, 16),
    ],
)
def test_what_is_no_image_is_refused(images):
    with pytest.raises(UserError):
        grid(images)


def test_heat_leaves_what_is_normal_as_it_is_and_colours_the_strange():
    image = Image.fromarray(np.full((4, 4), 100, np.uint8))
    anomaly = np.array([[0.0, 0.0, 2.0, 5.0]] * 4)
    found = np.asarray(heat(image, anomaly, 1, 2)).astype(int)
    assert found.shape == (4, 4, 3)
    assert (found[:, :2] == 100).all()  # at or below low
    strongest = (1 - COVER) * 100 + COVER * np.array([252, 255, 164])  # the last colour of inferno
    np.testing.assert_allclose(found[0, 2], strongest, atol=1)
    np.testing.assert_array_equal(found[:, 2], found[:, 3])  # above high


def test_heat_grows_with_the_value_on_a_scale_of_its_own():
    image = Image.new("RGB", (256, 1), (40, 40, 40))
    found = np.asarray(heat(image, np.linspace(0, 1, 256)[None], 0, 1)).astype(int)[0]
    assert (np.diff(found.sum(1)) >= -3).all()
    assert found[-1].sum() > found[128].sum() > found[0].sum()
    half = np.asarray(heat(image, np.linspace(0, 1, 256)[None] / 2, 0, 1)).astype(int)[0]
    np.testing.assert_allclose(half[-1], found[127], atol=2)


def test_heat_takes_the_size_of_the_image_and_a_flat_scale():
    image = Image.new("L", (30, 20), 7)
    assert heat(image, np.ones((5, 5)), 0, 1).size == (30, 20)
    assert np.asarray(heat(image, np.ones((5, 5)), 1, 1)).max() == 7
    with pytest.raises(UserError, match="rise"):
        heat(image, np.ones((5, 5)), 1, 0)
    with pytest.raises(UserError, match="finite"):
        heat(image, np.full((5, 5), np.nan), 0, 1)


def test_enlarged_by_a_whole_factor():
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    big = enlarged(image, 8)
    assert big.size == (12, 9)
    np.testing.assert_array_equal(np.asarray(big), np.kron(np.asarray(image), np.ones((3, 3), np.uint8)))
    assert enlarged(big, 5).size == big.size


def test_save_writes_a_whole_png_or_nothing(tmp_path):
    path = tmp_path / "deep" / "grid.png"
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    save(image, path)
    with Image.open(path) as found:
        assert found.format == "PNG"
        np.testing.assert_array_equal(np.asarray(found), np.asarray(image))
    before = path.read_bytes()
    with pytest.raises(OSError):
        save(Image.new("HSV", (2, 2)), path)  # a mode that PNG does not know
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["grid.png"]
