"""LSGAN, 2017: the optimal discriminator, its costs in closed form, and a step written out plainly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from played import assert_equal, build, images, play, randomness
from torch import nn

from sparring.errors import UserError
from sparring.models.lsgan import PEARSON, LSGANRecipe, squares
from sparring.nets.augment import cutout

TINY = LSGANRecipe(width=4, latent=6)


def densities():
    """N(0, 1) and N(2, 1) on a fine grid, and the width of its cells."""
    x = torch.linspace(-12, 14, 20001, dtype=torch.float64)
    p, q = ((-((x - m) ** 2) / 2).exp() / (2 * torch.pi) ** 0.5 for m in (0, 2))
    return p, q, float(x[1] - x[0])


def cost(score, p, q, width, recipe):
    """The discriminator's loss for this function of x."""
    real, fake = (score - recipe.real_label) ** 2 / 2, (score - recipe.fake_label) ** 2 / 2
    return float((p * real + q * fake).sum() * width)


@pytest.mark.parametrize("recipe", [TINY, PEARSON])
def test_the_optimal_discriminator(recipe):
    p, q, width = densities()
    best = (recipe.real_label * p + recipe.fake_label * q) / (p + q)
    least = cost(best, p, q, width, recipe)
    for other in (best + 0.01, best * 0.99, torch.full_like(best, 0.5)):
        assert cost(other, p, q, width, recipe) > least
    if recipe is TINY:
        assert least == pytest.approx(0.11239988, abs=1e-8)
        assert cost(best * 0 + 0.5, p, p, width, recipe) == pytest.approx(0.25)


def test_pearson_variant_descends_its_divergence():
    """With b - c = 1 and b - a = 2 twice the generator's loss, real part included, is chi^2(p + q || 2 q)."""
    r = PEARSON
    assert (r.real_label - r.fooled_label, r.real_label - r.fake_label) == (1, 2)
    p, q, width = densities()
    score = (r.real_label * p + r.fake_label * q) / (p + q)
    loss = float(((p + q) * (score - r.fooled_label) ** 2).sum() * width)
    divergence = float(((2 * q - (p + q)) ** 2 / (p + q)).sum() * width)
    assert loss == pytest.approx(divergence)


def test_squares_at_known_scores():
    score = torch.tensor([0.0, 0.5, 2.0])
    assert float(squares(score, 1.0)) == pytest.approx((1 + 0.25 + 1) / 6)
    assert float(squares(score, 0.0)) == pytest.approx((0 + 0.25 + 4) / 6)


def networks():
    """The networks of DCGAN as the authors have them, with batch norm, for 16 pixels."""
    generator = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 8 * 16), nn.BatchNorm1d(8 * 16), nn.ReLU(), nn.Unflatten(1, (8, 4, 4)),
        nn.ConvTranspose2d(8, 4, 5, 2, 2, 1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.ConvTranspose2d(4, 1, 5, 2, 2, 1), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(1, 4, 5, 2, 2), nn.LeakyReLU(0.2),
        nn.Conv2d(4, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(8 * 16, 1), nn.Flatten(0),
    )  # fmt: skip
    return generator, discriminator


def settle(mine, theirs):
    """Leave biases before batch norm out: their gradients are rounding errors, which Adam enlarges."""
    leaves = [[layer for layer in net.modules() if hasattr(layer, "weight")] for net in (mine, theirs)]
    for a, b, after in zip(*leaves, leaves[1][1:], strict=False):
        if isinstance(after, nn.modules.batchnorm._BatchNorm):
            b.bias.data.copy_(a.bias.data)


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("recipe", [TINY, replace(PEARSON, width=4, latent=6)])
def test_two_rounds_are_those_of_the_authors(recipe, augmented):
    recipe = replace(recipe, augment="cutout" if augmented else "")
    game, x = build("lsgan", (1, 16, 16), recipe), images(6, 1, 16, 16)
    generator, discriminator = networks()
    for mine, theirs in ((game.generator, generator), (game.discriminator, discriminator)):
        theirs.load_state_dict(dict(zip(theirs.state_dict(), mine.state_dict().values(), strict=True)))
    d_adam, g_adam = (torch.optim.Adam(n.parameters(), 2e-4, (0.5, 0.999)) for n in (discriminator, generator))
    a, b, c = recipe.fake_label, recipe.real_label, recipe.fooled_label

    def judge(images):
        return discriminator(cutout(images) if augmented else images)

    for step in range(2):
        with randomness(step):
            y = generator(torch.empty(6, 6, 1, 1).uniform_(-1, 1))
            d_adam.zero_grad()
            real, fake = judge(x), judge(y.detach())
            (0.5 * ((real - b) ** 2).mean() + 0.5 * ((fake - a) ** 2).mean()).backward()
            d_adam.step()
            g_adam.zero_grad()
            (0.5 * ((judge(y) - c) ** 2).mean()).backward()
            g_adam.step()
    play(game, x, 2)
    for mine, theirs in ((game.generator, generator), (game.discriminator, discriminator)):
        settle(mine, theirs)
        assert_equal(mine, theirs)


@pytest.mark.parametrize("side", [16, 64])
def test_every_size(side):
    game = build("lsgan", (3, side, side), replace(TINY, augment="color,translation")).eval()
    with torch.no_grad():
        y = game.generate(2)
        assert y.shape == (2, 3, side, side)
        assert game.discriminator(y).shape == (2,)
        assert torch.equal(game.discriminator(y), game.discriminator(y)), "nothing is augmented after the training"


@pytest.mark.parametrize("shape", [(3, 48, 48), (20,)])
def test_sizes_that_are_refused(shape):
    with pytest.raises(UserError, match="lsgan works on"):
        build("lsgan", shape)


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(UserError, match="There is no augmentation 'rotation'"):
        build("lsgan", (1, 16, 16), replace(TINY, augment="rotation"))
