"""GAN, 2014: closed forms, published counts, and the order of the updates."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from played import build, count, engine, images, play, randomness
from scipy.stats import norm
from torch import nn

from sparring.losses import absolute_error, is_fake, is_real, squared_error
from sparring.models.gan import MLP, GANRecipe
from sparring.nets.dense import Maxout
from sparring.protocol import Batch

TINY = GANRecipe(hidden=(12, 12), units=(6, 6), latent=4)


def test_published_parameter_counts():
    paper = build("gan", (1, 28, 28))
    assert (count(paper.generator), count(paper.discriminator)) == (2_503_984, 1_231_441)
    tutorial = build("gan", (1, 28, 28), MLP)
    assert (count(tutorial.generator), count(tutorial.discriminator)) == (293_136, 267_009)


def test_losses_at_known_logits():
    zero = torch.zeros(3)
    assert float(is_real(zero)) == pytest.approx(math.log(2))
    assert float(is_fake(zero)) == pytest.approx(math.log(2))
    assert float(is_real(torch.tensor([2.0]))) == pytest.approx(math.log(1 + math.exp(-2)))
    assert float(is_fake(torch.tensor([2.0]))) == pytest.approx(math.log(1 + math.exp(2)))
    logits = torch.linspace(-5, 5, 11)
    assert float(is_real(logits)) == pytest.approx(float(F.binary_cross_entropy(logits.sigmoid(), torch.ones(11))))
    assert float(is_fake(logits)) == pytest.approx(float(F.binary_cross_entropy(logits.sigmoid(), torch.zeros(11))))
    assert float(squared_error(zero, zero + 2)) == 4
    assert float(absolute_error(zero, zero - 2)) == 2


def test_losses_stay_finite_and_in_float32():
    assert float(is_real(torch.tensor([-1e4]))) == 1e4
    assert float(is_fake(torch.tensor([1e4]))) == 1e4
    assert is_real(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32


def test_optimal_discriminator_of_two_gaussians():
    """Section 16.1: the logit of D* for N(1, 2^2) against N(-1, 2^2) is x / 2."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 100_000, generator=generator)
    real, fake = 1 + 2 * noise[0], -1 + 2 * noise[1]
    slope, bias = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([slope, bias], max_iter=50)

    def loss():
        optimizer.zero_grad()
        value = is_real(slope * real + bias) + is_fake(slope * fake + bias)
        value.backward()
        return value

    optimizer.step(loss)
    assert slope.item() == pytest.approx(0.5, rel=0.03)
    assert bias.item() == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize(
    ("mean", "deviation", "jsd", "value"),
    [
        (0, 1, 0.0, -1.38629436), (1, 1, 0.11142148, -1.16345140), (2, 1, 0.33683082, -0.71263272),
        (4, 1, 0.63272019, -0.12085397), (0, 2, 0.09273338, -1.20082760), (40, 1, math.log(2), 0.0),
    ],
)  # fmt: skip
def test_value_at_the_optimum(mean, deviation, jsd, value):
    """Section 16.2: V(D*, G) = -log 4 + 2 JSD, for N(0, 1) against N(mean, deviation^2)."""
    p, q = norm(0, 1), norm(mean, deviation)
    grid = (torch.arange(50_000, dtype=torch.float64) + 0.5) / 50_000  # equally likely values, in place of a sample
    real, fake = (torch.from_numpy(law.ppf(grid.numpy())) for law in (p, q))
    real_logit, fake_logit = (torch.from_numpy(p.logpdf(x.numpy()) - q.logpdf(x.numpy())) for x in (real, fake))
    found = -float(is_real(real_logit) + is_fake(fake_logit))
    assert found == pytest.approx(value, abs=1e-4)
    assert found == pytest.approx(-math.log(4) + 2 * jsd, abs=1e-4)


