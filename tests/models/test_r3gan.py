"""R3GAN, 2024: first weights, ladders of the presets, penalties, schedules, and rounds written out plainly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from played import assert_equal, build, count, engine, images, play, randomness
from torch import nn

from sparring.errors import UserError
from sparring.models.r3gan import Discriminator, R3GANRecipe, Resample, Residual, widths

TINY = R3GANRecipe(width=16, latent=6, hidden=(16, 16), rounds=10, ema=0.0)
GAIN = math.sqrt(2 / 1.04)


def test_networks_of_the_authors():
    """Counts follow from the layers in the authors' code: four stages of two blocks, 768 maps, 96 groups."""
    block = 2 * 768 * 1536 + 1536 * 16 * 9 + 2 * 1536
    with torch.device("meta"):
        game = build("r3gan", (3, 32, 32))
    assert count(game.generator) == 8 * block + 768 * 16 + 64 * 768 + 768 * 3 == 20_732_160
    assert count(game.discriminator) == 8 * block + 3 * 768 + 768 * 16 + 768 == 20_683_776
    grouped = [layer for layer in game.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)]
    assert {(layer.in_channels, layer.groups) for layer in grouped} == {(1536, 96)}


def test_ladder_of_the_authors():
    """FFHQ-256 of the authors' presets."""
    assert widths((3, 256, 256), 768) == [768, 768, 768, 768, 384, 192, 96]
    assert widths((3, 16, 16), 768) == [768, 768, 768]
    assert widths((3, 128, 128), 24) == [24, 24, 24, 24, 8, 8]
    with torch.device("meta"):
        groups = [layer.groups for layer in Discriminator((3, 256, 256), R3GANRecipe()).modules() if deep(layer)]
    assert groups == [n for n in (12, 24, 48, 96, 96, 96, 96) for _ in range(2)]


def deep(layer):
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)


def test_first_weights():
    """Normal of variance gain^2 / fan in; a block is the identity at first, and depth shrinks the others (Fixup)."""
    torch.manual_seed(0)
    first, _, middle, _, last = Residual(64, 8)
    for layer, fan in ((first, 64), (middle, 16 * 9)):
        assert float(layer.weight.detach().std()) == pytest.approx(GAIN * 8**-0.25 / math.sqrt(fan), rel=0.05)
        assert not layer.bias.any()
    assert not last.weight.any()
    assert last.bias is None
    x = torch.randn(2, 64, 4, 4)
    assert torch.equal(Residual(64, 8)(x), x)


def test_no_normalisation_at_all():
    game = build("r3gan", (1, 16, 16), TINY)
    names = {type(layer).__name__ for layer in game.modules()}
    assert not any("Norm" in name for name in names)
    assert not game.state_dict().keys() - {name for name, _ in game.named_parameters()}


def test_resampling_is_that_of_the_filter():
    x = torch.randn(2, 3, 6, 6)
    up, down = Resample(up=True)(x), Resample(up=False)(x)
    assert (up.shape, down.shape) == ((2, 3, 12, 12), (2, 3, 3, 3))
    inner = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(up[..., 1:-1, 1:-1], inner[..., 1:-1, 1:-1])
    tap = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    torch.testing.assert_close(down[0, 0, 1, 1], (torch.outer(tap, tap) * x[0, 0, 1:5, 1:5]).sum())
    y = torch.randn(2, 3, 12, 12)  # the one is the transpose of the other, but for the gain of 4
    torch.testing.assert_close((up * y).sum(), 4 * (x * Resample(up=False)(y)).sum(), rtol=1e-4, atol=1e-4)


def test_penalties_of_a_linear_discriminator():
    """R1 and R2 of w x + b are |w|^2 / 2, wherever the examples lie: w = (3, 4) gives 12.5 each."""
    game = build("r3gan", (2,), TINY)
    game.discriminator = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    with torch.no_grad():
        game.discriminator[0].weight.copy_(torch.tensor([[3.0, 4.0]]))
    x = torch.randn(7, 2)
    logit, penalty = game.judged(x)
    torch.testing.assert_close(logit, game.discriminator(x))
    assert float(penalty.detach()) == pytest.approx(12.5)


def test_a_constant_discriminator_costs_log_2():
    game = build("r3gan", (2,), TINY)
    with torch.no_grad():
        for parameter in game.discriminator.parameters():
            parameter.zero_()
    terms = next(game.round(engine(game, torch.randn(5, 2)).draw, 0)).terms
    assert float(terms["relativistic"].detach()) == pytest.approx(math.log(2))
    assert float(terms["r1"].detach()) == float(terms["r2"].detach()) == 0


def test_schedules():
    game = build("r3gan", (2,), replace(TINY, rounds=100))
    (phase,) = game.phases()
    adams = phase.players()
    draw = engine(game, torch.randn(5, 2)).draw
    assert phase.rate(0) == 1
    assert phase.rate(50) == pytest.approx((1 + 0.25) / 2)
    assert phase.rate(100) == pytest.approx(0.25)
    for step, beta2 in ((0, 0.9), (50, 0.945), (100, 0.99)):
        next(game.round(draw, step))
        assert all(adam.param_groups[0]["betas"] == pytest.approx((0, beta2)) for adam in adams.values())
    assert [game.at(step, 0.05, 0.005) for step in (0, 100)] == pytest.approx([0.05, 0.005])


