"""AnoGAN, 2017: what the search finds where the answer is known, and that each search is alone."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from played import assert_equal, build, images, play, randomness
from torch import nn

from sparring.errors import UserError
from sparring.export import to_onnx
from sparring.models import find
from sparring.models.anogan import AnoGANRecipe
from sparring.protocol import Spec

TINY = AnoGANRecipe(width=4, latent=5, hidden=8, batch=4, search_steps=30)


def linear(steps: int, weight: float = 0.0) -> nn.Module:
    """A game whose generator writes z into the first two of four numbers, and whose features are the numbers."""
    game = build("anogan", (4,), AnoGANRecipe(hidden=8, search_steps=steps, weight=weight, search_rate=0.05)).eval()
    game.generator, game.features = nn.Linear(2, 4, bias=False), nn.Identity()
    with torch.no_grad():
        game.generator.weight.copy_(torch.eye(4, 2))
    return game


def test_the_search_finds_the_nearest_point():
    """In the plane z can reach there is no residual; what sticks out of it is the score, by the l1 norm."""
    game = linear(500)
    x = torch.tensor([[0.5, -0.3, 0.0, 0.0], [0.2, 0.1, 1.0, 0.0], [1.0, 1.0, 2.0, -3.0]])
    assert game.encode(x).shape == (3, 2)
    torch.testing.assert_close(game.encode(x), x[:, :2], atol=0.02, rtol=0)
    torch.testing.assert_close(game.score(x), torch.tensor([0.0, 1.0, 5.0]), atol=0.03, rtol=0)
    torch.testing.assert_close(linear(500, 0.1).score(x), game.score(x), atol=0.03, rtol=0)


def test_a_round_is_that_of_dcgan():
    """Cross entropy, D first; the same made examples for both players; Adam 2e-4 with betas 0.5 and 0.999."""
    game, x = build("anogan", (9,), TINY), images(4, 9)
    generator, features, verdict = map(copy.deepcopy, (game.generator, game.features, game.verdict))
    g_adam = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))
    d_adam = torch.optim.Adam([*features.parameters(), *verdict.parameters()], 2e-4, (0.5, 0.999))

    def cost(x, label):
        logit = verdict(features(x)).flatten()
        return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, label))

    with randomness():
        y = generator(game.latent(4))
    (cost(x, 1.0) + cost(y.detach(), 0.0)).backward()
    d_adam.step()
    g_adam.zero_grad()
    cost(y, 1.0).backward()
    g_adam.step()
    play(game, x)
    for mine, theirs in ((game.generator, generator), (game.features, features), (game.verdict, verdict)):
        assert_equal(mine, theirs)


def test_the_search_written_out_plainly():
    game, x = play(build("anogan", (1, 16, 16), TINY), images(4, 1, 16, 16), 2).eval(), images(3, 1, 16, 16)
    for one, found in zip(x, game.score(x), strict=True):
        z = game.start.clone().requires_grad_()
        adam = torch.optim.Adam([z], 0.01)

        def loss(z, one=one[None]):
            y = game.generator(z)
            residual, features = (one - y).abs().sum(), (game.features(one) - game.features(y)).abs().sum()
            return 0.9 * residual + 0.1 * features

        for _ in range(30):
            adam.zero_grad()
            loss(z).backward()
            adam.step()
        torch.testing.assert_close(found, loss(z).detach(), rtol=1e-4, atol=0)


def test_rates_of_the_search(monkeypatch):
    rates = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda adam: (rates.append(adam.param_groups[0]["lr"]), step(adam)))
    game = linear(302)
    game.score(torch.zeros(1, 4))
    assert [rates[k] for k in (0, 199, 200, 299, 300, 301)] == pytest.approx([0.05, 0.05, 0.005, 0.005, 0.0025, 0.0025])


def test_scores_do_not_depend_on_the_batch_nor_on_chance():
    game = play(build("anogan", (1, 16, 16), TINY), images(4, 1, 16, 16), 2).eval()
    x = images(9, 1, 16, 16)
    together = game.score(x)
    torch.manual_seed(5)
    for size in (1, 7):
        torch.testing.assert_close(torch.cat([game.score(part) for part in x.split(size)]), together, rtol=1e-5, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(game.score(x.flip(0)).flip(0), together, rtol=1e-5, atol=0)
    assert all(p.requires_grad and p.grad is None for p in game.parameters())
    again = build("anogan", (1, 16, 16), TINY)
    again.load_state_dict(game.state_dict())
    assert torch.equal(again.eval().score(x), together), "the start is saved with the weights"


def test_it_is_not_exported():
    with pytest.raises(UserError, match="follow gradients"):
        to_onnx(build("anogan", (4,), TINY))


@pytest.mark.parametrize(
    ("count", "settings", "rounds"),
    [(192, {}, 500), (6400, {}, 2000), (192, {"epochs": 2}, 6), (192, {"rounds": 7}, 7)],
)
def test_rounds(count, settings, rounds):
    assert find("anogan").game(Spec((9,), count), AnoGANRecipe(**settings)).rounds == rounds
