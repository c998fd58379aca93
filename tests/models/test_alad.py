"""ALAD, 2018: the authors' ladders, one round written out plainly, its spectral norms and its score."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from played import assert_equal, build, engine, images, ladder
from torch import nn
from torch.nn.utils import parametrize

from sparring.models.alad import KDD, ALADRecipe
from sparring.protocol import Batch

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def inputs(module: nn.Module) -> list[int]:
    return [layer.in_features for layer in module.modules() if isinstance(layer, nn.Linear)]


def test_ladders_of_the_authors():
    game, x = build("alad", (3, 32, 32)), images(1, 3, 32, 32)
    assert ladder(game.encoder, LAYERS, x) == [(128, 16, 16), (256, 8, 8), (512, 4, 4), (100, 1, 1)]
    made = ladder(game.generator, LAYERS, torch.zeros(1, 100, 1, 1))
    assert made == [(512, 4, 4), (256, 8, 8), (128, 16, 16), (3, 32, 32)]
    assert ladder(game.of_xz.features.of_x, LAYERS, x) == [(128, 16, 16), (256, 8, 8), (512, 4, 4)]
    assert inputs(game.of_xz) == [100, 512, 8192 + 512, 1024]
    assert inputs(game.of_xx) == [128 * 16 * 8]
    assert inputs(game.of_zz) == [200, 64, 32]
    with torch.no_grad():
        assert game.of_xx.features(x, x).shape == (1, 16384), "two images, one above the other"


def test_ladders_of_features():
    game = build("alad", (121,), KDD)
    assert ladder(game.encoder, LAYERS, torch.zeros(2, 121)) == [(64,), (32,)]
    assert ladder(game.generator, LAYERS, torch.zeros(2, 32)) == [(64,), (128,), (121,)]
    assert inputs(game.of_xz) == [121, 32, 256, 128]
    assert inputs(game.of_xx) == [242, 128]
    assert inputs(game.of_zz) == [64, 32]
    assert not any(parametrize.is_parametrized(layer) for layer in game.modules()), "no spectral norm on features"


def test_layers_under_spectral_norm():
    game = build("alad", (1, 16, 16), ALADRecipe(width=2, latent=3, units=4))
    free = [name for name, layer in game.named_modules() if isinstance(layer, LAYERS) and not bound(layer)]
    assert all(name.startswith("generator") for name in free if name not in ENDS)
    assert set(ENDS) <= set(free)
    assert bound(game.of_zz.verdict), "the authors' last layer of D_zz is under it too"
    plain = build("alad", (1, 16, 16), ALADRecipe(width=2, latent=3, units=4, spectral=False, cycle_z=False))
    assert not any(map(bound, plain.modules()))
    assert plain.of_zz is None


ENDS = ("encoder.6", "of_xz.verdict", "of_xx.verdict")


def bound(layer: nn.Module) -> bool:
    return parametrize.is_parametrized(layer)


@pytest.mark.parametrize("shape", [(1, 16, 16), (9,)])
def test_batch_norm_has_the_defaults_of_tensorflow(shape):
    game = build("alad", shape, ALADRecipe(width=2, latent=3, units=4))
    norms = [layer for layer in game.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert {(layer.momentum, layer.eps) for layer in norms} == {(0.01, 1e-3)}


@pytest.mark.parametrize(("count", "settings", "rounds"), [
    (32_000, {}, 100_000), (320, {}, 2_000), (32_000, {"epochs": 2}, 2_000), (100, {"rounds": 7}, 7),
])  # fmt: skip
def test_an_epoch_is_a_pass_of_each_player(count, settings, rounds):
    """The authors' epoch gives the discriminators, and E and G, a step for every minibatch."""
    assert build("alad", (9,), ALADRecipe(**settings), count=count).rounds == rounds


class Given:
    """A latent that is not drawn."""

    def __init__(self, *z):
        self.z = list(z)

    def __call__(self, n):
        return self.z.pop(0)


@pytest.mark.parametrize("cycle", [True, False])
def test_a_round_is_that_of_the_reference(cycle):
    recipe = ALADRecipe(width=2, latent=3, units=4, drop=0.0, spectral=False, cycle_z=cycle)
    game, x = build("alad", (1, 16, 16), recipe).double(), images(6, 1, 16, 16).double()
    z = torch.randn(2, 6, 3, 1, 1, generator=torch.Generator().manual_seed(1)).double()
    other = copy.deepcopy(game).train()
    e, g, xz, xx, zz = other.encoder, other.generator, other.of_xz, other.of_xx, other.of_zz
    adams = {
        part: torch.optim.Adam(part.parameters(), 2e-4, (0.5, 0.999)) for part in (e, g, xz, xx, zz) if part is not None
    }

    def bce(logit, value):
        return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, value))

    def step(losses):
        gradients = {
            part: torch.autograd.grad(loss, list(part.parameters()), retain_graph=True) for part, loss in losses
        }
        for part, values in gradients.items():
            for parameter, value in zip(part.parameters(), values, strict=True):
                parameter.grad = value
            adams[part].step()

    y, code = g(z[0]).detach(), e(x).detach()
    losses = [(xz, bce(xz(x, code), 1.0) + bce(xz(y, z[0]), 0.0))]
    losses += [(xx, bce(xx(x, x), 1.0) + bce(xx(x, g(code).detach()), 0.0))]
    losses += [(zz, bce(zz(z[0], z[0]), 1.0) + bce(zz(z[0], e(y).detach()), 0.0))] if cycle else []
    step(losses)

    y, code = g(z[1]), e(x)
    cycles = bce(xx(x, x), 0.0) + bce(xx(x, g(code)), 1.0)
    if cycle:
        cycles = cycles + bce(zz(z[1], z[1]), 0.0) + bce(zz(z[1], e(y)), 1.0)
    step([(g, bce(xz(y, z[1]), 1.0) + cycles), (e, bce(xz(x, code), 0.0) + cycles)])

    game.latent = Given(*z)
    engine(game, x).play()
    for mine, theirs in ((game.encoder, e), (game.generator, g), (game.of_xz, xz), (game.of_xx, xx)):
        assert_equal(mine, theirs)
    if cycle:
        assert_equal(game.of_zz, zz)


def test_terms_at_an_undecided_discriminator():
    """Section 16.11 for three discriminators: every term is log 2 where every logit is 0."""
    game = build("alad", (1, 16, 16), ALADRecipe(width=2, latent=3, units=4, spectral=False)).train()
    with torch.no_grad():
        for judge in game.judges:
            for parameter in judge.verdict.parameters():
                parameter.zero_()
    first = next(game.round(lambda: Batch(images(4, 1, 16, 16)), 0))
    names = ["real", "fake", "real_xx", "fake_xx", "real_zz", "fake_zz"]
    assert {name: term.item() for name, term in first.terms.items()} == pytest.approx(dict.fromkeys(names, 0.6931472))


@torch.no_grad()
def test_score_by_hand():
    game, x = build("alad", (1, 16, 16), ALADRecipe(width=2, latent=3, units=4)).eval(), images(5, 1, 16, 16)
    y = game.generator(game.encoder(x))
    layers = game.of_xx.features.together
    change = (layers(torch.cat([x, x], 2)) - layers(torch.cat([x, y], 2))).reshape(5, -1)
    torch.testing.assert_close(game.score(x), change.abs().sum(1))
    torch.testing.assert_close(game.anomaly_map(x), (x - y).abs()[:, 0])