class PlainBlock(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(w, 2 * w, 1),
                nn.Conv2d(2 * w, 2 * w, 3, 1, 1, groups=w // 8),
                nn.Conv2d(2 * w, w, 1, bias=False),
            ]
        )

    def forward(self, x):
        one, two, three = self.layers
        return x + three(F.leaky_relu(two(F.leaky_relu(one(x), 0.2)), 0.2))


class PlainGenerator(nn.Module):
    """16 pixels, 16 maps, one block at each of three scales."""

    def __init__(self):
        super().__init__()
        self.maps, self.linear = nn.Parameter(torch.empty(16, 4, 4)), nn.Linear(6, 16, bias=False)
        self.blocks = nn.ModuleList([PlainBlock(16) for _ in range(3)])
        self.last = nn.Conv2d(16, 1, 1, bias=False)

    def forward(self, z):
        y = self.blocks[0](self.maps[None] * self.linear(z)[:, :, None, None])
        y = self.blocks[1](Resample(up=True)(y))
        return self.last(self.blocks[2](Resample(up=True)(y)))


class PlainDiscriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 1, bias=False)
        self.blocks = nn.ModuleList([PlainBlock(16) for _ in range(3)])
        self.maps, self.linear = nn.Conv2d(16, 16, 4, groups=16, bias=False), nn.Linear(16, 1, bias=False)

    def forward(self, x):
        y = Resample(up=False)(self.blocks[0](self.first(x)))
        y = self.blocks[2](Resample(up=False)(self.blocks[1](y)))
        return self.linear(self.maps(y).flatten(1)).flatten()


def test_three_rounds_are_those_of_the_authors():
    """The authors take the penalties from the same pass as the loss; gamma / 2 times squared norms."""
    recipe = replace(TINY, blocks=1, gamma=0.7, gamma_end=0.2, rate=1e-3, rate_end=1e-4)
    game, x = build("r3gan", (1, 16, 16), recipe), images(4, 1, 16, 16)
    generator, discriminator = PlainGenerator(), PlainDiscriminator()
    for mine, theirs in ((game.generator, generator), (game.discriminator, discriminator)):
        with torch.no_grad():
            for a, b in zip(theirs.parameters(), mine.parameters(), strict=True):
                a.copy_(b.view_as(a))
    d_adam, g_adam = (torch.optim.Adam(n.parameters(), 1e-3, (0.0, 0.9)) for n in (discriminator, generator))
    for step in range(3):
        share = (1 + math.cos(math.pi * step / 10)) / 2
        gamma, rate, beta2 = (b + (a - b) * share for a, b in ((0.7, 0.2), (1e-3, 1e-4), (0.9, 0.99)))
        for adam in (d_adam, g_adam):
            adam.param_groups[0].update(lr=rate, betas=(0.0, beta2))
        with randomness(step):
            d_adam.zero_grad()
            real, fake = x.clone().requires_grad_(), generator(torch.randn(4, 6)).detach().requires_grad_()
            r, f = discriminator(real), discriminator(fake)
            (r1,) = torch.autograd.grad(r.sum(), real, create_graph=True)
            (r2,) = torch.autograd.grad(f.sum(), fake, create_graph=True)
            penalty = gamma / 2 * (r1.square().sum([1, 2, 3]) + r2.square().sum([1, 2, 3]))
            (F.softplus(-(r - f)) + penalty).mean().backward()
            d_adam.step()
            g_adam.zero_grad()
            F.softplus(-(discriminator(generator(torch.randn(4, 6))) - discriminator(x))).mean().backward()
            g_adam.step()
    play(game, x, 3)
    assert_equal(game.discriminator, discriminator)
    assert_equal(game.generator, generator)


def test_a_batch_in_parts_is_the_batch():
    """Nothing normalises over the batch, so that parts of 2, 2 and 1 examples give its gradients and its terms."""
    x = images(5, 1, 16, 16)
    whole, parts = (build("r3gan", (1, 16, 16), replace(TINY, part=part)) for part in (16, 2))
    parts.load_state_dict(whole.state_dict())
    for game in (whole, parts):
        play(game, x, 3)
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], weight, rtol=1e-4, atol=1e-5, msg=name)


def test_generated_images_are_clipped_and_vectors_are_not():
    game = build("r3gan", (1, 16, 16), TINY)
    with torch.no_grad():
        game.generator[-1].weight.mul_(100)
        y = game.generate(3)
    assert float(y.abs().max()) == 1
    game = build("r3gan", (2,), TINY)
    with torch.no_grad():
        game.generator[-1].bias.fill_(5.0)
        assert float(game.generate(3).min()) > 2


def test_a_round_draws_for_both_players():
    game = build("r3gan", (2,), replace(TINY, batch=10, rounds=None, epochs=4))
    assert game.rounds == 200
    one = engine(game, torch.randn(10, 2))
    one.play()
    assert one.draw.position == 2


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 64, 64), (1, 128, 128)])
def test_every_size(shape):
    game = build("r3gan", shape, replace(TINY, augment="translation,cutout")).eval()
    with torch.no_grad():
        y = game.generate(2)
        assert y.shape == (2, *shape)
        assert game.discriminator(y).shape == (2,)


def test_what_is_refused():
    with pytest.raises(UserError, match="r3gan works on square images"):
        build("r3gan", (3, 48, 48))
    with pytest.raises(UserError, match="must be a multiple of 8; got 20"):
        build("r3gan", (1, 16, 16), replace(TINY, width=20))
    with pytest.raises(UserError, match="not vectors of 2 numbers"):
        build("r3gan", (2,), replace(TINY, augment="cutout"))
