"""f-AnoGAN, 2019: the authors' ladders, the encoder's phase written out plainly, and the score in closed form."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from played import assert_equal, build, engine, images, ladder, randomness
from torch import nn

from sparring.models import find
from sparring.models.fanogan import AUTHORS_CODE, FAnoGANRecipe
from sparring.nets.residual import ResidualBlock
from sparring.protocol import Spec

TINY = FAnoGANRecipe(width=4, latent=5, hidden=8, batch=4)


def test_ladders_of_the_authors():
    game = build("fanogan", (1, 64, 64))
    made = ladder(game.generator, (ResidualBlock,), torch.zeros(1, 128))
    assert made == [(512, 8, 8), (256, 16, 16), (128, 32, 32), (64, 64, 64)]
    read = [(128, 32, 32), (256, 16, 16), (512, 8, 8), (512, 4, 4)]
    x = images(1, 1, 64, 64)
    assert ladder(game.features, (ResidualBlock,), x) == read
    assert ladder(game.encoder, (ResidualBlock,), x) == read
    assert game.verdict.in_features == 8192
    assert (game.generator[0].in_features, game.generator[0].out_features) == (128, 8192)
    kinds = [{type(layer) for layer in part.modules()} for part in (game.generator, game.features, game.encoder)]
    assert [nn.BatchNorm2d in kind for kind in kinds] == [True, False, True]
    assert [nn.GroupNorm in kind for kind in kinds] == [False, True, False], "layer norm in the critic"


def test_phases():
    def rounds(count, recipe):
        return [phase.rounds for phase in find("fanogan").game(Spec((9,), count), recipe).phases()]

    assert rounds(64 * 100, FAnoGANRecipe()) == [500, 2500]
    assert rounds(64 * 1000, FAnoGANRecipe()) == [1400, 7000]
    assert rounds(64 * 1000, AUTHORS_CODE) == [1400, 50_000]
    assert rounds(64, FAnoGANRecipe(rounds=3, critic_steps=2)) == [3, 6]


def test_an_epoch_of_the_encoder_takes_one_minibatch_a_round():
    game = build("fanogan", (9,), TINY, count=4 * 100)
    assert [game.rounds_in(1, phase) for phase in game.phases()] == [20, 100]


def test_batch_norm_has_the_defaults_of_tensorflow():
    norms = [layer for layer in build("fanogan", (1, 64, 64)).modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(layer.momentum, layer.eps) for layer in norms} == {(0.01, 1e-3)}


def test_the_gans_phase_is_that_of_the_reference():
    """WGAN-GP's Algorithm 1: five steps of the critic, then one of the generator, by Adam 1e-4 with betas 0 and 0.9."""
    game, x = build("fanogan", (9,), TINY), images(4, 9)
    generator, features, verdict = map(copy.deepcopy, (game.generator, game.features, game.verdict))
    g_adam = torch.optim.Adam(generator.parameters(), 1e-4, (0.0, 0.9))
    c_adam = torch.optim.Adam([*features.parameters(), *verdict.parameters()], 1e-4, (0.0, 0.9))

    def critic(x):
        return verdict(features(x)).flatten()

    with randomness():
        for _ in range(5):
            y = generator(game.latent(4)).detach()
            share = torch.rand(4, 1)
            between = (share * x + (1 - share) * y).requires_grad_()
            (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
            loss = critic(y).mean() - critic(x).mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()
            c_adam.zero_grad()
            loss.backward()
            c_adam.step()
        g_adam.zero_grad()
        (-critic(generator(game.latent(4))).mean()).backward()
        g_adam.step()
    made = engine(game, x, 1)
    made.phases = made.phases[:1]
    made.play()
    for mine, theirs in ((game.generator, generator), (game.features, features), (game.verdict, verdict)):
        assert_equal(mine, theirs)


@pytest.mark.parametrize("shape", [(1, 16, 16), (9,)])
def test_the_encoders_phase_is_that_of_the_reference(shape):
    """The authors' izi_f: G as in eval mode, RMSprop on the encoder alone; in float64, see the test of OGNet."""
    game, x = build("fanogan", shape, TINY).double(), images(4, *shape).double()
    with torch.no_grad():
        for layer in game.generator.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.5, 0.5)
    other = copy.deepcopy(game)
    before = copy.deepcopy([game.generator.state_dict(), game.features.state_dict()])
    optimizer = torch.optim.RMSprop(other.encoder.parameters(), 5e-5, alpha=0.9)
    for _ in range(2):
        other.train()
        other.generator.eval()
        y = other.generator(other.encoder(x))
        loss = F.mse_loss(y, x) + 1.0 * F.mse_loss(other.features(y), other.features(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    made = engine(game, x, 2)
    made.phases = made.phases[1:]
    made.play()
    assert_equal(game.encoder, other.encoder)
    for part, state in zip((game.generator, game.features), before, strict=True):  # statistics included
        assert all(torch.equal(value, state[key]) for key, value in part.state_dict().items()), (
            "GAN and statistics stay"
        )


@torch.no_grad()
def test_score_in_closed_form():
    """A linear critic feature, a generator that adds nothing: both parts of the score are known."""
    game = build("fanogan", (4,), FAnoGANRecipe(hidden=8, kappa=0.5)).eval()
    game.encoder, game.generator, game.features = nn.Identity(), Shift(0.5), Scale(3.0)
    x = torch.randn(6, 4)
    expected = 0.25 + 0.5 * (3 * 0.5) ** 2
    torch.testing.assert_close(game.score(x), torch.full((6,), expected))


class Shift(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x + self.by


class Scale(Shift):
    def forward(self, x):
        return x * self.by


@torch.no_grad()
def test_score_is_the_loss_of_the_encoder():
    game, x = build("fanogan", (1, 16, 16), TINY).eval(), images(5, 1, 16, 16)
    y = game.generator(game.encoder(x))
    loss = F.mse_loss(y, x) + F.mse_loss(game.features(y), game.features(x))
    torch.testing.assert_close(game.score(x).mean(), loss)
    torch.testing.assert_close(game.anomaly_map(x), (x - y).abs()[:, 0])
