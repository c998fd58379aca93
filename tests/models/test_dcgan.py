"""DCGAN, 2015: published counts and ladders, first weights, and a step written out plainly."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from played import assert_equal, build, count, images, ladder, play, randomness
from torch import nn

from sparring.errors import UserError
from sparring.models.dcgan import DCGAN, FOUR, IMAGENET32, DCGANRecipe

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Unflatten)


@pytest.mark.parametrize(
    ("recipe", "generator", "discriminator"),
    [(DCGANRecipe(), 18_885_760, 17_232_768), (FOUR, 3_576_704, 2_765_568)],
)
def test_published_parameter_counts(recipe, generator, discriminator):
    game = build("dcgan", (3, 64, 64), recipe)
    assert (count(game.generator), count(game.discriminator)) == (generator, discriminator)


def test_parameters_of_the_imagenet_model():
    """As the shapes in the authors' training script add up."""
    game = build("dcgan", (3, 32, 32), IMAGENET32)
    w = 128

    def convolutions(*maps):
        return sum(9 * a * b for a, b in itertools.pairwise(maps))

    norms = 2 * (4 + 2 + 2 + 1 + 1) * w
    assert count(game.generator) == (256 + 2) * 64 * w + norms + convolutions(4 * w, 4 * w, 2 * w, 2 * w, w, w, 3)
    norms = 2 * (1 + 2 + 2 + 4 + 4) * w
    assert count(game.discriminator) == convolutions(3, w, w, 2 * w, 2 * w, 4 * w, 4 * w) + norms + 8192
    assert (count(game.generator), count(game.discriminator)) == (6_690_688, 4_586_112)


def test_ladder_of_the_paper():
    game = build("dcgan", (3, 64, 64))
    up = ladder(game.generator, CONVOLUTIONS, game.latent(1))
    assert up == [(16384,), (1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)]
    down = ladder(game.discriminator, CONVOLUTIONS, images(1, 3, 64, 64))
    assert down == [(128, 32, 32), (256, 16, 16), (512, 8, 8), (1024, 4, 4), (1,)]


def test_ladder_of_the_examples():
    game = build("dcgan", (3, 64, 64), FOUR)
    up = ladder(game.generator, CONVOLUTIONS, game.latent(1))
    assert up == [(512, 4, 4), (256, 8, 8), (128, 16, 16), (64, 32, 32), (3, 64, 64)]
    down = ladder(game.discriminator, CONVOLUTIONS, images(1, 3, 64, 64))
    assert down == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (1, 1, 1)]


def test_ladder_of_the_imagenet_model():
    game = build("dcgan", (3, 32, 32), IMAGENET32)
    up = ladder(game.generator, CONVOLUTIONS, game.latent(1))
    maps = [(512, 8, 8), (256, 8, 8), (256, 16, 16), (128, 16, 16), (128, 32, 32), (3, 32, 32)]
    assert up == [(8192,), (512, 4, 4), *maps]
    down = ladder(game.discriminator, CONVOLUTIONS, images(1, 3, 32, 32))
    assert down == [(128, 32, 32), (128, 16, 16), (256, 16, 16), (256, 8, 8), (512, 8, 8), (512, 4, 4), (1,)]


@pytest.mark.parametrize("side", [16, 32, 128])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_every_size(side, channels, kernel):
    game = build("dcgan", (channels, side, side), DCGANRecipe(width=4, latent=6, kernel=kernel)).eval()
    with torch.no_grad():
        y = game.generate(2)
        assert y.shape == (2, channels, side, side)
        assert float(y.abs().max()) <= 1
        assert game.discriminator(y).shape == (2,)


@pytest.mark.parametrize("shape", [(3, 48, 48), (3, 8, 8), (3, 512, 512), (20,)])
def test_sizes_that_are_refused(shape):
    with pytest.raises(UserError, match="dcgan works on"):
        build("dcgan", shape)


@pytest.mark.parametrize(("native", "side"), [(8, 16), (16, 16), (28, 32), (33, 64), (200, 256), (900, 256)])
def test_fit_side(native, side):
    assert DCGAN.fit_side(native, FOUR) == side


@pytest.mark.parametrize("recipe", [FOUR, IMAGENET32])
def test_rules_of_the_architecture(recipe):
    game = build("dcgan", (3, 64, 64), replace(recipe, width=16))
    kinds = [type(layer) for layer in game.generator]
    assert nn.BatchNorm2d not in kinds[-2:], "no batch norm at G's output"
    assert kinds[-1] is nn.Tanh
    assert not isinstance(game.discriminator.features[1], nn.BatchNorm2d), "nor at D's input"
    assert all(layer.negative_slope == 0.2 for layer in game.modules() if isinstance(layer, nn.LeakyReLU))
    assert not any(isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)) for layer in game.modules())
    layers = [layer for layer in game.modules() if isinstance(layer, CONVOLUTIONS[:3])]
    assert all(layer.bias is None for layer in layers)


