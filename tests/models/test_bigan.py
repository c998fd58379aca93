"""BiGAN and ALI, 2016: counts and ladders, both label-flipped terms, the order of updates, and that E inverts G."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from played import build, count, images, ladder, play, randomness
from torch import nn

from sparring.errors import UserError
from sparring.models.bigan import ALI_CIFAR10, ALI_SVHN, BiGANRecipe, Largest, judging
from sparring.protocol import Batch
from sparring.testing.rig import low_rank

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
TINY = BiGANRecipe(hidden=12, latent=5)
TINY_ALI = replace(ALI_CIFAR10, width=4, latent=6)


def numbers(n, width=20):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(3))


def test_parameter_counts_of_the_dense_networks():
    """The authors' MNIST networks: no biases, no gains; z enters the second hidden layers by a map of its own."""
    game = build("bigan", (1, 28, 28))
    assert count(game.encoder) == 784 * 1024 + 1024 * 1024 + 1024 * 50
    assert count(game.generator) == 50 * 1024 + 1024 * 1024 + 50 * 1024 + 1024 * 784
    assert count(game.discriminator) == 784 * 1024 + 1024 * 1024 + 50 * 1024 + 1024


@pytest.mark.parametrize(("recipe", "encoder"), [(ALI_CIFAR10, 3_118_496), (ALI_SVHN, 3_118_496 + 513 * (512 - 128))])
def test_parameter_count_of_the_convolutional_encoder(recipe, encoder):
    assert count(build("bigan", (3, 32, 32), recipe).encoder) == encoder


