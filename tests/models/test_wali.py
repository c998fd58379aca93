"""Wasserstein BiGAN: published counts and ladders, one penalty over (x, z), and a round written out plainly."""

from __future__ import annotations

import copy

import pytest
import torch
from played import build, count, images, ladder, play, randomness
from torch import nn

from sparring.errors import UserError
from sparring.models.wali import WALIRecipe
from sparring.protocol import Batch

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
TINY = WALIRecipe(width=8, latent=6, critic_steps=2)


@pytest.mark.parametrize(
    ("side", "counts"), [(32, (6_876_004, 3_448_576, 9_237_889)), (64, (7_004_132, 3_576_704, 13_563_329))]
)
def test_published_parameter_counts(side, counts):
    game = build("wali", (3, side, side))
    assert (count(game.encoder), count(game.generator), count(game.critic) + 1) == counts  # the last bias would cancel


def test_ladders():
    game, x = build("wali", (3, 32, 32)), images(1, 3, 32, 32)
    down = [(128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 1, 1)]
    assert ladder(game.encoder, CONVOLUTIONS, x) == [*down, (100, 1, 1)]
    assert ladder(game.critic.of_x, CONVOLUTIONS, x) == down
    assert ladder(game.critic.of_z, (nn.Linear,), game.latent(1)) == [(512,), (512,)]
    assert ladder(game.critic.together, (nn.Linear,), torch.zeros(1, 1024)) == [(1024,), (1024,), (1,)]
    up = [(512, 4, 4), (256, 8, 8), (128, 16, 16), (3, 32, 32)]
    assert ladder(game.generator, CONVOLUTIONS, game.latent(1)) == up


@pytest.mark.parametrize(("side", "top"), [(16, [256, 512]), (128, [64, 128, 256, 512, 512])])
def test_other_sides_follow_the_same_ladder(side, top):
    game = build("wali", (1, side, side))
    down = [maps for maps, *_ in ladder(game.encoder, CONVOLUTIONS, images(1, 1, side, side))]
    assert down == [*top, 512, 100]
    up = ladder(game.generator, CONVOLUTIONS, game.latent(1))
    assert [maps for maps, *_ in up] == [*top[::-1], 1]
    assert up[-1] == (1, side, side)


@pytest.mark.parametrize(
    ("shape", "sentence"), [((20,), "use bigan for these"), ((3, 48, 48), "power of two"), ((1, 8, 8), "power of two")]
)
def test_what_is_refused(shape, sentence):
    with pytest.raises(UserError, match=sentence):
        build("wali", shape)


def test_the_critic_does_not_normalise():
    game = build("wali", (3, 32, 32), TINY)
    assert not any(isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm1d)) for layer in game.critic.modules())


class Linear(nn.Module):
    """Section 16.6: a critic w_x x + w_z z whose penalty is known."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([3.0, 4.0]))

    def forward(self, x, z):
        return self.w[0] * x[:, 0, 0, 0] + self.w[1] * z[:, 0, 0, 0]


def test_the_penalty_is_of_the_joint_gradient():
    """(sqrt(3^2 + 4^2) - 1)^2 = 16, where two penalties apart would give 13; the weight is 10."""
    game = build("wali", (1, 16, 16), TINY).train()
    game.critic = Linear()
    update = next(game.round(lambda: Batch(images(4, 1, 16, 16)), 0))
    assert update.player == "critic"
    assert update.terms["penalty"].item() == pytest.approx(160, rel=1e-5)


def rows(module):
    """All parameters, one after the other."""
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def test_two_rounds_are_those_of_the_reference():
    """The authors' order: critic steps on pairs (x, E(x)) and (G(z), z), then one step of E and G together."""
    game, x = build("wali", (1, 16, 16), TINY), images(6, 1, 16, 16)
    other, first = copy.deepcopy(game).train(), rows(game)
    c_adam = torch.optim.Adam(other.critic.parameters(), 1e-4, (0.5, 0.9))
    eg_adam = torch.optim.Adam([*other.encoder.parameters(), *other.generator.parameters()], 1e-4, (0.5, 0.9))

    def distance(code, y, z):
        return (other.critic(x, code) - other.critic(y, z)).mean()

    for step in range(2):
        with randomness(step):
            for _ in range(2):
                z = torch.randn(6, 6, 1, 1)
                code, y = other.encoder(x).detach(), other.generator(z).detach()
                epsilon = torch.rand(6).view(6, 1, 1, 1)
                between = [epsilon * x + (1 - epsilon) * y, epsilon * code + (1 - epsilon) * z]
                for point in between:
                    point.requires_grad_()
                slopes = torch.autograd.grad(other.critic(*between).sum(), between, create_graph=True)
                norms = torch.cat([slope.flatten(1) for slope in slopes], 1).norm(dim=1)
                c_adam.zero_grad()
                (-distance(code, y, z) + 10 * ((norms - 1) ** 2).mean()).backward()
                c_adam.step()
            z = torch.randn(6, 6, 1, 1)
            eg_adam.zero_grad()
            distance(other.encoder(x), other.generator(z), z).backward()
            eg_adam.step()
    play(game, x, 2)
    assert (rows(game) - rows(other)).norm() < 1e-2 * (rows(other) - first).norm()


def test_minibatches_of_a_round():
    game = build("wali", (1, 16, 16), TINY)
    assert game.draws == 3
    drawn = []
    moves = game.train().round(lambda: drawn.append(1) or Batch(images(4, 1, 16, 16)), 0)
    players = [next(moves).player, *(moves.send(torch.zeros(())).player for _ in range(2))]
    assert players == ["critic", "critic", "generator"]
    assert len(drawn) == 3
    assert build("wali", (3, 32, 32)).rounds == 20_000


def test_codes_have_the_shape_of_the_prior():
    game, x = play(build("wali", (1, 16, 16), TINY), images(6, 1, 16, 16)).eval(), images(4, 1, 16, 16)
    game.requires_grad_(False)
    code = game.encode(x)
    assert code.shape == game.latent(4).shape == (4, 6, 1, 1)
    torch.testing.assert_close(game.encode(x[2:3]), code[2:3])
    torch.testing.assert_close(game.reconstruct(x), game.generate(4, code))
