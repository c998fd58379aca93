"""OGNet, 2020: published counts and ladders, both phases written out plainly, and its closed forms."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from played import assert_equal, build, count, engine, images, ladder, play, randomness
from torch import nn

from sparring.errors import UserError
from sparring.models import find
from sparring.models.ognet import LIGHT, OGNet, OGNetRecipe
from sparring.protocol import Batch, Spec

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
TINY = OGNetRecipe(width=2, latent=6, batch=4)
LIGHT_TINY = OGNetRecipe(width=4, latent=6, batch=4, networks="strided")


def tiny(side: int = 32, recipe: OGNetRecipe = TINY) -> OGNet:
    game = build("ognet", (1, side, side), recipe)
    assert isinstance(game, OGNet)
    return game


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def unchanged(module: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_published_parameter_counts():
    game = build("ognet", (1, 45, 45))
    assert (count(game.generator), count(game.discriminator)) == (8_609_025, 4_308_865)
    assert count(game.elder) == 0, "nobody moves the elder generator"
    assert sum(p.numel() for p in game.elder.parameters()) == 8_609_025


def test_ladders():
    game, x = tiny(45), images(1, 1, 45, 45)
    down, up = [(2, 41), (4, 37), (8, 33), (16, 29)], [(8, 33), (4, 37), (2, 41), (1, 45)]
    assert ladder(game.generator, CONVOLUTIONS, x) == [(maps, side, side) for maps, side in down + up]
    shapes = ladder(game.discriminator, (nn.Conv2d, nn.Flatten), x)
    assert shapes == [(2, 23, 23), (4, 12, 12), (8, 6, 6), (16, 3, 3), (144,), ()]
    order = [type(layer).__name__ for layer in game.generator if not isinstance(layer, CONVOLUTIONS)]
    assert order == ["BatchNorm2d", "ReLU"] * 2 + ["ReLU", "BatchNorm2d"] * 2 + ["BatchNorm2d", "ReLU"] * 3 + ["Tanh"]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in game.discriminator.modules()) == 3


@pytest.mark.parametrize(("side", "last"), [(32, 2), (64, 4), (100, 4), (128, 4), (256, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_sides_and_colour(side, channels, last):
    game = build("ognet", (channels, side, side), OGNetRecipe(width=1))
    final = [layer for layer in game.discriminator if isinstance(layer, nn.Linear)]
    assert final[0].in_features == 8 * last**2
    x = images(2, channels, side, side)
    with torch.no_grad():
        assert game.eval().reconstruct(x).shape == x.shape
        assert game.score(x).shape == (2,)
        assert game.anomaly_map(x).shape == (2, side, side)


def multiply_adds(module: nn.Module, x: torch.Tensor) -> int:
    """Of the convolutions and linear layers, for one example."""
    found: list[int] = []

    def note(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        reach = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        found.append(layer.weight.numel() * reach[0, 0].numel() if reach.ndim == 4 else layer.weight.numel())

    kinds = (*CONVOLUTIONS, nn.Linear)
    hooks = [layer.register_forward_hook(note) for layer in module.modules() if isinstance(layer, kinds)]
    with torch.no_grad():
        module.eval()(x)
    for hook in hooks:
        hook.remove()
    return sum(found)


def test_light_is_light():
    full = build("ognet", (1, 45, 45))
    light = build("ognet", (1, 32, 32), LIGHT)
    costs = [
        (multiply_adds(game.generator, x), multiply_adds(game.discriminator, x))
        for game, x in ((full, images(1, 1, 45, 45)), (light, images(1, 1, 32, 32)))
    ]
    assert 7.8e9 < costs[0][0] < 7.9e9
    assert 0.85e8 < costs[0][1] < 0.95e8
    assert costs[0][0] > 100 * costs[1][0]
    assert costs[0][1] > 20 * costs[1][1] or sum(costs[0]) > 20 * sum(costs[1])
    assert light.generator[0].last.out_channels < 32 * 32, "a bottleneck"


@pytest.mark.parametrize(
    ("shape", "recipe", "sentence"),
    [
        ((1, 28, 28), TINY, "square images of 32 to 256 pixels, not on 28x28"),
        ((1, 32, 64), TINY, "not on 32x64"),
        ((3, 300, 300), TINY, "not on 300x300"),
        ((1, 45, 45), LIGHT_TINY, "power of two from 32 to 256, not on 45 pixels"),
    ],
)
def test_refusals(shape, recipe, sentence):
    with pytest.raises(UserError, match=sentence):
        build("ognet", shape, recipe)


@pytest.mark.parametrize(
    ("native", "recipe", "side"),
    [
        (8, TINY, 32),
        (28, TINY, 45),
        (32, TINY, 45),
        (45, TINY, 45),
        (64, TINY, 45),
        (1000, TINY, 45),
        (28, LIGHT, 32),
        (100, LIGHT, 128),
    ],
)
def test_sides_that_images_are_brought_to(native, recipe, side):
    assert OGNet.fit_side(native, recipe) == side


@pytest.mark.parametrize("recipe", [TINY, LIGHT_TINY], ids=["unpadded", "strided"])
def test_phase_one_is_that_of_the_reference(recipe):
    """The authors' losses, in the corrected order: D steps without reaching G, then G meets the D that has stepped.

    In float64, since Adam makes a step of the rounding error of a bias that batch norm takes out again.
    """
    game, x = tiny(recipe=recipe).double(), images(4, 1, 32, 32).double()
    other = copy.deepcopy(game).train()
    g_adam = torch.optim.Adam(other.generator.parameters(), lr=1e-3)
    d_adam = torch.optim.Adam(other.discriminator.parameters(), lr=1e-4)
    fake, valid = torch.ones(4).double(), torch.zeros(4).double()

    def bce(logit, target):
        return F.binary_cross_entropy(logit.sigmoid(), target)

    for step in range(2):
        with randomness(step):
            noisy = (x + 0.81 * torch.randn_like(x)).clamp(-1, 1)
        g_output = other.generator(noisy)
        d_real, d_fake = other.discriminator(x), other.discriminator(g_output.detach())
        d_adam.zero_grad()
        (0.5 * (bce(d_fake, fake) + bce(d_real, valid))).backward()
        d_adam.step()
        g_adam.zero_grad()
        (0.5 * F.mse_loss(g_output, x) + 0.5 * bce(other.discriminator(g_output), valid)).backward()
        g_adam.step()
    made = engine(game, x, 2)
    made.phases = made.phases[:1]
    made.play()
    assert_equal(game.generator, other.generator)
    assert_equal(game.discriminator, other.discriminator)


def test_phase_two_is_that_of_the_reference():
    x = images(12, 1, 32, 32).double()
    game = play(tiny().double(), x[:4], 2)
    with torch.no_grad():
        for parameter in game.elder.parameters():
            parameter.add_(0.05)
    other = copy.deepcopy(game)
    before = state(game)
    d_adam = torch.optim.Adam(other.discriminator.parameters(), lr=5e-5)
    rest = [state(part) for part in (game.generator, game.elder)]
    batches = [Batch(part) for part in x.split(4)] * 2

    for k in range(2):
        x0, x1, x2 = (batch.x for batch in batches[3 * k : 3 * k + 3])
        other.generator.eval()
        other.elder.eval()
        other.discriminator.train()
        with torch.no_grad():
            high, low = other.generator(x0), other.elder(x0)
            pseudo = other.generator((other.elder(x1) + other.elder(x2)) / 2)
        loss = -(
            0.1 * torch.log(1 - other.discriminator(x0).sigmoid()).mean()
            + 0.9 * torch.log(1 - other.discriminator(high).sigmoid()).mean()
            + 0.001 * torch.log(other.discriminator(low).sigmoid()).mean()
            + 0.999 * torch.log(other.discriminator(pseudo).sigmoid()).mean()
        )
        d_adam.zero_grad()
        loss.backward()
        d_adam.step()

    made = engine(game, x, 2)
    made.draw, made.phases = Counted(iter(batches).__next__), made.phases[1:]
    made.play()
    assert_equal(game.discriminator, other.discriminator)
    assert unchanged(game.generator, rest[0]), "weights and statistics stay"
    assert unchanged(game.elder, rest[1])
    assert not unchanged(game, before)


class Counted:
    """A draw as the engine wants it."""

    def __init__(self, draw):
        self.draw, self.position, self.waited = draw, 0, 0.0

    def __call__(self):
        self.position += 1
        return self.draw()


class Undecided(nn.Module):
    """D is 1/2 everywhere: the logit is 0, by way of a weight that learns."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach())
        return self.weight * x.flatten(1).sum(1)