def test_ladders_of_ali():
    game, x = build("bigan", (3, 32, 32), ALI_CIFAR10), images(1, 3, 32, 32)
    down = [(32, 28, 28), (64, 13, 13), (128, 10, 10), (256, 4, 4), (512, 1, 1)]
    assert ladder(game.encoder, CONVOLUTIONS, x) == [*down, (512, 1, 1), (128, 1, 1)]
    up = [(256, 4, 4), (128, 10, 10), (64, 13, 13), (32, 28, 28), (32, 32, 32), (32, 32, 32), (3, 32, 32)]
    assert ladder(game.generator, CONVOLUTIONS, game.latent(1)) == up
    assert ladder(game.discriminator.of_x, CONVOLUTIONS, x) == down
    halves = [(maps // 2, side, side) for maps, side, _ in down]
    assert ladder(game.discriminator.of_x, (Largest,), x) == halves


def test_rules_of_ali():
    cifar, svhn = (build("bigan", (3, 32, 32), recipe).discriminator for recipe in (ALI_CIFAR10, ALI_SVHN))
    drops = [layer.p for layer in cifar.modules() if isinstance(layer, nn.Dropout)]
    assert drops == [0.2, *[0.5] * 4, 0.2, 0.5, *[0.5] * 3]
    assert not any(isinstance(layer, (nn.BatchNorm2d, nn.LeakyReLU)) for layer in cifar.modules())
    norms = [layer.num_features for layer in svhn.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms == [64, 128, 256, 512], "all layers that look at x but the first"
    assert not any(isinstance(layer, Largest) for layer in svhn.modules())
    assert {layer.p for layer in svhn.modules() if isinstance(layer, nn.Dropout)} == {0.2}
    assert {layer.negative_slope for layer in svhn.modules() if isinstance(layer, nn.LeakyReLU)} == {0.01}


@pytest.mark.parametrize(("shape", "recipe"), [((1, 28, 28), BiGANRecipe()), ((3, 32, 32), ALI_CIFAR10)])
def test_first_weights(shape, recipe):
    game = build("bigan", shape, recipe)
    layers = [layer for layer in game.modules() if isinstance(layer, (*CONVOLUTIONS, nn.Linear))]
    large = [layer.weight.detach() for layer in layers if layer.weight.numel() > 20_000]
    assert len(large) >= 6
    for weight in large:
        assert float(weight.std()) == pytest.approx(recipe.spread, rel=0.05)
    assert all(not layer.bias.any() for layer in layers if layer.bias is not None)


def test_losses_where_the_discriminator_is_undecided():
    """Section 16.11: log 2, with which the authors' log begins; the dense D starts there exactly."""
    game = build("bigan", (1, 8, 8), TINY).train()
    for update in next(game.round(lambda: Batch(images(6, 1, 8, 8)), 0)):
        assert update.loss.item() == pytest.approx(math.log(2), abs=1e-6)
    real = torch.zeros(3)
    assert 2 * float(judging(real, real).loss) == pytest.approx(1.386294, abs=1e-6)


def test_both_terms_of_the_second_player_are_flipped():
    game = build("bigan", (1, 8, 8), TINY).train()
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([-2.0, 0.5])
    game.judged = lambda *pairs: (real, fake)
    discriminator, generator = next(game.round(lambda: Batch(images(2, 1, 8, 8)), 0))
    p, q = real.sigmoid(), fake.sigmoid()
    expected = {"real": -p.log().mean() / 2, "fake": -(1 - q).log().mean() / 2}
    for name, term in discriminator.terms.items():
        torch.testing.assert_close(term, expected[name])
    expected = {"encoded": -(1 - p).log().mean() / 2, "fooled": -q.log().mean() / 2}
    assert generator.terms.keys() == expected.keys()
    for name, term in generator.terms.items():
        torch.testing.assert_close(term, expected[name])


class Plain:
    """The dense networks as the authors' code has them, where z comes in by a matrix of its own."""

    def __init__(self, game):
        def split(weight):
            return weight.detach()[:, :12].clone(), weight.detach()[:, 12:].clone()

        first, second, last = (w.detach().clone() for w in game.encoder.parameters())
        self.e = [first, second, last]
        first, second, last = game.generator.parameters()
        self.g = [first.detach().clone(), *split(second), last.detach().clone()]
        first, second, last = game.discriminator.parameters()
        self.d = [first.detach().clone(), *split(second), last.detach().clone()]
        for weight in (*self.e, *self.g, *self.d):
            weight.requires_grad_()

    @staticmethod
    def norm(h):
        return (h - h.mean(0)) / (h.var(0, correction=0) + 1e-8).sqrt()

    def encoder(self, x):
        h = F.leaky_relu(x @ self.e[0].T, 0.2)
        h = F.leaky_relu(self.norm(h @ self.e[1].T), 0.2)
        return 2 * torch.sigmoid(h @ self.e[2].T) - 1

    def generator(self, z):
        h = torch.relu(self.norm(z @ self.g[0].T))
        h = torch.relu(self.norm(h @ self.g[1].T + z @ self.g[2].T))
        return torch.sigmoid(h @ self.g[3].T)

    def discriminator(self, x, z):
        h = F.leaky_relu(x @ self.d[0].T, 0.2)
        h = F.leaky_relu(self.norm(h @ self.d[1].T + z @ self.d[2].T), 0.2)
        return (h @ self.d[3].T).sigmoid()[:, 0]


@pytest.mark.parametrize("simultaneous", [True, False])
def test_three_rounds_are_those_of_the_reference(simultaneous):
    game, x = build("bigan", (1, 8, 8), replace(TINY, simultaneous=simultaneous)), images(6, 1, 8, 8)
    flat, plain, bce = (x.flatten(1) + 1) / 2, Plain(game), nn.BCELoss()
    d_adam = torch.optim.Adam(plain.d, 2e-4, (0.5, 0.999), weight_decay=2.5e-5)
    eg_adam = torch.optim.Adam([*plain.e, *plain.g], 2e-4, (0.5, 0.999), weight_decay=2.5e-5)
    one, zero = torch.ones(6), torch.zeros(6)

    def losses():
        real, fake = plain.discriminator(flat, plain.encoder(flat)), plain.discriminator(plain.generator(z), z)
        return (bce(real, one) + bce(fake, zero)) / 2, (bce(real, zero) + bce(fake, one)) / 2

    for step in range(3):
        with randomness(step):
            z = torch.empty(6, 5).uniform_(-1, 1)
        of_d = torch.autograd.grad(losses()[0], plain.d)
        if not simultaneous:
            for weight, gradient in zip(plain.d, of_d, strict=True):
                weight.grad = gradient
            d_adam.step()
        of_eg = torch.autograd.grad(losses()[1], [*plain.e, *plain.g])
        for weight, gradient in zip([*plain.d, *plain.e, *plain.g], [*of_d, *of_eg], strict=True):
            weight.grad = gradient
        for adam in (d_adam, eg_adam) if simultaneous else (eg_adam,):
            adam.step()
    play(game, x, 3)
    for found, (first, second, by_z, last) in ((game.generator, plain.g), (game.discriminator, plain.d)):
        for mine, theirs in zip(found.parameters(), (first, torch.cat([second, by_z], 1), last), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)
    for mine, theirs in zip(game.encoder.parameters(), plain.e, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


def rows(module):
    """All parameters, one after the other."""
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def conv_reference(game, x, rounds):
    """ALI's algorithm on copies of the networks: pairs of both kinds in one batch, one graph; half of its losses."""
    other = copy.deepcopy(game).train()
    players = [list(other.discriminator.parameters()), [*other.encoder.parameters(), *other.generator.parameters()]]
    adams = [torch.optim.Adam(parameters, 1e-4, (0.5, 0.999)) for parameters in players]
    for step in range(rounds):
        with randomness(step):
            z = torch.randn(len(x), 6, 1, 1)
            mu, log_sigma = other.encoder((x + 1) / 2).split(6, 1)
            code = mu + torch.exp(log_sigma) * torch.randn(mu.shape)
            pairs = torch.cat([(x + 1) / 2, other.generator(z)]), torch.cat([code, z])
            logit = other.discriminator(*pairs)
        real, fake = logit[: len(x)], logit[len(x) :]
        losses = (
            (F.softplus(-real) + F.softplus(fake)).mean() / 2,
            (F.softplus(real) + F.softplus(-fake)).mean() / 2,
        )
        gradients = [torch.autograd.grad(loss, p, retain_graph=True) for loss, p in zip(losses, players, strict=True)]
        for adam, parameters, found in zip(adams, players, gradients, strict=True):
            for parameter, gradient in zip(parameters, found, strict=True):
                parameter.grad = gradient
            adam.step()
    return other


@pytest.mark.parametrize("recipe", [TINY_ALI, replace(ALI_SVHN, width=4, latent=6)])
def test_two_rounds_of_ali_are_those_of_the_reference(recipe):
    game, x = build("bigan", (1, 32, 32), recipe), images(5, 1, 32, 32)
    first, other = rows(game), conv_reference(game, x, 2)
    play(game, x, 2)
    assert (rows(game) - rows(other)).norm() < 1e-2 * (rows(other) - first).norm()  # of two steps of Adam


def test_a_stochastic_encoder_draws_by_reparameterisation():
    game = build("bigan", (1, 32, 32), TINY_ALI).eval()
    mean, log_sigma = torch.linspace(-2, 2, 6).view(1, 6, 1, 1), torch.linspace(-1, 0.5, 6).view(1, 6, 1, 1)
    game.encoder = nn.Module()
    game.encoder.forward = lambda x: torch.cat([mean, log_sigma], 1).expand(len(x), -1, -1, -1)
    drawn = game.inferred(torch.zeros(20_000, 1, 32, 32), draw=True)
    torch.testing.assert_close(drawn.mean(0), mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.std(0), log_sigma[0].exp(), atol=0.05, rtol=0)
    torch.testing.assert_close(game.encode(torch.zeros(2, 1, 32, 32)), mean.expand(2, -1, -1, -1))


@pytest.mark.parametrize(("shape", "recipe"), [((1, 8, 8), TINY), ((20,), TINY), ((3, 32, 32), TINY_ALI)])
def test_codes_have_the_shape_of_the_prior(shape, recipe):
    game = play(build("bigan", shape, recipe), torch.rand(6, *shape) * 2 - 1).eval()
    with torch.no_grad():
        z, x = game.latent(4), torch.rand(4, *shape) * 2 - 1
        code = game.encode(x)
        assert code.shape == z.shape
        assert code.dtype == torch.float32
        torch.testing.assert_close(game.encode(x[1:2]), code[1:2], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(game.reconstruct(x), game.generate(4, code))
        assert game.generate(4, z).shape == x.shape


def test_prior_and_range_of_the_codes():
    game = build("bigan", (1, 8, 8), TINY)
    z = game.latent(1000)
    assert 0.99 < float(z.abs().max()) <= 1
    assert float(game.encode(100 * images(9, 1, 8, 8)).detach().abs().max()) <= 1
    assert float(build("bigan", (1, 32, 32), TINY_ALI).latent(1000).std()) == pytest.approx(1, abs=0.05)


def test_rate_is_constant_and_then_falls_to_a_hundredth():
    game = build("bigan", (1, 8, 8), replace(TINY, rounds=400))
    (phase,) = game.phases()
    assert [phase.rate(step) for step in (0, 100, 200)] == [1, 1, 1]
    assert phase.rate(300) == pytest.approx(0.1)
    assert phase.rate(400) == pytest.approx(0.01)
    (phase,) = build("bigan", (1, 32, 32), replace(TINY_ALI, rounds=400)).phases()
    assert phase.rate(399) == 1


def test_output_of_ali_starts_at_the_mean_of_the_data():
    game, x = build("bigan", (1, 32, 32), TINY_ALI).eval(), images(200, 1, 32, 32) * 0.9
    game.prepare(x)
    with torch.no_grad():
        made = game.generate(1)[0]
        assert float((made - x.mean(0)).abs().mean()) < 0.02
        x[:, :, 0, 0] = -1  # a pixel that is always black
        game.prepare(x)
        assert float(game.generate(1)[0, 0, 0, 0]) == pytest.approx(-1, abs=1e-4)


def test_features_come_back_in_their_own_scale():
    scale, shift = torch.linspace(0.1, 50, 20), torch.linspace(-100, 100, 20)
    game, x = build("bigan", (20,), TINY), numbers(2000) * scale + shift
    game.prepare(x)
    torch.testing.assert_close(game.seen(x).std(0), torch.ones(20), atol=0.01, rtol=0)
    torch.testing.assert_close(game.shown(game.seen(x)), x, atol=1e-3, rtol=1e-4)
    assert game.generate(3).shape == (3, 20)


@pytest.mark.parametrize(
    ("shape", "recipe", "sentence"),
    [
        ((1, 28, 28), ALI_CIFAR10, "of 32x32 pixels, not of 28x28: add --size 32."),
        ((3, 64, 64), ALI_SVHN, "not of 64x64"),
        ((20,), ALI_CIFAR10, "not on vectors of 20 numbers: use the default variant"),
        ((1, 32, 32), replace(ALI_CIFAR10, width=9), "must be a multiple of its 'pieces'; got 9 and 2"),
    ],
)
def test_what_is_refused(shape, recipe, sentence):
    with pytest.raises(UserError, match=sentence):
        build("bigan", shape, recipe)


def test_sides():
    game = type(build("bigan", (1, 8, 8), TINY))
    assert [game.fit_side(28, recipe) for recipe in (TINY, ALI_CIFAR10, ALI_SVHN)] == [28, 32, 32]


def apart(seed):
    """How far what is rebuilt lies from its original, over how far from others, after a short training."""
    torch.manual_seed(seed)
    game = build("bigan", (1, 8, 8), replace(TINY, hidden=64, latent=8, rate=1e-3))
    play(game, low_rank(game.spec, 64, torch.Generator().manual_seed(1)), 400)
    x = low_rank(game.spec, 256, torch.Generator().manual_seed(2))
    with torch.no_grad():
        y = game.eval().reconstruct(x)
    own, other = ((a - y).flatten(1).norm(dim=1).mean() for a in (x, x.roll(1, 0)))
    return float(own / other)


def test_the_encoder_comes_to_invert_the_generator():
    """At the optimum G(E(x)) = x: what is rebuilt comes near to its original. One short training is too chaotic."""
    assert sum(apart(seed) for seed in range(3)) / 3 < 0.85