@pytest.mark.parametrize("d", [-20.0, -2.0, 0.0, 3.0])
@pytest.mark.parametrize("saturating", [True, False])
def test_the_generators_gradient(d, saturating):
    """Section 1.5: -sigmoid(d) vanishes where D wins, -(1 - sigmoid(d)) does not."""
    game = build("gan", (3,), GANRecipe(saturating=saturating, hidden=(4,), units=(4,), latent=2))
    logit = torch.tensor([d], requires_grad=True)
    game.discriminator = nn.Module()
    game.discriminator.forward = lambda x: logit
    game.fooling(torch.zeros(1, 3)).loss.backward()
    share = 1 / (1 + math.exp(-d))
    assert logit.grad.item() == pytest.approx(-share if saturating else share - 1, rel=1e-5)


def plain_discriminator(weights, x, drop=True):
    """The paper's discriminator, written out: dropout, maxout, dropout, maxout, dropout, linear."""
    w1, b1, w2, b2, w3, b3 = weights
    x = F.dropout(x, 0.2, drop)
    x = F.linear(x, w1, b1).view(len(x), -1, 5).max(2).values
    x = F.dropout(x, 0.5, drop)
    x = F.linear(x, w2, b2).view(len(x), -1, 5).max(2).values
    x = F.dropout(x, 0.5, drop)
    return F.linear(x, w3, b3)[:, 0]


def plain_generator(weights, n):
    w1, b1, w2, b2, w3, b3 = weights
    z = torch.empty(n, w1.shape[1]).uniform_(-math.sqrt(3), math.sqrt(3))
    return torch.sigmoid(F.linear(F.relu(F.linear(F.relu(F.linear(z, w1, b1)), w2, b2)), w3, b3))


def copies(game):
    """Make the weights large enough to show every difference, and copy them."""
    with torch.no_grad():
        for network, factor in ((game.generator, 10), (game.discriminator, 60)):
            for parameter in network.parameters():
                parameter.copy_(parameter * factor + 0.01)
    networks = game.generator, game.discriminator
    return ([p.detach().clone().requires_grad_() for p in network.parameters()] for network in networks)


def assert_moved(network, before, gradients):
    for found, weight, gradient in zip(network.parameters(), before, gradients, strict=True):
        assert gradient.any()
        torch.testing.assert_close(found, weight - 0.1 * gradient, atol=1e-7, rtol=1e-6)


def bce(logit, target):
    return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, target))


def plain_turn(g, d, x):
    """What the generator makes, and the gradient of the discriminator's loss on it."""
    y = plain_generator(g, len(x))
    real = plain_discriminator(d, (x.flatten(1) + 1) / 2)
    loss = 0.5 * (bce(real, 1.0) + bce(plain_discriminator(d, y.detach()), 0.0))
    return y, torch.autograd.grad(loss, d)


def test_a_simultaneous_round_is_the_papers():
    """G's gradient goes through the discriminator as it was before its step, and both see the same y."""
    game, x = build("gan", (1, 4, 4), TINY), images(10, 1, 4, 4)
    g, d = copies(game)
    with randomness():
        y, blame = plain_turn(g, d, x)
        praise = torch.autograd.grad(bce(plain_discriminator(d, y), 1.0), g)
    play(game, x)
    assert_moved(game.discriminator, d, blame)
    assert_moved(game.generator, g, praise)


def test_an_alternating_round_uses_the_new_discriminator():
    recipe = GANRecipe(hidden=(12, 12), units=(6, 6), latent=4, simultaneous=False)
    game, x = build("gan", (1, 4, 4), recipe), images(10, 1, 4, 4)
    g, d = copies(game)
    with randomness():
        _, blame = plain_turn(g, d, x)
        new = [p - 0.1 * slope for p, slope in zip(d, blame, strict=True)]
        fresh = plain_generator(g, 10)
        praise = torch.autograd.grad(bce(plain_discriminator([p.detach() for p in new], fresh), 1.0), g)
    play(game, x)
    assert_moved(game.discriminator, d, blame)
    assert_moved(game.generator, g, praise)


