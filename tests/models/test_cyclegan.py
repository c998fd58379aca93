"""CycleGAN, 2017: published networks, a round written out plainly, and the pool of past images."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import pytest
import torch
import torch.nn.functional as F
from played import assert_equal, build, count, images, play
from torch import nn

from sparring.errors import UserError
from sparring.models.cyclegan import SIX_BLOCKS, CycleGANRecipe
from sparring.nets import pool
from sparring.nets.pool import Pool
from sparring.protocol import Batch

TINY = CycleGANRecipe(width=4, blocks=1, batch=2, pool=3)
SMALL = (1, 32, 32)


def test_the_published_networks():
    game = build("cyclegan", (3, 128, 128))
    assert count(game.generator_ab) == count(game.generator_ba) == 11_378_179
    assert count(game.discriminator_a) == count(game.discriminator_b) == 2_764_737
    assert count(build("cyclegan", (3, 32, 32), SIX_BLOCKS).generator_ab) == 7_837_699


@pytest.mark.parametrize(("layers", "patch"), [(3, 70), (2, 34), (1, 16)])
def test_the_patches_that_a_discriminator_sees(layers, patch):
    seen = 1
    for layer in reversed(list(build("cyclegan", SMALL, replace(TINY, layers=layers)).discriminator_a.modules())):
        if isinstance(layer, nn.Conv2d):
            seen = (seen - 1) * layer.stride[0] + layer.kernel_size[0]
    assert seen == patch


@pytest.mark.parametrize("shape", [(3, 34, 34), (3, 16, 16), (8,)])
def test_data_that_are_refused(shape):
    with pytest.raises(UserError, match="cyclegan works on"):
        build("cyclegan", shape)


def twin(network):
    """A copy with the same weights, built of the network's own layers."""
    import copy

    return copy.deepcopy(network)


@pytest.mark.parametrize("identity", [0.0, 0.5])
def test_a_round_is_that_of_the_authors(identity):
    game = build("cyclegan", SMALL, replace(TINY, identity=identity))
    a, b = images(2, *SMALL), -(images(2, *SMALL).flip(0) ** 3)
    g_ab, g_ba, d_a, d_b = map(twin, (game.generator_ab, game.generator_ba, game.discriminator_a, game.discriminator_b))
    g_adam, d_adam = (
        torch.optim.Adam(chain(*(n.parameters() for n in side)), 2e-4, (0.5, 0.999))
        for side in ((g_ab, g_ba), (d_a, d_b))
    )

    def square(verdict, label):
        return F.mse_loss(verdict, torch.full_like(verdict, label))

    ab, ba = g_ab(a), g_ba(b)
    loss = square(d_b(ab), 1.0) + square(d_a(ba), 1.0) + 10 * F.l1_loss(g_ba(ab), a) + 10 * F.l1_loss(g_ab(ba), b)
    if identity:
        loss = loss + 10 * identity * (F.l1_loss(g_ab(b), b) + F.l1_loss(g_ba(a), a))
    g_adam.zero_grad()
    loss.backward()
    g_adam.step()
    d_adam.zero_grad()  # the pool is not full, so that new images are shown
    for d, real, fake in ((d_a, a, ba), (d_b, b, ab)):
        ((square(d(real), 1.0) + square(d(fake.detach()), 0.0)) * 0.5).backward()
    d_adam.step()
    play(game, a, 1, partner=b)
    players = (game.generator_ab, game.generator_ba, game.discriminator_a, game.discriminator_b)
    for mine, theirs in zip(players, (g_ab, g_ba, d_a, d_b), strict=True):
        settled(theirs, mine)
        assert_equal(mine, theirs)


def settled(theirs, mine):
    """Leave biases before instance norm out: their gradients are rounding errors, which Adam enlarges."""
    for one, other in zip(theirs.modules(), mine.modules(), strict=True):
        layers = list(one.children())
        for k, layer in enumerate(layers[:-1]):
            if isinstance(layers[k + 1], nn.InstanceNorm2d):
                layer.bias.data.copy_(list(other.children())[k].bias.data)


def test_the_rate_falls_in_a_line_over_the_second_half():
    (phase,) = build("cyclegan", SMALL, replace(TINY, rounds=100)).phases()
    assert [phase.rate(step) for step in (0, 50, 75, 99)] == pytest.approx([1, 1, 0.5, 0.02])


def test_identity_is_left_out_where_it_weighs_nothing():
    batch = Batch(images(2, *SMALL), partner=images(2, *SMALL))
    assert set(next(build("cyclegan", SMALL, TINY).round(lambda: batch, 0)).terms) == {
        "fooled_a", "fooled_b", "cycle_a", "cycle_b"
    }  # fmt: skip


def numbered(step, batch=4):
    return torch.arange(step * batch, (step + 1) * batch).float().view(batch, 1)


def test_the_pool_loses_and_invents_nothing():
    past, shown = Pool(6, (1,)), []
    for step in range(50):
        shown.append(past(numbered(step), step))
    assert torch.equal(shown[0], numbered(0)), "until it is full the new ones are shown"
    everything = torch.cat([*shown[2:], past.kept.view(torch.float32)]).flatten()
    news = torch.cat([numbered(step) for step in range(2, 50)]).flatten()
    assert set(news.tolist()) <= set(everything.tolist())
    old = torch.cat(shown[3:]) != torch.cat([numbered(step) for step in range(3, 50)])
    assert 0.4 < float(old.float().mean()) < 0.6, "one in two is of the past"


def test_the_pool_goes_on_from_its_buffers():
    one, other = Pool(6, (1,)), Pool(6, (1,))
    for step in range(9):
        one(numbered(step), step)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(numbered(9), 9), other(numbered(9), 9))
    assert torch.equal(one.kept, other.kept)
    assert not one.kept.is_floating_point(), "the engine averages what is"


def test_two_processes_share_one_pool(monkeypatch):
    """What each is shown is its part of what one process would be."""
    single, halves = Pool(6, (1,)), [Pool(6, (1,)), Pool(6, (1,))]
    for step in range(20):
        x = numbered(step)
        parts = []
        for rank, half in enumerate(halves):
            monkeypatch.setattr(pool, "gathered", lambda own, rank=rank, x=x: (x, slice(2 * rank, 2 * rank + 2)))
            parts.append(half(x[2 * rank : 2 * rank + 2], step))
        monkeypatch.undo()
        assert torch.equal(torch.cat(parts), single(x, step))
    assert torch.equal(halves[0].kept, halves[1].kept)


def test_no_pool_shows_what_is_new():
    x = images(2, *SMALL).requires_grad_()
    assert torch.equal(Pool(0, SMALL)(x, 7), x)
    assert not Pool(0, SMALL)(x, 7).requires_grad