def test_phase_two_of_identities():
    """Section 16.14: the pseudo-anomaly is the mean of two images, and the loss of an undecided D is 2 log 2."""
    game = tiny().train()
    game.generator, game.elder, game.discriminator = nn.Identity(), nn.Identity(), Undecided()
    batches = images(12, 1, 32, 32).split(4)
    update = next(game.second(iter([Batch(x) for x in batches]).__next__, 0))
    real, rebuilt, old, pseudo = game.discriminator.seen
    assert torch.equal(real, batches[0])
    assert torch.equal(rebuilt, batches[0])
    assert torch.equal(old, batches[0])
    torch.testing.assert_close(pseudo, (batches[1] + batches[2]) / 2)
    assert update.loss.item() == pytest.approx(2 * math.log(2))
    terms = {name: term.item() / math.log(2) for name, term in update.terms.items()}
    assert terms == pytest.approx({"real": 0.1, "rebuilt": 0.9, "old": 0.001, "pseudo": 0.999})


@pytest.mark.parametrize("phase", ["round", "second"])
def test_no_gradient_is_wasted(phase):
    """Section 16.22: a step of one player leaves nothing at the others; phase two reaches D alone."""
    game, x = tiny().train(), images(4, 1, 32, 32)
    before = state(game.generator)
    moves = getattr(game, phase)(lambda: Batch(x), 1)
    networks = {"discriminator": game.discriminator, "generator": game.generator, "elder": game.elder}
    for update in moves:
        update.loss.backward()
        for name, network in networks.items():
            reached = [p.grad is not None for p in network.parameters()]
            assert all(reached) if name == update.player else not any(reached)
        game.zero_grad(set_to_none=True)
    if phase == "second":
        assert unchanged(game.generator, before)


