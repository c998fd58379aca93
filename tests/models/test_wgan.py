"""WGAN, 2017: networks, schedule and clipping of the authors' code, and rounds written out plainly."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from played import assert_equal, build, count, images, ladder, play, randomness
from torch import nn

from sparring.errors import UserError
from sparring.models.wgan import MLP, PLAIN, WGAN, WGANRecipe
from sparring.protocol import Batch

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
TINY = WGANRecipe(width=8, latent=10, critic_steps=2, eager_steps=3, eager_first=1)


def test_published_parameter_counts():
    game = build("wgan", (3, 64, 64))
    assert (count(game.generator), count(game.critic)) == (3_576_704, 2_765_568)
    batch_norm = 2 * (512 + 256 + 128 + 64)
    assert count(build("wgan", (3, 64, 64), PLAIN).generator) == 3_576_704 - batch_norm
    mlp = count(build("wgan", (3, 64, 64), MLP).generator)
    assert mlp == 101 * 512 + 2 * 513 * 512 + 513 * 12288


@pytest.mark.parametrize("recipe", [WGANRecipe(), PLAIN])
def test_ladder(recipe):
    game = build("wgan", (3, 64, 64), recipe)
    up = ladder(game.generator, CONVOLUTIONS, game.latent(1))
    assert up == [(512, 4, 4), (256, 8, 8), (128, 16, 16), (64, 32, 32), (3, 64, 64)]
    down = ladder(game.critic, CONVOLUTIONS, images(1, 3, 64, 64))
    assert down == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (1, 1, 1)]


def test_rules_of_the_architecture():
    game = build("wgan", (3, 32, 32))
    assert not any(isinstance(layer, nn.Sigmoid) for layer in game.modules()), "a critic is no probability"
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in game.critic.modules()) == 2
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in build("wgan", (3, 32, 32), PLAIN).generator)
    assert game.latent(500).std().item() == pytest.approx(1, abs=0.02)
    optimizers = game.players()
    assert all(isinstance(optimizer, torch.optim.RMSprop) for optimizer in optimizers.values())
    assert {group["lr"] for optimizer in optimizers.values() for group in optimizer.param_groups} == {5e-5}


@pytest.mark.parametrize("recipe", [WGANRecipe(), PLAIN, MLP])
@pytest.mark.parametrize("side", [16, 128])
def test_every_size(side, recipe):
    game = build("wgan", (1, side, side), replace(recipe, width=4, latent=6, hidden=(8,))).eval()
    with torch.no_grad():
        y = game.generate(2)
    assert y.shape == (2, 1, side, side)
    assert float(y.abs().max()) <= 1
    assert game.critic(y).shape == (2,)
    assert torch.equal(game.generate(2, z := game.latent(2)), game.generate(2, z))


@pytest.mark.parametrize("shape", [(3, 48, 48), (3, 512, 512), (20,)])
def test_sizes_that_are_refused(shape):
    with pytest.raises(UserError, match="wgan works on"):
        build("wgan", shape)
    assert WGAN.fit_side(28, WGANRecipe()) == 32


def test_eager_rounds():
    game = build("wgan", (1, 16, 16), WGANRecipe(width=2))
    turns = [game.turns(step) for step in range(1502)]
    assert turns[:25] == [100] * 25
    assert [step for step in range(25, 1502) if turns[step] == 100] == [500, 1000, 1500]
    assert set(turns) == {5, 100}


@pytest.mark.parametrize(("count", "rounds"), [(64 * 2500, 25), (64 * 2505, 26), (64 * 2600, 45), (64 * 5000, 506)])
def test_rounds_of_an_epoch(count, rounds):
    """25 rounds draw 2,500 minibatches; after that 5 suffice for one, but for round 500, which takes 100."""
    game = build("wgan", (1, 16, 16), WGANRecipe(width=2, epochs=1), count)
    assert game.rounds == rounds
    assert sum(map(game.turns, range(rounds - 1))) < count // 64 <= sum(map(game.turns, range(rounds)))
    assert build("wgan", (1, 16, 16), WGANRecipe(width=2, rounds=7)).rounds == 7


def test_two_rounds_are_those_of_the_reference():
    """The authors' loop: clip before each step of the critic, which is low on reals; then the generator."""
    game, x = build("wgan", (1, 16, 16), TINY), images(6, 1, 16, 16)
    generator, critic = copy.deepcopy(game.generator), copy.deepcopy(game.critic)
    with torch.no_grad():
        critic.verdict.weight.neg_()  # the signs of the authors' code
    c_rms = torch.optim.RMSprop(critic.parameters(), lr=5e-5)
    g_rms = torch.optim.RMSprop(generator.parameters(), lr=5e-5)
    for step, turns in enumerate([3, 2]):
        with randomness(step):
            for p in critic.parameters():
                p.requires_grad = True
            for _ in range(turns):
                for p in critic.parameters():
                    p.data.clamp_(-0.01, 0.01)
                critic.zero_grad()
                critic(x).mean(0).view(1).backward(torch.ones(1))
                fake = generator(torch.empty(6, 10, 1, 1).normal_(0, 1)).detach()
                critic(fake).mean(0).view(1).backward(-torch.ones(1))
                c_rms.step()
            for p in critic.parameters():
                p.requires_grad = False
            generator.zero_grad()
            critic(generator(torch.empty(6, 10, 1, 1).normal_(0, 1))).mean(0).view(1).backward(torch.ones(1))
            g_rms.step()
    play(game, x, 2)
    with torch.no_grad():
        critic.verdict.weight.neg_()
    assert_equal(game.critic, critic)
    assert_equal(game.generator, generator)


def test_clipping_is_of_parameters_only():
    game = build("wgan", (1, 16, 16), TINY)
    with torch.no_grad():
        for tensor in game.critic.state_dict().values():
            tensor.fill_(7)
    game.clip()
    assert all(p.unique().tolist() == [pytest.approx(0.01)] for p in game.critic.parameters())
    assert all((buffer == 7).all() for buffer in game.critic.buffers()), "running statistics stay"


@pytest.mark.parametrize("c", [0.01, 0.02])
def test_the_clipped_optimum_is_not_the_distance(c):
    """Section 16.8: for a linear critic and a difference of means d, the optimum is c |d|_1: here c 3.5, not |d|_2."""
    game = build("wgan", (1, 16, 16), replace(TINY, clip=c, rate=1e-3))
    game.critic = nn.Sequential(nn.Flatten(), nn.Linear(256, 1), nn.Flatten(0))
    x = torch.zeros(4, 1, 16, 16)
    x[:, 0, 0, :3] = torch.tensor([1.0, -2.0, 0.5])
    game.generate = lambda n: torch.zeros(n, 1, 16, 16)
    optimizer = game.players()["critic"]
    for step in range(100):
        optimizer.zero_grad()
        next(game.round(lambda: Batch(x), step)).loss.backward()
        optimizer.step()
    update = next(game.round(lambda: Batch(x), 0))
    game.clip()
    estimate = (game.value(x) - game.value(game.generate(4))).item()
    assert set(update.terms) == {"real", "fake"}
    assert estimate == pytest.approx(3.5 * c, rel=1e-4)
