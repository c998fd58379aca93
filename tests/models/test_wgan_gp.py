"""WGAN-GP, 2017: published counts, ladders and first weights, the distance itself, and rounds written out plainly."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from played import assert_equal, build, count, engine, images, ladder, randomness
from torch import nn

from sparring.errors import UserError
from sparring.models import find
from sparring.models.wgan_gp import (
    CIFAR10_CONDITIONAL,
    CIFAR10_CONV,
    CIFAR10_RESNET,
    MNIST,
    TOY,
    WGANGP,
    WGANGPRecipe,
)  # fmt: skip
from sparring.nets.dcgan import Crop
from sparring.nets.residual import ConditionalBatchNorm, ResidualBlock
from sparring.protocol import Batch, Spec

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Unflatten, Crop)
BLOCKS = (ResidualBlock, nn.Linear, nn.Tanh)
SMALL = {"batch": 6, "width": 8, "latent": 10, "critic_steps": 2}
CLASSES = ("a", "b", "c")


def by_class(recipe=CIFAR10_CONDITIONAL, side=16, **changes):
    recipe = replace(recipe, **{**SMALL, **changes})
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return find("wgan_gp").game(Spec((3, side, side), 1000, CLASSES), recipe)


@pytest.mark.parametrize(
    ("shape", "recipe", "generator", "critic"),
    [
        ((1, 28, 28), MNIST, 1_554_177, 1_030_145),
        ((3, 32, 32), CIFAR10_CONV, 5_179_907, 4_114_689),
        ((3, 32, 32), CIFAR10_RESNET, 1_204_483, 1_053_825),
        ((2,), TOY, 527_874, 527_361),
    ],
)
def test_published_parameter_counts(shape, recipe, generator, critic):
    game = build("wgan_gp", shape, recipe)
    assert (count(game.generator), count(game.critic)) == (generator, critic)


def test_what_conditions_cost():
    """Nine more gains and biases in each of six batch norms, and a head of ten outputs."""
    game = find("wgan_gp").game(Spec((3, 32, 32), 1000, tuple("0123456789")), CIFAR10_CONDITIONAL)
    assert count(game.generator) == 1_204_483 + 6 * 9 * 2 * 128
    assert count(game.critic) == 1_053_825 + 129 * 10


def test_ladder_of_mnist():
    game = build("wgan_gp", (1, 28, 28), MNIST)
    up = ladder(game.generator, LAYERS, game.latent(1))
    assert up == [(4096,), (256, 4, 4), (128, 8, 8), (128, 7, 7), (64, 14, 14), (1, 28, 28)]
    down = ladder(game.critic, LAYERS, images(1, 1, 28, 28))
    assert down == [(64, 14, 14), (128, 7, 7), (256, 4, 4), (1,)]
    assert isinstance(game.generator[-1], nn.Sigmoid)
    assert not any(isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)) for layer in game.modules())


def test_ladder_of_cifar10():
    game = build("wgan_gp", (3, 32, 32), CIFAR10_CONV)
    up = ladder(game.generator, LAYERS, game.latent(1))
    assert up == [(8192,), (512, 4, 4), (256, 8, 8), (128, 16, 16), (3, 32, 32)]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in game.critic.modules()), "the penalty is an example's"


def test_ladder_of_the_residual_networks():
    game = build("wgan_gp", (3, 32, 32), CIFAR10_RESNET)
    assert ladder(game.generator, BLOCKS, game.latent(1)) == [
        (2048,), (128, 8, 8), (128, 16, 16), (128, 32, 32), (3, 32, 32),
    ]  # fmt: skip
    assert ladder(game.critic, BLOCKS, images(1, 3, 32, 32)) == [(128, 16, 16), *[(128, 8, 8)] * 3, (1,)]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in game.critic.modules())


@pytest.mark.parametrize("side", [16, 28, 45, 48, 64])
@pytest.mark.parametrize("recipe", [WGANGPRecipe(), MNIST, CIFAR10_RESNET, TOY])
def test_every_size(side, recipe):
    game_class = find("wgan_gp").game
    if recipe is CIFAR10_RESNET:
        side = game_class.fit_side(side, recipe)
    game = build("wgan_gp", (3, side, side), replace(recipe, width=4, hidden=(8,))).eval()
    with torch.no_grad():
        y = game.generate(2)
        assert y.shape == (2, 3, side, side)
        assert y.abs().max() <= 1
        assert game.critic(game.seen(y)).shape == (2,)
        assert torch.equal(game.generate(2, z := game.latent(2)), game.generate(2, z))


def test_fit_side():
    sides = (8, 28, 33, 200, 900)
    assert [WGANGP.fit_side(side, WGANGPRecipe()) for side in sides] == [16, 28, 33, 200, 256]
    assert [WGANGP.fit_side(side, CIFAR10_RESNET) for side in sides] == [16, 32, 64, 256, 256]


@pytest.mark.parametrize(
    ("shape", "recipe", "sentence"),
    [
        ((3, 12, 12), WGANGPRecipe(), "square images of 16 to 256 pixels, not on 12x12"),
        ((3, 32, 64), WGANGPRecipe(), "not on 32x64"),
        ((3, 48, 48), CIFAR10_RESNET, "architecture=residual works on square images whose side is a power of two"),
        ((3, 32, 32), CIFAR10_CONDITIONAL, "learns from labels, and these data have none"),
        ((3, 32, 32), replace(CIFAR10_CONV, conditional=True), "set architecture=residual"),
        ((5,), CIFAR10_CONDITIONAL, "residual networks only"),
    ],
)
def test_what_is_refused(shape, recipe, sentence):
    with pytest.raises(UserError, match=sentence):
        build("wgan_gp", shape, recipe)


def spread(weight):
    assert weight.abs().max() <= math.sqrt(3) * weight.std() * 1.05, "uniform, not normal"
    return weight.detach().std().item()


def test_first_weights_of_the_convolutional_networks():
    game = build("wgan_gp", (1, 28, 28), MNIST)
    first, second, critic = game.generator[1], game.generator[4], game.critic.features[2]
    assert spread(first.weight) == pytest.approx(math.sqrt(2 / (128 + 4096)), rel=0.02)
    assert isinstance(second, nn.ConvTranspose2d)
    assert spread(second.weight) == pytest.approx(math.sqrt(4 / (256 * 25 / 4 + 128 * 25)), rel=0.02)
    assert isinstance(critic, nn.Conv2d)
    assert spread(critic.weight) == pytest.approx(math.sqrt(4 / (64 * 25 + 128 * 25 / 4)), rel=0.02)
    assert not any(p.any() for name, p in game.named_parameters() if name.endswith("bias"))


def test_first_weights_of_the_residual_networks():
    game = build("wgan_gp", (3, 32, 32), CIFAR10_RESNET)
    block = game.critic.blocks[1]
    assert spread(block.conv1.weight) == pytest.approx(math.sqrt(4 / (9 * 256)), rel=0.02)
    assert spread(block.shortcut.weight) == pytest.approx(math.sqrt(2 / 256), rel=0.02)
    assert spread(game.generator.output[0].weight) == pytest.approx(math.sqrt(2 / (9 * 131)), rel=0.03)


def test_first_weights_of_the_toys():
    game = build("wgan_gp", (2,), TOY)
    assert spread(game.generator[2].weight) == pytest.approx(math.sqrt(2 / 512), rel=0.02)
    assert spread(game.generator[6].weight) == pytest.approx(math.sqrt(2 / 514), rel=0.05)


@pytest.mark.parametrize("resample", ["up", "down", ""])
@pytest.mark.parametrize("first", [False, True])
def test_a_residual_block_is_that_of_the_authors(resample, first):
    """They resample before or after the shortcut's convolution where we do it the other way round: it is the same."""
    torch.manual_seed(0)
    block = ResidualBlock(3, 5, resample, nn.BatchNorm2d if not first else None, first=first)
    nn.init.normal_(block.shortcut.bias)
    x = images(4, 3, 8, 8)

    def conv(layer, x):
        if resample == "up":
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        y = F.conv2d(x, layer.weight, layer.bias, padding=layer.padding)
        if resample == "down":
            y = (y[:, :, ::2, ::2] + y[:, :, 1::2, ::2] + y[:, :, ::2, 1::2] + y[:, :, 1::2, 1::2]) / 4
        return y

    y = x if first else F.relu(block.norm1(x))
    y = block.conv1(y) if resample == "down" else conv(block.conv1, y)
    y = F.relu(block.norm2(y))
    y = conv(block.conv2, y) if resample == "down" else block.conv2(y)
    torch.testing.assert_close(block(x), conv(block.shortcut, x) + y, atol=1e-5, rtol=1e-5)