@pytest.mark.parametrize("simultaneous", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_k_discriminator_steps(k, simultaneous):
    recipe = GANRecipe(hidden=(4,), units=(4,), latent=2, discriminator_steps=k, simultaneous=simultaneous)
    game = build("gan", (3,), recipe)
    draws, moved = [], []
    play_ = game.round(lambda: draws.append(1) or Batch(torch.zeros(2, 3)), 0)
    move = next(play_)
    while move is not None:
        moved += [update.player for update in (move if isinstance(move, tuple) else (move,))]
        try:
            move = play_.send(torch.zeros(()))
        except StopIteration:
            move = None
    assert moved == ["discriminator"] * k + ["generator"]
    assert len(draws) == k == game.draws


def test_schedules_are_the_authors():
    game = build("gan", (3,), count=1000)  # ten rounds an epoch
    (phase,) = game.phases()
    assert phase.rate(0) == 1
    assert phase.rate(1) == pytest.approx(1 / 1.000004)
    assert phase.rate(100_000) == pytest.approx(math.exp(-0.4), rel=1e-5)
    assert 0.1 * phase.rate(10**8) == pytest.approx(1e-6)
    assert phase.momentum(0) == 0.5
    assert phase.momentum(10 * 125) == pytest.approx(0.6)
    assert phase.momentum(10 * 250) == phase.momentum(10**6) == pytest.approx(0.7)
    assert game.rounds == 2500
    assert build("gan", (3,), MLP).phases()[0].momentum is None


def test_optimizers():
    played = engine(build("gan", (3,), TINY), torch.zeros(4, 3), 1)
    played.players = played.phases[0].players()
    played._schedule(played.phases[0])
    assert all(isinstance(player, torch.optim.SGD) for player in played.players.values())
    assert all(player.param_groups[0]["momentum"] == 0.5 for player in played.players.values())
    assert all(player.param_groups[0]["lr"] == 0.1 for player in played.players.values())
    assert isinstance(build("gan", (3,), MLP).players()["generator"], torch.optim.Adam)


def test_first_weights():
    game = build("gan", (1, 28, 28))
    for network, half in ((game.generator, 0.05), (game.discriminator, 0.005)):
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                assert float(layer.weight.detach().abs().max()) == pytest.approx(half, rel=0.05)
                assert not layer.bias.any()
    assert [layer.p for layer in game.discriminator if isinstance(layer, nn.Dropout)] == pytest.approx([0.2, 0.5, 0.5])


def test_prepare_starts_at_the_mean_of_the_data():
    game, x = build("gan", (1, 4, 4), TINY), images(500, 1, 4, 4) * 0.5 + 0.3
    game.prepare(x)
    torch.testing.assert_close(game.generator[-2].bias.sigmoid() * 2 - 1, x.flatten(1).mean(0), atol=1e-5, rtol=0)


def test_prior_and_range():
    game = build("gan", (1, 4, 4), TINY).eval()
    z = game.latent(5000)
    assert z.shape == (5000, 4)
    edge = math.sqrt(3)  # of variance 1
    assert -edge <= float(z.min()) < -0.999 * edge
    assert 0.999 * edge < float(z.max()) <= edge
    y = game.generate(7)
    assert y.shape == (7, 1, 4, 4)
    assert float(y.detach().abs().max()) <= 1
    torch.testing.assert_close(game.generate(2, z[:2]), game.generate(3, z[:3])[:2])
    normal = build("gan", (1, 4, 4), MLP).latent(5000)
    assert float(normal.std()) == pytest.approx(1, abs=0.02)


def test_maxout_takes_the_largest_piece():
    layer = Maxout(3, 2, 4)
    x = torch.randn(5, 3)
    expected = layer.linear(x).view(5, 2, 4).max(2).values
    assert torch.equal(layer(x), expected)
