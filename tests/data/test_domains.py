"""Two domains within one set of data: what each holds, and that a training never sees both parts of a pair."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sparring.data import Domain, open_source, split_in
from sparring.data.flow import Flow
from sparring.errors import UserError


@pytest.fixture
def pairs(tmp_path):
    """A folder in the layout of edges2shoes: image k is k + 100 on the left and k on the right."""
    for split, count in (("train", 10), ("val", 4)):
        (tmp_path / "pairs" / split).mkdir(parents=True)
        for k in range(count):
            pixels = np.full((16, 32), k + 100, np.uint8)
            pixels[:, 16:] = k
            Image.fromarray(pixels).save(tmp_path / "pairs" / split / f"{k}_AB.png")
    return tmp_path / "pairs"


def levels(source):
    return source.read(slice(None)).mean((1, 2, 3)).tolist()


def both(data, rule, apart=False, **options):
    return [open_source(data, domain=Domain(rule, second, apart), **options) for second in (False, True)]


def test_halves_of_pairs(pairs):
    a, b = both(pairs, "halves", apart=True, size=8)
    assert a.spec().shape == b.spec().shape == (1, 8, 8)
    assert levels(a) == [100, 101, 102, 103, 104], "the left of the first half"
    assert levels(b) == [5, 6, 7, 8, 9], "the right of the second"
    a, b = both(pairs, "halves", size=8, split="val")
    assert (levels(a), levels(b)) == ([100, 101, 102, 103], [0, 1, 2, 3])
    assert a.names == b.names


def test_halves_of_an_array():
    x = np.arange(4 * 6 * 12, dtype=np.uint8).reshape(4, 6, 12)
    a, b = both(x, "halves")
    assert a.spec().shape == b.spec().shape == (1, 6, 6)
    assert np.array_equal(a.read(slice(None))[..., 0], x[:, :, :6])
    assert np.array_equal(b.read(slice(None))[..., 0], x[:, :, 6:])


def test_what_is_made_of_an_image():
    x = np.zeros((2, 8, 8), np.uint8)
    x[:, :4] = 255
    (a, b), (_, turned) = both(x, "inverted"), both(x, "rotated")
    assert np.array_equal(a.read(slice(None))[..., 0], x)
    assert np.array_equal(b.read(slice(None))[..., 0], 255 - x)
    assert np.array_equal(turned.read(slice(None))[..., 0], np.rot90(x, axes=(1, 2)))
    grey, colour = both(x, "coloured")
    assert grey.spec().shape == colour.spec().shape == (3, 8, 8), "both domains have three channels"
    assert colour.read([0])[0, 0, 0].tolist() == [250, 204, 21]
    drawn, photo = (s.read(slice(None))[..., 0] for s in both(x, "edges"))
    assert np.array_equal(photo, x)
    assert (drawn[:, 3:5] < 50).all()
    assert (drawn[:, [0, -1]] > 200).all()


def test_a_training_never_sees_both_parts_of_a_pair():
    x, label = np.zeros((30, 8, 8), np.uint8), np.arange(30) % 3
    a, b = both((x, label), "inverted", apart=True)
    assert set(a.names).isdisjoint(b.names)
    assert len(a) + len(b) == 30
    assert np.bincount(a.labels).tolist() == np.bincount(b.labels).tolist() == [5, 5, 5], "of each class, half"


def test_classes():
    x, label = np.arange(12, dtype=np.float32)[:, None], np.arange(12) % 4
    a, b = both((x, label), "0,2:3", apart=True)
    assert (sorted(set(a.read(slice(None))[:, 0] % 4)), a.classes) == ([0, 2], ("0", "2"))
    assert set(b.read(slice(None))[:, 0] % 4) == {3}


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("halfs", "There is no way to make two domains 'halfs': did you mean 'halves'?"),
        ("0:7", "There is no class '7'"),
        ("0:", "has no example of no class here"),
        ("halves", "holds vectors, and --domains halves is for images"),
    ],
)
def test_rules_that_are_refused(rule, sentence):
    with pytest.raises(UserError, match=sentence):
        both((np.zeros((4, 2), np.float32), np.arange(4) % 2), rule)


def test_one_image_is_no_two_domains():
    with pytest.raises(UserError, match="too few images for two domains"):
        both(np.zeros((1, 8, 8), np.uint8), "inverted", apart=True)


def test_the_same_split_of_other_data(pairs):
    x = np.zeros((4, 8, 8), np.uint8)
    assert [split_in(x, s) for s in ("train", "train[:-2]", "[2:]", None)] == [None, "[:-2]", "[2:]", None]
    assert split_in(pairs, "train[:-2]") == "train[:-2]"


def test_a_flow_names_what_it_reads(paint):
    for k in range(150):
        folder = paint(f"in/{k:03d}.png").parent
    for broken in ("000", "070", "149"):
        (folder / f"{broken}.png").write_bytes(b"nothing")
    flow = Flow(folder, (3, 16, 16))
    found = {name: row for names, rows in flow for name, row in zip(names, rows, strict=True)}
    source = open_source(folder, size=16)
    assert list(found) == list(source.names)
    assert np.array_equal(np.stack(list(found.values())), source.read(slice(None)))
    assert [name for name, _ in flow.skipped] == ["000.png", "070.png", "149.png"]
    assert len(flow) == 150
    with pytest.raises(UserError, match=r"'000\.png' cannot be read"):
        list(Flow(folder, (3, 16, 16), strict=True))


def test_a_flow_of_another_kind(paint):
    with pytest.raises(UserError, match="holds vectors of 3 numbers, and the run was trained on images of 8x8 pixels"):
        Flow(np.zeros((4, 3), np.float32), (1, 8, 8))
    with pytest.raises(UserError, match="holds images, and the run was trained on vectors of 3 numbers"):
        Flow(np.zeros((4, 8, 8), np.uint8), (3,))
    with pytest.raises(UserError, match="too small for --size 64"):
        Flow(paint("in/0.png").parent, (3, 64, 64))
    (names, rows), *_ = Flow(np.ones((4, 3), np.float32), (3,))
    assert (len(names), rows.shape) == (4, (4, 3))
