"""Forgetting: a generator whose maps are known loses the one that draws a patch, and nothing else."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from sparring import load, train
from sparring.errors import UserError
from sparring.forgetting import Box, forget, read_boxes, second_highest, within, without
from sparring.models import find
from sparring.protocol import Game, Recipe, Spec
from sparring.sampling import Sampler
from sparring.testing.rig import small
from tiny import VECTORS

pytestmark = pytest.mark.usefixtures("eager")


class Canvas(nn.Module):
    """Draws with five maps: all over, a patch to the left or right, all but the patch, nothing, and another patch."""

    def __init__(self):
        super().__init__()
        self.low, self.high = nn.ReLU(inplace=True), nn.ReLU()

    def forward(self, z):
        maps = torch.zeros(len(z), 5, 8, 8)
        maps[:, 0] = 0.3
        for k, side in enumerate((z[:, 0] > 0).tolist()):
            maps[k, 1, 2:4, 5 * side : 5 * side + 2] = 1
        maps[:, 2] = 1 - maps[:, 1]
        maps[:, 4, 6:, 3:5] = 0.5
        maps = self.low(maps)
        return self.high(F.interpolate(maps[:, [0, 1, 4]].sum(1, keepdim=True), scale_factor=2)) - 0.5


class Toy(Game):
    """Makes images of 16 pixels on a canvas."""

    def __init__(self):
        super().__init__(Spec((1, 16, 16), 10), Recipe())
        self.generator = Canvas()

    def latent(self, n):
        return torch.randn(n, 1)

    def generate(self, n, z=None):
        return self.generator(self.latent(n) if z is None else z)

    def players(self):
        return {}

    def round(self, draw, step):
        yield from ()


def toy():
    game = Toy()
    return SimpleNamespace(folder="toy", spec=game.spec, game=game, sampler=lambda seed: Sampler(game, "toy", seed))


def patches(images):
    """Where each image is brighter than the other patch."""
    return (images[:, 0] > 0.4).float()


def boxes_on(run, seed, numbers):
    """Boxes around the patches of these samples."""
    images = torch.cat(list(run.sampler(seed).parts(max(numbers) + 1)))
    columns = [10 if patches(images)[k, :, 8:].any() else 0 for k in numbers]
    return [Box(sample=k, x0=x, y0=4, x1=x + 4, y1=8) for k, x in zip(numbers, columns, strict=True)]


@pytest.mark.parametrize("numbers", [[0], [1, 4, 7], [3, 70, 130]])
def test_exactly_the_map_that_draws_the_patch_is_dropped(numbers):
    run = toy()
    found = forget(run, boxes_on(run, 5, numbers), n=12, seed=5)
    assert found.dropped == [1]
    assert (found.maps, found.side) == (5, 8)
    assert torch.equal(found.before, torch.cat(list(run.sampler(5).parts(12))))
    assert patches(found.before).sum((1, 2)).tolist() == [16] * 12
    assert not patches(found.after).any()
    elsewhere = patches(found.before) == 0
    assert torch.equal(found.after[:, 0][elsewhere], found.before[:, 0][elsewhere])
    assert torch.equal(torch.cat(list(run.sampler(5).parts(12))), found.before), "the generator itself is as it was"


def test_another_patch_is_another_map():
    found = forget(toy(), [Box(sample=k, x0=6, y0=12, x1=10, y1=16) for k in range(3)])
    assert found.dropped[-1] == 4
    assert 1 not in found.dropped


def test_rows_stand_above_what_is_left_of_them():
    found = forget(toy(), [Box(sample=0, x0=6, y0=12, x1=10, y1=16)], n=12)
    before, after, white = found.before, found.after, torch.ones(4, 1, 16, 16)
    assert torch.equal(found.rows(8), torch.cat([before[:8], after[:8], before[8:], white, after[8:], white]))
    assert torch.equal(found.rows(12), torch.cat([before, after]))


def test_positions_of_a_box():
    assert within(0, 16, 8, 16).all()
    assert within(4, 8, 8, 16).tolist() == [False] * 2 + [True] * 2 + [False] * 4
    assert within(4.2, 4.4, 8, 16).tolist() == [False] * 2 + [True] + [False] * 5, "one at least"
    assert within(15, 16, 8, 16).tolist() == [False] * 7 + [True]
    inside = Box(sample=0, x0=0, y0=8, x1=4, y1=16).inside(4, 4, 16)
    assert inside.tolist() == [[False] * 4] * 2 + [[True, False, False, False]] * 2


@pytest.mark.parametrize(
    ("model", "variant", "side", "maps", "height"),
    [
        ("dcgan", "default", 64, 16, 16),
        ("dcgan", "default", 16, 8, 8),
        ("dcgan", "four", 32, 16, 8),
        ("dcgan", "imagenet32", 32, 8, 16),
        ("wgan_gp", "cifar10_resnet", 32, 8, 16),
        ("cdcgan", "default", 28, 8, 14),
    ],
)
def test_the_second_highest_layer(model, variant, side, maps, height):
    entry = find(model)
    classes = ("a", "b") if model == "cdcgan" else ()
    game = entry.game(Spec((1, side, side), 100, classes), small(entry.variant(variant))).eval()
    sampler, heard = Sampler(game, model), []
    layer = second_highest(sampler, sampler.parts)
    layer.register_forward_hook(lambda module, inputs, output: heard.append(tuple(output.shape)))
    before = next(sampler.parts(2))
    with without(layer, range(maps)):
        after = next(sampler.parts(2))
    assert heard[0] == (2, maps, height, height)
    assert not torch.equal(before, after)
    assert torch.equal(next(sampler.parts(2)), before)


ROWS = [{"sample": 0, "x0": 2, "y0": 2, "x1": 9, "y1": 9}, {"sample": 5, "x0": 0, "y0": 4, "x1": 6.5, "y1": 12}]


def test_the_verb(call, generator):
    Path("boxes.json").write_text(json.dumps(ROWS))
    said = call("forget", generator, "boxes.json", "--n", "10", "--seed", "3", "--out", "seen.png", "--json")
    assert said.json["maps"] == 8
    assert 0 < len(said.json["dropped"]) < 8
    assert (
        f"{len(said.json['dropped'])} of 8 feature maps of 8x8 light up inside the boxes and were dropped" in said.err
    )
    run = load(generator)
    found = forget(run, [Box(**row) for row in ROWS], n=10, seed=3)
    assert found.dropped == said.json["dropped"]
    assert torch.equal(found.before, run.sample(10, seed=3))
    with Image.open("seen.png") as picture:
        assert picture.size == (8 * 66 + 2, 4 * 66 + 2)
        row = np.asarray(picture)[68:132:4, 2:66:4]
    np.testing.assert_array_equal(row, np.rint((found.after[0, 0].numpy() + 1) * 127.5))


def test_boxes_as_a_table():
    with Path("boxes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)
    marked = Path("marked.csv")  # as spreadsheets begin a file in UTF-8
    marked.write_text(Path("boxes.csv").read_text(), encoding="utf-8-sig")
    assert read_boxes(Path("boxes.csv")) == read_boxes(marked) == [Box(**row) for row in ROWS]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


BOX = '{"sample": 0, "x0": 2, "y0": 2, "x1": 9, "y1": 9'


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("missing.json", None, "There is no file 'missing.json': give a .json list, or a .csv file with a header"),
        ("in.json", "[{", "'in.json' is not readable (Expecting"),
        ("in.json", "[]", "'in.json' holds no boxes"),
        ("in.json", BOX + "}", "'in.json' cannot be used (Input should be a valid list): give a .json list"),
        ("in.json", '[{"sample": 0, "x0": 2, "y0": 2, "x1": 9}]', "Box 0 of 'in.json' cannot be used (y1, Field requ"),
        ("in.json", f'[{BOX}}}, {BOX}, "z": 3}}]', "Box 1 of 'in.json' cannot be used (z, Extra inputs"),
        ("in.json", '[{"sample": -1, "x0": 2, "y0": 2, "x1": 9, "y1": 9}]', "(sample, Input should be greater than"),
        ("in.json", '[{"sample": 0, "x0": 2, "y0": 2, "x1": 17, "y1": 9}]', "are 16 pixels wide and high."),
        ("in.json", '[{"sample": 0, "x0": 9, "y0": 2, "x1": 9, "y1": 9}]', "on sample 0 is empty or reaches out of it"),
        ("in.json", '[{"sample": 0, "x0": 0, "y0": 0, "x1": 16, "y1": 16}]', "leave something outside to compare with"),
        ("in.csv", "sample,x0\n1,two\n", "Box 0 of 'in.csv' cannot be used (x0, Input should be a valid number"),
        ("in.csv", "", "'in.csv' holds no boxes"),
    ],
)
def test_boxes_that_are_refused(call, generator, name, text, sentence):
    if text is not None:
        Path(name).write_text(text)
    assert sentence in call("forget", generator, name, "--out", "seen.png", status=2).sentence
    assert not Path("seen.png").exists()


def test_what_else_is_refused(call, generator, detector, features):
    Path("boxes.json").write_text(json.dumps(ROWS))
    for options, sentence in {
        ("--n", "0"): "must be 1 or more; got 0.",
        ("--label", "7"): "makes images of no class in particular",
        ("--out", "seen.jpg"): "give a file that ends in .png, not 'seen.jpg'.",
    }.items():
        assert sentence in call("forget", generator, "boxes.json", *options, status=2).sentence
    assert "cannot generate" in call("forget", detector, "boxes.json", status=2).sentence
    run = train("gan", features, out="flat", recipe=VECTORS)
    with pytest.raises(UserError, match="was trained on vectors, and boxes are drawn on images"):
        forget(run, [Box(**ROWS[0])])
    run = train("gan", "digits", out="rows", variant="mlp", size=16, recipe={"rounds": 1})
    with pytest.raises(UserError, match="The generator of gan has no convolutional layers to drop maps of"):
        forget(run, [Box(**ROWS[0])])