@pytest.mark.parametrize("recipe", [DCGANRecipe(width=32), FOUR, replace(IMAGENET32, width=64)])
def test_first_weights(recipe):
    """Section 4: standard deviation 0.02, in convolutions, transposed convolutions and linear layers alike."""
    game = build("dcgan", (3, 64, 64), recipe)
    for layer in game.modules():
        if isinstance(layer, CONVOLUTIONS[:3]) and layer.weight.numel() > 5000:
            assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
            assert float(layer.weight.detach().mean()) == pytest.approx(0, abs=1e-3)
        if isinstance(layer, nn.BatchNorm2d):
            assert float(layer.weight.detach().mean()) == pytest.approx(1, abs=0.01)
            assert 0 < float(layer.weight.detach().std()) < 0.04
            assert not layer.bias.any()


def test_prior():
    uniform = build("dcgan", (1, 16, 16), DCGANRecipe(width=2)).latent(100)
    assert uniform.shape == (100, 100, 1, 1)
    assert 0.999 < float(uniform.abs().max()) <= 1
    normal = build("dcgan", (1, 16, 16), replace(FOUR, width=2)).latent(100)
    assert float(normal.std()) == pytest.approx(1, abs=0.03)


def five(w):
    """The 5x5 networks for 16 pixels, layer by layer."""
    generator = nn.Sequential(
        nn.Flatten(), nn.Linear(10, 2 * w * 16, bias=False), nn.BatchNorm1d(2 * w * 16), nn.ReLU(),
        nn.Unflatten(1, (2 * w, 4, 4)),
        nn.ConvTranspose2d(2 * w, w, 5, 2, 2, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(),
        nn.ConvTranspose2d(w, 1, 5, 2, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(1, w, 5, 2, 2, bias=False), nn.LeakyReLU(0.2),
        nn.Conv2d(w, 2 * w, 5, 2, 2, bias=False), nn.BatchNorm2d(2 * w), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(2 * w * 16, 1, bias=False),
    )  # fmt: skip
    return generator, discriminator


def four(w):
    """The 4x4 networks of the PyTorch examples, for 16 pixels."""
    generator = nn.Sequential(
        nn.ConvTranspose2d(10, 2 * w, 4, 1, 0, bias=False), nn.BatchNorm2d(2 * w), nn.ReLU(True),
        nn.ConvTranspose2d(2 * w, w, 4, 2, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(True),
        nn.ConvTranspose2d(w, 1, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(1, w, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True),
        nn.Conv2d(w, 2 * w, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * w), nn.LeakyReLU(0.2, True),
        nn.Conv2d(2 * w, 1, 4, 1, 0, bias=False), nn.Flatten(0),
    )  # fmt: skip
    return generator, discriminator


def three(w):
    """The 3x3 networks of the ImageNet model, for 16 pixels."""
    generator = nn.Sequential(
        nn.Flatten(), nn.Linear(10, 2 * w * 16, bias=False), nn.BatchNorm1d(2 * w * 16), nn.ReLU(),
        nn.Unflatten(1, (2 * w, 4, 4)),
        nn.ConvTranspose2d(2 * w, 2 * w, 3, 2, 1, 1, bias=False), nn.BatchNorm2d(2 * w), nn.ReLU(),
        nn.ConvTranspose2d(2 * w, w, 3, 1, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(),
        nn.ConvTranspose2d(w, w, 3, 2, 1, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(),
        nn.ConvTranspose2d(w, 1, 3, 1, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(1, w, 3, 1, 1, bias=False), nn.LeakyReLU(0.2),
        nn.Conv2d(w, w, 3, 2, 1, bias=False), nn.BatchNorm2d(w), nn.LeakyReLU(0.2),
        nn.Conv2d(w, 2 * w, 3, 1, 1, bias=False), nn.BatchNorm2d(2 * w), nn.LeakyReLU(0.2),
        nn.Conv2d(2 * w, 2 * w, 3, 2, 1, bias=False), nn.BatchNorm2d(2 * w), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(2 * w * 16, 1, bias=False),
    )  # fmt: skip
    return generator, discriminator


@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_two_rounds_are_those_of_the_reference(kernel):
    base = {3: IMAGENET32, 4: FOUR, 5: DCGANRecipe()}[kernel]
    game, x = build("dcgan", (1, 16, 16), replace(base, width=8, latent=10)), images(6, 1, 16, 16)
    generator, discriminator = {3: three, 4: four, 5: five}[kernel](8)
    for mine, theirs in ((game.generator, generator), (game.discriminator, discriminator)):
        theirs.load_state_dict(dict(zip(theirs.state_dict(), mine.state_dict().values(), strict=True)))
    decay = 1e-5 if kernel == 5 else 0.0
    d_adam = torch.optim.Adam(discriminator.parameters(), 2e-4, (0.5, 0.999), weight_decay=decay)
    g_adam = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999), weight_decay=decay)
    bce = nn.BCEWithLogitsLoss()

    def latent():
        z = torch.empty(6, 10, 1, 1)
        return z.normal_() if kernel == 4 else z.uniform_(-1, 1)

    for step in range(2):
        with randomness(step):
            y = generator(latent())
            d_adam.zero_grad()
            bce(discriminator(x).flatten(), torch.ones(6)).backward()
            bce(discriminator(y.detach()).flatten(), torch.zeros(6)).backward()
            d_adam.step()
            if kernel != 4:
                y = generator(latent())
            g_adam.zero_grad()
            bce(discriminator(y).flatten(), torch.ones(6)).backward()
            g_adam.step()
    play(game, x, 2)
    assert_equal(game.discriminator, discriminator)
    assert_equal(game.generator, generator)
