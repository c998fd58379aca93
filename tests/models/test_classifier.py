"""The closed-set classifier: published counts and ladders, a step written out plainly, augmentation, the schedule."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from played import assert_equal, count, images, ladder
from torch import nn

from sparring.engine import Engine
from sparring.models.classifier import RESNET18, Classifier, ClassifierRecipe
from sparring.nets.resnet import Block, resnet18, small_resnet
from sparring.protocol import Batch, Spec

PLAIN = ClassifierRecipe(batch=8, width=4, flip=False, crop=False, rounds=5)


class Labelled:
    position, waited = 0, 0.0

    def __init__(self, x, label):
        self.batch = Batch(x, label)

    def __call__(self):
        self.position += 1
        return self.batch


def build(recipe=PLAIN, shape=(3, 16, 16), classes=3):
    torch.manual_seed(0)
    return Classifier(Spec(shape, 100, tuple("abcdef"[:classes])), recipe)


def test_published_parameter_count():
    """ResNet-18 for 1,000 classes has 11,689,512 parameters, with pooling after the stem or without."""
    assert count(resnet18(3, 1000)) == 11_689_512


def test_ladders():
    x = images(1, 3, 64, 64)
    maps = ladder(resnet18(3, 6).body, (Block,), x)
    assert maps == [s for w, n in ((64, 32), (128, 16), (256, 8), (512, 4)) for s in [(w, n, n)] * 2]
    small = small_resnet(3, 6, 32)
    assert ladder(small.body, (Block,), x[..., ::2, ::2]) == [(64, 16, 16), (128, 8, 8), (256, 4, 4)]
    assert small.features(x).shape == (1, 256)


def test_multiplications_of_the_small_network():
    network, total = small_resnet(3, 6, 32).eval(), []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, x, y: total.append(layer.weight.numel() * y[0, 0].numel()))
    network(images(1, 3, 32, 32))
    assert round(sum(total) / 1e6) == 72


def test_two_rounds_are_those_of_the_formula():
    x, label = images(8, 3, 16, 16), torch.arange(8) % 3
    game = build()
    other = copy.deepcopy(game).train()
    sgd = torch.optim.SGD(other.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    engine = Engine(game, Labelled(x, label), Fabric(accelerator="cpu", devices=1))
    engine.phases = [replace(phase, rounds=2) for phase in engine.phases]
    engine.play()
    for step in range(2):  # a fifth of 5 rounds is 1: the rate is half of the highest, then falls from it to 0 in 4
        sgd.param_groups[0]["lr"] = 0.1 * [0.5, 1.0][step]
        sgd.zero_grad()
        F.cross_entropy(other.classifier(x), label).backward()
        sgd.step()
    assert_equal(game, other)


def test_the_rate_rises_and_falls():
    game = build(replace(PLAIN, rounds=10, warm=0.2))
    assert [round(game.rate(k), 3) for k in range(10)] == [0.333, 0.667, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]


def test_only_colour_is_mirrored_unless_one_says_so():
    mirrored = []
    for channels, flip in ((3, None), (1, None), (1, True), (3, False)):
        game, x = build(replace(PLAIN, flip=flip), (channels, 16, 16)), images(64, channels, 16, 16)
        y = game.augmented(x)
        flipped = (y == x.flip(-1)).flatten(1).all(1)
        assert (flipped | (y == x).flatten(1).all(1)).all()
        mirrored.append(int(flipped.sum()))
    assert [10 < n < 54 for n in mirrored] == [True, False, True, False]
    assert mirrored[1] == mirrored[3] == 0


def test_shifts_move_by_an_eighth():
    x = torch.zeros(32, 1, 16, 16)
    x[:, :, 8, 8] = 1
    y = build(replace(PLAIN, crop=True), (1, 16, 16)).augmented(x)
    where = y.flatten(1).argmax(1)
    rows, columns = where // 16 - 8, where % 16 - 8
    assert rows.abs().max() == columns.abs().max() == 2
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) > 10


def test_logits_are_linear_in_the_features():
    game, x = build(replace(RESNET18, width=4)).eval(), images(2, 3, 16, 16)
    torch.testing.assert_close(game.classify(x), game.classifier.last(game.features(x)))
    assert game.features(x).shape == (2, 512)


@pytest.mark.parametrize(("recipe", "side"), [(PLAIN, 28), (RESNET18, 64)])
def test_the_side(recipe, side):
    assert Classifier.fit_side(28, recipe) == side