def test_a_block_that_changes_nothing_has_no_shortcut_of_its_own():
    assert isinstance(ResidualBlock(4, 4).shortcut, nn.Identity)
    assert isinstance(ResidualBlock(4, 4, "up").shortcut, nn.Conv2d)


def test_conditional_batch_norm():
    norm, plain = ConditionalBatchNorm(3, 4), nn.BatchNorm2d(3, affine=False)
    x, label = images(8, 3, 5, 5), torch.arange(8) % 4
    torch.testing.assert_close(norm(x, label), plain(x))
    with torch.no_grad():
        norm.gain.copy_(torch.arange(12.0).view(4, 3))
        norm.bias.copy_(-torch.arange(12.0).view(4, 3))
    y = norm(x, label)
    for k in range(8):
        gain = (3 * (k % 4) + torch.arange(3.0)).view(3, 1, 1)
        torch.testing.assert_close(y[k], gain * plain(x)[k] - gain)


def test_grey_levels_and_their_noise():
    game = by_class()
    level = torch.arange(256.0).view(1, 1, 16, 16).expand(64, 3, 16, 16)
    x = game.seen(level / 127.5 - 1)
    lowest = level / 128 - 1
    assert (x >= lowest - 1e-6).all()
    assert (x <= lowest + 1 / 128 + 1e-6).all()
    assert (x - lowest).mean().item() == pytest.approx(1 / 256, rel=0.02)
    game.eval()
    torch.testing.assert_close(game.seen(level / 127.5 - 1), lowest + 1 / 256)


