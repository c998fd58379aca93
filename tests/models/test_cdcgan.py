"""Conditional DCGAN, 2015: published counts and ladders, and two rounds written out plainly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from played import count, randomness
from torch import nn

from sparring.errors import UserError
from sparring.models.cdcgan import CDCGAN, EMBEDDED, CDCGANRecipe
from sparring.nets.conditional import Joined, join
from sparring.protocol import Spec
from sparring.testing import TinyDraw
from sparring.testing.rig import Case

DIGITS = Spec((1, 28, 28), 50_000, tuple("0123456789"))
TINY = CDCGANRecipe(batch=6, latent=5, width=4, hidden=12)


def spec(side, channels=1, classes=3):
    return Spec((channels, side, side), 1000, tuple("abcdefghij"[:classes]))


def test_published_parameter_counts():
    game = CDCGAN(DIGITS, CDCGANRecipe())
    assert (count(game.generator), count(game.discriminator)) == (6_820_538, 6_688_202)


def stages(network, x, label):
    """Shapes, without the batch, of what each stage sees beside the label and of what the last one puts out."""
    shapes = []
    hooks = [
        stage.register_forward_pre_hook(lambda stage, inputs: shapes.append(tuple(inputs[0].shape[1:])))
        for stage in network.modules()
        if isinstance(stage, Joined)
    ]
    with torch.no_grad():
        shapes.append(tuple(network.eval()(x, label).shape[1:]))
    for hook in hooks:
        hook.remove()
    return shapes


def test_ladders_of_the_authors():
    game, label = CDCGAN(DIGITS, CDCGANRecipe()), torch.tensor([3])
    up = stages(game.generator, game.latent(1), label)
    assert up == [(100,), (1024,), (128, 7, 7), (64, 14, 14), (1, 28, 28)]
    down = stages(game.discriminator, torch.zeros(1, 1, 28, 28), label)
    assert down == [(1, 28, 28), (64, 14, 14), (6272,), (1024,), ()]


def test_ladder_at_64_pixels():
    game, label = CDCGAN(spec(64, 3), TINY), torch.tensor([0])
    up = stages(game.generator, game.latent(1), label)
    assert up == [(5,), (12,), (32, 4, 4), (16, 8, 8), (8, 16, 16), (4, 32, 32), (3, 64, 64)]
    down = stages(game.discriminator, torch.zeros(1, 3, 64, 64), label)
    assert down == [(3, 64, 64), (4, 32, 32), (8, 16, 16), (16, 8, 8), (512,), (12,), ()]


def test_the_label_stands_beside_every_input():
    label = torch.eye(2)
    assert join(torch.zeros(2, 3), label).tolist() == [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    maps = join(torch.zeros(2, 3, 4, 4), label)
    assert maps.shape == (2, 5, 4, 4)
    assert (maps[0, 3] == 1).all()
    assert (maps[0, 4] == 0).all()
    assert (maps[1, 4] == 1).all()


@pytest.mark.parametrize("side", [16, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("embedding", [0, 7])
def test_every_size(side, channels, embedding):
    game = CDCGAN(spec(side, channels), replace(TINY, embedding=embedding)).eval().requires_grad_(False)
    y = game.generate(4, label=torch.tensor([0, 1, 2, 0]))
    assert y.shape == (4, channels, side, side)
    assert float(y.abs().max()) <= 1
    assert game.discriminator((y + 1) / 2, torch.tensor([0, 1, 2, 0])).shape == (4,)


@pytest.mark.parametrize("side", [8, 14, 48, 512])
def test_sizes_that_are_refused(side):
    with pytest.raises(UserError, match="Beside 28 pixels, cdcgan works on"):
        CDCGAN(spec(side), TINY)


def test_data_that_are_refused():
    with pytest.raises(UserError, match="cdcgan works on images, not on vectors of 20 numbers: use cgan"):
        CDCGAN(Spec((20,), 100, ("a", "b")), TINY)
    with pytest.raises(UserError, match="cdcgan makes examples by class"):
        CDCGAN(spec(16, classes=0), TINY)


@pytest.mark.parametrize(("native", "side"), [(8, 16), (27, 32), (28, 28), (29, 32), (33, 64), (900, 256)])
def test_fit_side(native, side):
    assert CDCGAN.fit_side(native, CDCGANRecipe()) == side


def test_rules_of_the_architecture():
    game = CDCGAN(DIGITS, CDCGANRecipe())
    norms = [layer for layer in game.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert len(norms) == 5
    assert not any(layer.affine for layer in norms), "no gain and no bias (appendix 8.1)"
    layers = [layer for layer in game.modules() if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]
    assert len(layers) == 8
    for layer in layers:
        assert layer.bias is None
        if layer.weight.numel() > 5000:
            assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.05)


def test_an_embedding_of_its_own_for_each_player():
    game = CDCGAN(spec(16), replace(EMBEDDED, width=4, hidden=12))
    codes = [network.code.weight for network in (game.generator, game.discriminator)]
    assert [code.shape for code in codes] == [(3, 32), (3, 32)]
    assert not torch.equal(*codes)


def concat(x, y):
    """Constant maps of the label behind the maps of x."""
    maps = y[:, :, None, None] * torch.ones(len(x), y.shape[1], *x.shape[2:])
    return torch.cat([x, maps], 1)


def batchnorm(x):
    return F.batch_norm(x, None, None, training=True)


def plain_generator(weights, z, y, base):
    w, w2, w3, wx = weights
    h = F.relu(batchnorm(F.linear(torch.cat([z, y], 1), w)))
    h = F.relu(batchnorm(F.linear(torch.cat([h, y], 1), w2))).view(len(z), -1, base, base)
    h = F.relu(batchnorm(F.conv_transpose2d(concat(h, y), w3, stride=2, padding=2, output_padding=1)))
    return torch.sigmoid(F.conv_transpose2d(concat(h, y), wx, stride=2, padding=2, output_padding=1))


def plain_discriminator(weights, x, y):
    w, w2, w3, wy = weights
    h = F.leaky_relu(F.conv2d(concat(x, y), w, stride=2, padding=2), 0.2)
    h = F.leaky_relu(batchnorm(F.conv2d(concat(h, y), w2, stride=2, padding=2)), 0.2).flatten(1)
    h = F.leaky_relu(batchnorm(F.linear(torch.cat([h, y], 1), w3)), 0.2)
    return F.linear(torch.cat([h, y], 1), wy)[:, 0]


def bce(logit, target):
    return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, target))


@pytest.mark.parametrize("side", [16, 28])
def test_two_rounds_are_those_of_the_reference(side):
    engine, draw = Case("cdcgan", CDCGAN, TINY, spec(side)).engine(rounds=2), TinyDraw(spec(side), 6)
    networks = engine.game.generator, engine.game.discriminator
    g, d = ([p.detach().clone().requires_grad_() for p in network.parameters()] for network in networks)
    g_adam, d_adam = (torch.optim.Adam(w, 2e-4, (0.5, 0.999), weight_decay=2.5e-5) for w in (g, d))
    for step in range(2):
        batch = draw()
        x, y = (batch.x + 1) / 2, torch.eye(3)[batch.label]
        with randomness(step):
            first, second = (torch.empty(6, 5).uniform_(-1, 1) for _ in range(2))
        made = plain_generator(g, first, y, side // 4).detach()
        loss = bce(plain_discriminator(d, x, y), 1.0) + bce(plain_discriminator(d, made, y), 0.0)
        for p, slope in zip(d, torch.autograd.grad(loss, d), strict=True):
            p.grad = slope
        d_adam.step()
        loss = bce(plain_discriminator(d, plain_generator(g, second, y, side // 4), y), 1.0)
        for p, slope in zip(g, torch.autograd.grad(loss, g), strict=True):
            p.grad = slope
        g_adam.step()
    engine.play()
    for network, plain in zip(networks, (g, d), strict=True):
        for found, expected in zip(network.parameters(), plain, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_the_rate_is_constant_and_then_falls_to_zero():
    (phase,) = CDCGAN(DIGITS, CDCGANRecipe(epochs=8, batch=5000)).phases()
    assert phase.rounds == 80
    assert [phase.rate(step) for step in (0, 39, 40, 60, 79, 80)] == pytest.approx([1, 1, 1, 0.5, 1 / 40, 0])
    (phase,) = CDCGAN(spec(16), replace(TINY, rounds=10, constant=1.0)).phases()
    assert {phase.rate(step) for step in range(10)} == {1.0}


def test_prior():
    z = CDCGAN(spec(16), TINY).latent(2000)
    assert z.shape == (2000, 5)
    assert -1 <= float(z.min()) < -0.999 < 0.999 < float(z.max()) <= 1
