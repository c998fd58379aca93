"""EGBAD, 2018: the authors' ladders, their two turns written out plainly, and the score."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from played import assert_equal, build, engine, images, ladder, play, randomness
from torch import nn

from sparring.errors import UserError
from sparring.models.egbad import EGBAD, KDD, EGBADRecipe

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
TINY = EGBADRecipe(width=4, latent=5, units=12, drop=0.0, batch=6)


def test_ladders_of_the_authors():
    game = build("egbad", (1, 28, 28))
    x, z = images(2, 1, 28, 28), torch.zeros(2, 200)
    assert ladder(game.encoder, LAYERS, x) == [(32, 28, 28), (64, 14, 14), (128, 7, 7), (200,)]
    assert ladder(game.generator, LAYERS, z) == [(1024,), (6272,), (64, 14, 14), (1, 28, 28)]
    assert ladder(game.discriminator.features.of_x, LAYERS, x) == [(64, 14, 14), (64, 7, 7)]
    assert [layer.in_features for layer in game.discriminator.modules() if isinstance(layer, nn.Linear)] == [
        200, 3136 + 512, 1024,
    ]  # fmt: skip
    norms = [sum(isinstance(layer, nn.BatchNorm2d) for layer in part.modules()) for part in game.children()]
    assert norms == [0, 2, 1, 1]


def test_ladders_of_features():
    game = build("egbad", (121,), KDD)
    assert ladder(game.encoder, LAYERS, torch.zeros(2, 121)) == [(64,), (32,)]
    assert ladder(game.generator, LAYERS, torch.zeros(2, 32)) == [(64,), (128,), (121,)]
    assert [layer.in_features for layer in game.discriminator.modules() if isinstance(layer, nn.Linear)] == [
        121, 32, 256, 128,
    ]  # fmt: skip


@pytest.mark.parametrize(("side", "base"), [(16, 4), (28, 7), (32, 8), (64, 8), (128, 8), (256, 8)])
def test_sides(side, base):
    game = build("egbad", (3, side, side), EGBADRecipe(width=2, latent=3, units=4))
    assert game.generator[6].unflattened_size == (4, base, base)
    with torch.no_grad():
        assert game.eval().reconstruct(images(2, 3, side, side)).shape == (2, 3, side, side)


@pytest.mark.parametrize("side", [8, 30, 36, 512])
def test_sides_that_cannot_be(side):
    with pytest.raises(UserError, match="choose a side with --size"):
        build("egbad", (1, side, side))
    assert EGBAD.fit_side(side, TINY) in (16, 32, 64, 256)


def test_batch_norm_has_the_defaults_of_tensorflow():
    norms = [
        layer for layer in build("egbad", (1, 28, 28)).modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)
    ]
    assert len(norms) == 6
    assert {(layer.momentum, layer.eps) for layer in norms} == {(0.01, 1e-3)}


@pytest.mark.parametrize(("count", "settings", "rounds"), [
    (54_000, {}, 54_000), (4_800, {}, 5_000), (54_000, {"epochs": 2}, 1_080), (100, {"rounds": 7}, 7),
])  # fmt: skip
def test_an_epoch_is_a_pass_of_each_player(count, settings, rounds):
    """The authors' epoch gives D, and E and G, a step for every minibatch."""
    assert build("egbad", (9,), EGBADRecipe(**settings), count=count).rounds == rounds


@pytest.mark.parametrize("shape", [(1, 16, 16), (9,)])
def test_two_rounds_are_those_of_the_reference(shape):
    """D, G and E each with an optimizer of its own; in float64, see the test of OGNet."""
    game, x = build("egbad", shape, TINY).double(), images(6, *shape).double()
    other = copy.deepcopy(game).train()
    d, g, e = other.discriminator, other.generator, other.encoder
    d_adam, g_adam, e_adam = (torch.optim.Adam(part.parameters(), 1e-5, (0.5, 0.999)) for part in (d, g, e))
    ones, zeros = torch.ones(6).double(), torch.zeros(6).double()
    bce = F.binary_cross_entropy_with_logits
    for step in range(2):
        with randomness(step):
            first, second = (torch.randn(6, game.width).double() for _ in range(2))
        d_adam.zero_grad()
        (bce(d(x, e(x).detach()), ones) + bce(d(g(first).detach(), first), zeros)).backward()
        d_adam.step()
        loss_e, loss_g = bce(d(x, e(x)), zeros), bce(d(g(second), second), ones)
        g_adam.zero_grad()
        loss_g.backward()
        e_adam.zero_grad()
        loss_e.backward()
        g_adam.step()
        e_adam.step()
    original = type(game).latent
    try:
        type(game).latent = lambda self, n: original(self, n).double()
        play(game, x, 2)
    finally:
        type(game).latent = original
    for mine, theirs in ((game.discriminator, d), (game.generator, g), (game.encoder, e)):
        assert_equal(mine, theirs)


@pytest.mark.parametrize("compare", ["features", "cross_entropy"])
@torch.no_grad()
def test_score_by_hand(compare):
    game = build("egbad", (1, 16, 16), EGBADRecipe(width=4, latent=5, units=12, weight=0.3, compare=compare)).eval()
    x = images(5, 1, 16, 16)
    z = game.encoder(x)
    y = game.generator(z)
    residual = (x - y).abs().sum((1, 2, 3))
    if compare == "features":
        strange = torch.linalg.vector_norm(game.discriminator.features(x, z) - game.discriminator.features(y, z), 1, 1)
    else:
        strange = F.binary_cross_entropy_with_logits(game.discriminator(x, z), torch.ones(5), reduction="none")
    torch.testing.assert_close(game.score(x), 0.7 * residual + 0.3 * strange)
    torch.testing.assert_close(game.anomaly_map(x), (x - y).abs()[:, 0])


def test_scores_are_those_of_the_averaged_networks():
    game, x = build("egbad", (1, 16, 16), TINY), images(6, 1, 16, 16)
    assert game.recipe.ema == 0.999
    made = engine(game, x, 2)
    assert {name.partition(".")[0] for name in made.average.live} == {"encoder", "generator", "discriminator"}