def test_the_elder_is_kept_and_saved(tmp_path):
    """After a quarter of phase one G_old is what G was then; it survives a stop and a resumption."""
    x, recipe = images(4, 1, 32, 32), OGNetRecipe(width=2, batch=4, rounds=8, second=2, networks="strided", latent=4)
    game = tiny(recipe=recipe)
    first = state(game.elder)
    seen = []

    def look(game, phase, done):
        seen.append((state(game.generator), state(game.elder)))
        return {}

    made = engine(game, x)
    made.phases, made.judge, made.look_every = game.phases(), look, 1
    made.play()
    assert [phase.rounds for phase in made.phases] == [8, 2]
    for done, (_, elder) in enumerate(seen, 1):
        expected = first if done <= 2 else seen[1][0]
        assert all(torch.equal(value, expected[key]) for key, value in elder.items()), f"after round {done}"
    assert {f"elder.{key}" for key in first} <= game.state_dict().keys()
    again = tiny(recipe=recipe)
    again.load_state_dict(game.state_dict())
    assert unchanged(again.elder, seen[-1][1])


@pytest.mark.parametrize("rounds", [1, 2])
def test_very_short_phases(rounds):
    for share in (0.0, 0.25, 1.0):
        game = tiny(recipe=OGNetRecipe(width=1, batch=4, rounds=rounds, second=1, elder=share))
        made = engine(game, images(4, 1, 32, 32))
        made.phases = game.phases()
        made.play()
        assert made.done == rounds + 1


@pytest.mark.parametrize(
    ("count", "settings", "rounds"),
    [(4736, {}, 300), (6400, {}, 400), (100, {}, 300), (640, {"epochs": 3}, 30), (100, {"rounds": 7}, 7)],
)
def test_few_data_are_learnt_too(count, settings, rounds):
    game = find("ognet").game(Spec((1, 32, 32), count), OGNetRecipe(width=1, **settings))
    assert [phase.rounds for phase in game.phases()] == [rounds, 75]


def test_an_epoch_of_phase_two_takes_three_minibatches_a_round():
    game = build("ognet", (1, 32, 32), TINY, count=4 * 60)
    assert [game.rounds_in(1, phase) for phase in game.phases()] == [60, 20]


def test_score_is_the_logit_of_the_reconstruction():
    game, x = play(tiny(), images(4, 1, 32, 32)).eval().requires_grad_(False), images(6, 1, 32, 32)
    rebuilt = game.generator(x)
    score, probability = game.score(x), game.discriminator(rebuilt).sigmoid()
    torch.testing.assert_close(score.sigmoid(), probability)
    torch.testing.assert_close(game.reconstruct(x), rebuilt)
    torch.testing.assert_close(game.anomaly_map(x), (x - rebuilt).abs()[:, 0])