def test_made_grey_levels_are_those_of_the_authors_code():
    """It truncates (y + 1) 255.99 / 2: a level is made by whatever lies between it and the next one."""
    game = by_class()
    y = torch.rand(2, 3, 16, 16) * 2 - 1
    game.make = lambda z, label: y
    levels = ((game.generate(2) + 1) * 127.5).round().clamp(0, 255)
    inside = ((y + 1) * 128 % 1 - 0.5).abs() < 0.49
    assert torch.equal(levels[inside], ((y + 1) * 255.99 / 2).floor()[inside])


def test_ranges_inside_and_outside():
    mnist, x = build("wgan_gp", (1, 16, 16), replace(MNIST, width=4)), images(4, 1, 16, 16)
    torch.testing.assert_close(mnist.seen(x), (x + 1) / 2)
    made, z = mnist.make(mnist.latent(4), None), mnist.latent(4)
    assert 0 <= made.min() < made.max() <= 1
    torch.testing.assert_close(mnist.generate(4, z), mnist.make(z, None) * 2 - 1)

    toy = build("wgan_gp", (2,), replace(TOY, hidden=(8,)))
    features = torch.randn(100, 2) * torch.tensor([1.0, 50.0]) + torch.tensor([0.0, 300.0])
    toy.prepare(features)
    inside = toy.seen(features)
    torch.testing.assert_close(inside.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(inside.std(0, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    z = toy.latent(5)
    torch.testing.assert_close(toy.seen(toy.generate(5, z)), toy.make(z, None), atol=1e-4, rtol=1e-4)


def test_the_rate_falls_to_zero_where_published():
    (phase,) = by_class(rounds=100).phases()
    assert [phase.rate(step) for step in (0, 50, 99)] == pytest.approx([1, 0.5, 0.01])
    (phase,) = build("wgan_gp", (2,), TOY).phases()
    assert (phase.rounds, phase.rate(0), phase.rate(99_999)) == (100_000, 1, 1)


@pytest.mark.parametrize(
    ("recipe", "batch", "rate", "betas", "penalty", "rounds"),
    [
        (WGANGPRecipe(), 64, 1e-4, (0.0, 0.9), 10, None), (MNIST, 50, 1e-4, (0.5, 0.9), 10, 200_000),
        (CIFAR10_CONV, 64, 1e-4, (0.5, 0.9), 10, 200_000), (CIFAR10_RESNET, 64, 2e-4, (0.0, 0.9), 10, 100_000),
        (CIFAR10_CONDITIONAL, 64, 2e-4, (0.0, 0.9), 10, 100_000), (TOY, 256, 1e-4, (0.5, 0.9), 0.1, 100_000),
    ],
)  # fmt: skip
def test_published_settings(recipe, batch, rate, betas, penalty, rounds):
    assert (recipe.batch, recipe.rate, (recipe.beta1, recipe.beta2)) == (batch, rate, betas)
    assert (recipe.penalty, recipe.rounds, recipe.critic_steps) == (penalty, rounds, 5)
    assert (recipe.class_critic, recipe.class_generator) == (1.0, 0.1)
    assert (recipe.generator_batches, recipe.decay) == ((2, True) if recipe.rate == 2e-4 else (1, False))


def test_the_penalty_of_a_linear_critic():
    """Section 16.4: (|(3, 4)| - 1)^2 = 16, and the weight is 10."""
    game = build("wgan_gp", (2,), WGANGPRecipe(hidden=(4,), batch=6))
    game.critic = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    with torch.no_grad():
        game.critic[0].weight.copy_(torch.tensor([[3.0, 4.0]]))
    update = next(game.round(lambda: Batch(images(6, 2)), 0))
    assert update.terms["penalty"].item() == pytest.approx(160, rel=1e-5)


def test_labels_that_there_are_not():
    with pytest.raises(UserError, match="Labels are class numbers from 0 to 2; got some from 0 to 3"):
        by_class().generate(2, label=torch.tensor([0, 3]))


def test_epochs_are_of_the_critic():
    game = build("wgan_gp", (2,), WGANGPRecipe(epochs=10, batch=100), count=1000)
    assert (game.draws, game.rounds) == (5, 20)


class Labelled:
    """Always the same minibatch, with its labels."""

    def __init__(self, x, label):
        self.batch, self.position, self.waited = Batch(x, label), 0, 0.0

    def __call__(self):
        self.position += 1
        return self.batch


def plain_rounds(game, x, label=None):
    """Two rounds of the authors' loop on copies of the networks: critic, critic, generator, twice."""
    r, g, c = game.recipe, copy.deepcopy(game.generator), copy.deepcopy(game.critic)
    g_adam = torch.optim.Adam(g.parameters(), r.rate, (r.beta1, r.beta2))
    c_adam = torch.optim.Adam(c.parameters(), r.rate, (r.beta1, r.beta2))

    def make(n, label):
        z = torch.randn(n, r.latent)
        return g(z) if label is None else g(z, label)

    def xent(x, label):
        return F.cross_entropy(c.classes(F.relu(c.blocks(x)).mean((2, 3))), label) if label is not None else 0.0

    for step in range(2):
        with randomness(step):
            for adam in (g_adam, c_adam):
                adam.param_groups[0]["lr"] = r.rate * (1 - step / 2 if r.decay else 1)
            for _ in range(r.critic_steps):
                real = x
                if r.dequantise:
                    real = ((x + 1) * 127.5 / 256 - 0.5) * 2 + torch.rand(x.shape) / 128
                if r.output == "sigmoid":
                    real = (real + 1) / 2
                fake = make(len(x), label).detach()
                alpha = torch.rand(len(x)).view(-1, *[1] * (x.ndim - 1))
                between = (fake + alpha * (real - fake)).requires_grad_()
                (slope,) = torch.autograd.grad(c(between).sum(), between, create_graph=True)
                penalty = ((slope.square().flatten(1).sum(1).sqrt() - 1) ** 2).mean()
                c_adam.zero_grad()
                loss = c(fake).mean() - c(real).mean() + r.penalty * penalty + r.class_critic * xent(real, label)
                loss.backward()
                c_adam.step()
            n = len(x) * r.generator_batches
            drawn = None if label is None else torch.randint(3, (n,))
            fake = make(n, drawn)
            g_adam.zero_grad()
            (-c(fake).mean() + r.class_generator * xent(fake, drawn)).backward()
            g_adam.step()
    return g, c


# A bias before batch norm has a gradient of 0 but for rounding, by whose sign Adam moves it; it changes nothing.
IDLE = {
    "default": r"[15]\.bias",
    "residual": r"blocks\.\d\.(conv1|conv2|shortcut)\.bias",
}


def assert_same(found, expected, idle=None):
    """Compare parameters in order, to 1e-6, but for idle biases."""
    kept = [
        nn.ParameterList(p for name, p in network.named_parameters() if not (idle and re.fullmatch(idle, name)))
        for network in (found, expected)
    ]
    assert_equal(*kept)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("default", WGANGPRecipe()), ("mnist", MNIST), ("residual", CIFAR10_RESNET), ("toy", TOY)],
)
def test_two_rounds_are_those_of_the_reference(name, recipe):
    recipe = replace(recipe, **SMALL, hidden=(16, 16), rounds=2)
    x = images(6, 2) if recipe.architecture == "mlp" else images(6, 1, 16, 16)
    game = build("wgan_gp", tuple(x.shape[1:]), recipe)
    generator, critic = plain_rounds(game, x)
    engine(game, x, 2).play()
    assert_equal(game.critic, critic)
    assert_same(game.generator, generator, IDLE.get(name))


def test_two_rounds_by_class_are_those_of_the_reference():
    """The critic learns classes from real images alone, by weight 1; the generator from its own, by 0.1."""
    game, x, label = by_class(rounds=2), images(6, 3, 16, 16), torch.tensor([0, 1, 2, 2, 1, 0])
    generator, critic = plain_rounds(game, x, label)
    played = engine(game, x, 2)
    played.draw = Labelled(x, label)
    played.play()
    assert_equal(game.critic, critic)
    assert_same(game.generator, generator, IDLE["residual"])
    assert game.conditional
    assert not build("wgan_gp", (3, 16, 16), replace(CIFAR10_RESNET, **SMALL)).conditional


@pytest.mark.parametrize(("mean", "deviation", "distance"), [(1.0, 2.0, 1.166631), (0.0, 2.0, 0.797885)])
def test_the_critic_finds_the_distance_of_two_gaussians(mean, deviation, distance):
    """Section 16.7: W1 of N(0, 1) and N(mean, deviation^2)."""
    recipe = replace(TOY, batch=256, rounds=400, hidden=(64, 64), penalty=20.0, rate=4e-3, decay=True, latent=1)
    game = build("wgan_gp", (1,), recipe)
    game.make = lambda z, label: mean + deviation * z
    adam, (phase,) = game.players()["critic"], game.phases()
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        for step in range(phase.rounds):
            adam.param_groups[0]["lr"] = recipe.rate * phase.rate(step)
            next(game.round(lambda: Batch(torch.randn(256, 1)), step)).loss.backward()
            adam.step()
            adam.zero_grad()
        x, y = torch.randn(200_000, 1), game.make(torch.randn(200_000, 1), None)
        with torch.no_grad():
            estimate = (game.critic(x).mean() - game.critic(y).mean()).item()
    assert estimate == pytest.approx(distance, rel=0.05)
