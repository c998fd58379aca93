"""OpenGAN, 2021: published counts, positions as rows, both orders of its step written out plainly, what it keeps."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from played import assert_equal, build, count, images, play, randomness
from torch import nn

from sparring.engine import Engine
from sparring.errors import UserError
from sparring.losses import is_fake
from sparring.models.dcgan import FOUR
from sparring.models.opengan import AUTHORS_CODE, CLOSED_OPEN, SEGMENTATION, OpenGANRecipe
from sparring.nets.outliers import synthetic
from sparring.protocol import Batch, Generates

TINY = OpenGANRecipe(batch=8, latent=5, hidden=(12, 7), units=(10, 6, 4))


def features(n: int, width: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed)).abs() * 3


class Both:
    """Always the same minibatch, with outliers."""

    def __init__(self, x, outlier):
        self.batch, self.position, self.waited = Batch(x, outlier=outlier), 0, 0.0

    def __call__(self):
        self.position += 1
        return self.batch


def play_both(game, x, outlier, rounds=1):
    engine = Engine(game, Both(x, outlier), Fabric(accelerator="cpu", devices=1))
    engine.phases = [replace(phase, rounds=rounds, keep=None) for phase in engine.phases]
    engine.play()
    return game


def play_alone(game, x, rounds=1):
    return play_both(game, x, None, rounds)


@pytest.mark.parametrize(
    ("width", "recipe", "generator", "discriminator"),
    [(512, OpenGANRecipe(), 381_696, 435_136), (720, SEGMENTATION, 417_872, 542_593)],
)
def test_published_parameter_counts(width, recipe, generator, discriminator):
    game = build("opengan", (width,), recipe)
    assert (count(game.generator), count(game.discriminator)) == (generator, discriminator)


def as_convolutions(network: nn.Sequential) -> nn.Sequential:
    """The same network as the authors write it: 1x1 convolutions and batch norm over positions."""
    layers = []
    for layer in network:
        if isinstance(layer, nn.Linear):
            other = nn.Conv2d(layer.in_features, layer.out_features, 1, bias=layer.bias is not None)
            other.load_state_dict({k: v[..., None, None] if v.ndim == 2 else v for k, v in layer.state_dict().items()})
        elif isinstance(layer, nn.BatchNorm1d):
            other = nn.BatchNorm2d(layer.num_features)
            other.load_state_dict(layer.state_dict())
        else:
            other = layer
        layers.append(other)
    return nn.Sequential(*layers).train(network.training)


def test_layers_are_convolutions_of_size_1():
    """Section 16.15: on (B, 512, 1, 1) the discriminator is a perceptron with the same weights."""
    game, x = build("opengan", (512,), AUTHORS_CODE), features(16, 512)
    play_alone(game, x)  # so that the running statistics are some
    other = as_convolutions(game.discriminator)
    for network in (game, other):
        network.train()
    torch.testing.assert_close(game.discriminator(x), other(x[..., None, None]).flatten(), atol=1e-6, rtol=1e-5)
    game.eval(), other.eval()
    torch.testing.assert_close(-game.score(x), other(x[..., None, None]).flatten(), atol=1e-6, rtol=1e-5)


def test_a_map_is_scored_position_by_position():
    game, x = build("opengan", (12,), TINY).eval(), features(2 * 5 * 7, 12).view(2, 5, 7, 12)
    found = game.score_map(x.permute(0, 3, 1, 2))
    assert found.shape == (2, 5, 7)
    torch.testing.assert_close(found[1, 3, 2], game.score(x[1, 3, 2][None])[0])
    torch.testing.assert_close(
        found.flatten(),
        -as_convolutions(game.discriminator)(x.permute(0, 3, 1, 2)).flatten(),
        atol=1e-6,
        rtol=1e-5,
    )


def test_without_outliers_the_step_is_that_of_dcgan():
    """Section 16.15: lambda_o = 0 on pixels is the discriminator's step of DCGAN, bit for bit."""
    x = images(6, 1, 16, 16)
    other = build("dcgan", (1, 16, 16), replace(FOUR, width=4, latent=5, rate=1e-4))
    game = build("opengan", (1, 16, 16), replace(AUTHORS_CODE, width=4, latent=5, slower=1.0))
    game.load_state_dict(other.state_dict())
    play_alone(game, x, 2)
    play(other, x, 2)
    expected = other.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in game.state_dict().items())


def adams(game):
    return (
        torch.optim.Adam(game.discriminator.parameters(), 1e-4 / 1.5, (0.5, 0.999)),
        torch.optim.Adam(game.generator.parameters(), 1e-4, (0.5, 0.999)),
    )


def ones(logit):
    return nn.functional.binary_cross_entropy(logit.sigmoid(), torch.ones_like(logit))


def zeros(logit):
    return nn.functional.binary_cross_entropy(logit.sigmoid(), torch.zeros_like(logit))


def test_two_rounds_are_those_of_the_authors():
    """Their classification notebook: backward on real, backward on made, step; then the generator, on a new pass."""
    recipe, x = replace(TINY, separate=True, standardise=False, outlier=0.0), features(8, 12)
    game = build("opengan", (12,), recipe)
    other = copy.deepcopy(game).train()
    d_adam, g_adam = adams(other)
    for step in range(2):
        with randomness(step):
            y = other.generator(torch.randn(8, 5))
        d_adam.zero_grad()
        ones(other.discriminator(x)).backward()
        zeros(other.discriminator(y.detach())).backward()
        d_adam.step()
        g_adam.zero_grad()
        ones(other.discriminator(y)).backward()
        g_adam.step()
    play_both(game, x, features(8, 12, 4), 2)  # outliers of weight 0 do not enter
    assert_equal(game.generator, other.generator)
    assert_equal(game.discriminator, other.discriminator)
    for a, b in zip(game.discriminator.buffers(), other.discriminator.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_two_rounds_are_those_of_the_segmentation_notebook():
    """One mean over closed, open and half as many made examples, of weight 0.2 each; then the made ones alone.

    Ours are 2.5 times theirs, which Adam does not see.
    """
    recipe = replace(TINY, standardise=False, fake=SEGMENTATION.fake, made=SEGMENTATION.made, alone=True)
    x, outlier = features(8, 12), features(8, 12, 4)
    game = build("opengan", (12,), recipe)
    other = copy.deepcopy(game).train()
    d_adam, g_adam = adams(other)
    weight = torch.cat([torch.ones(16), torch.full((4,), 0.2)])
    truth = torch.cat([torch.ones(8), torch.zeros(12)])
    for step in range(2):
        with randomness(step):
            y = other.generator(torch.randn(4, 5))
        d_adam.zero_grad()
        probability = other.discriminator(torch.cat([x, outlier, y.detach()])).sigmoid()
        (2.5 * nn.functional.binary_cross_entropy(probability, truth, weight)).backward()
        d_adam.step()
        g_adam.zero_grad()
        ones(other.discriminator(y)).backward()
        g_adam.step()
    play_both(game, x, outlier, 2)
    assert SEGMENTATION.alone
    assert_equal(game.generator, other.generator)
    assert_equal(game.discriminator, other.discriminator)


def test_two_rounds_of_one_batch():
    """Ours: one pass over closed, open and made examples in the turns of both players."""
    recipe, x, outlier = replace(TINY, outlier=0.5, fake=0.2), features(8, 12), features(8, 12, 4)
    game = build("opengan", (12,), recipe)
    game.prepare(x)
    other = copy.deepcopy(game).train()
    d_adam, g_adam = adams(other)
    mean, deviation = x.mean(0), x.var(0, correction=0).mean().sqrt()
    closed, open_ = (x - mean) / deviation, (outlier - mean) / deviation
    for step in range(2):
        with randomness(step):
            y = other.generator(torch.randn(8, 5))
        logit = other.discriminator(torch.cat([closed, open_, y.detach()]))
        d_adam.zero_grad()
        (ones(logit[:8]) + 0.5 * zeros(logit[8:16]) + 0.2 * zeros(logit[16:])).backward()
        d_adam.step()
        g_adam.zero_grad()
        ones(other.discriminator(torch.cat([closed, open_, y]))[16:]).backward()
        g_adam.step()
    play_both(game, x, outlier, 2)
    assert_equal(game.generator, other.generator)
    assert_equal(game.discriminator, other.discriminator)


def test_a_closed_open_classifier_makes_nothing():
    game = build("opengan", (12,), replace(TINY, fake=0.0))
    assert not isinstance(game, Generates)
    assert isinstance(build("opengan", (12,), TINY), Generates)
    assert list(game.players()) == ["discriminator"]
    assert game.needed(CLOSED_OPEN) == ("x", "outlier")
    (update,) = game.round(Both(features(8, 12), features(8, 12, 4)), 0)
    assert list(update.terms) == ["real", "outlier"]
    with pytest.raises(UserError, match="one weight must be above 0"):
        game.needed(replace(CLOSED_OPEN, outlier=0.0))


def test_outliers_may_be_made_of_the_minibatch():
    """A third of each kind, of the standardised features, beside the real outliers and in the same batch."""
    x, label, outlier = features(9, 12), torch.arange(9) % 3, features(9, 12, 4)
    game = build("opengan", (12,), replace(TINY, fake=0.0, synthetic=0.5, norm="none"))
    torch.manual_seed(3)
    (update,) = game.round(lambda: Batch(x, label, outlier=outlier), 0)
    torch.manual_seed(3)
    mixed, shuffled, noisy = synthetic(x, label).values()
    made = game.discriminator(torch.cat([mixed[::3], shuffled[1::3], noisy[2::3]]))
    assert list(update.terms) == ["real", "synthetic", "outlier"]
    torch.testing.assert_close(update.terms["synthetic"], 0.5 * is_fake(made))
    torch.testing.assert_close(update.terms["outlier"], is_fake(game.discriminator(outlier)))
    assert game.needed(replace(CLOSED_OPEN, outlier=0.0, synthetic=1.0)) == ("x",)


def test_features_after_a_relu():
    """With this output nothing negative is made, whatever the units of the features; the linear one may."""
    x = features(64, 12)
    for standardise in (True, False):
        games = [build("opengan", (12,), replace(TINY, output=o, standardise=standardise)) for o in ("linear", "relu")]
        made = []
        for game in games:
            game.prepare(x)
            nn.init.normal_(game.generator[-1].weight, std=10)
            made.append(game.generate(50))
        assert made[0].min() < -0.1
        assert made[1].min() >= -1e-5


def test_one_scale_for_all_features():
    """What is far apart stays far apart: a feature that hardly moves is not blown up."""
    x = features(64, 12) * torch.tensor([100.0, *[1.0] * 11])
    game = build("opengan", (12,), TINY)
    game.prepare(x)
    y = game.standardise(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(12), atol=1e-5, rtol=0)
    assert y.square().mean().item() == pytest.approx(1)
    torch.testing.assert_close(torch.cdist(y, y), torch.cdist(x, x) / game.standardise.scale[0], atol=1e-2, rtol=1e-2)


def test_another_scale_changes_nothing():
    """An encoder whose features come out ten times as large gives the same scores: the statistics are the run's."""
    x, scores = features(64, 12), []
    for scale in (1.0, 10.0):
        game = build("opengan", (12,), TINY)
        game.prepare(scale * x)
        scores.append(play_alone(game, scale * x, 3).eval().score(scale * x))
    torch.testing.assert_close(*scores, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(12,), (1, 16, 16)])
@pytest.mark.parametrize("norm", ["batch", "none", "spectral"])
def test_norms(shape, norm):
    x = images(8, *shape)
    game = play_alone(build("opengan", shape, replace(TINY, norm=norm, width=4)), x, 3)
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    assert any(isinstance(m, kinds) for m in game.discriminator.modules()) == (norm == "batch")
    assert any(isinstance(m, kinds) for m in game.generator.modules())
    if norm == "spectral":
        layers = [m for m in game.discriminator.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
        game.train().score(x)
        for layer in layers:
            largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
            assert largest.item() == pytest.approx(1, abs=0.2)
        assert len(layers) == (4 if shape == (12,) else 3)


def test_the_best_by_validation_is_kept():
    game, seen = build("opengan", (12,), TINY), {}

    def judge(game, phase, done):
        seen[done] = {key: value.clone() for key, value in game.state_dict().items()}
        return {"auroc": {1: 0.2, 2: 0.9, 3: 0.5}[done]}

    engine = Engine(game, Both(features(8, 12), None), Fabric(accelerator="cpu", devices=1), judge=judge)
    engine.phases = [replace(phase, rounds=3) for phase in engine.phases]
    engine.play()
    assert all(torch.equal(value, seen[2][key]) for key, value in game.state_dict().items())


def test_what_never_ended_is_not_averaged():
    """Nine rounds of two an epoch: four epochs end before the last one, whatever is asked for."""
    x = features(8, 12)
    game, other = (build("opengan", (12,), replace(TINY, late=late, rounds=9), count=16) for late in (5, 50))
    assert len(game.elders) == len(other.elders) == 4
    for one in (game, other):
        play_alone(one, x, 9)
    torch.testing.assert_close(game.eval().score(x), other.eval().score(x))


def test_refusals():
    with pytest.raises(UserError, match="a number >= 2"):
        replace(TINY, batch=1)  # batch norm


def test_late_epochs_are_averaged():
    """The score is the mean logit of the discriminators that ended the last epochs, the present one among them."""
    x, seen = features(8, 12), []
    game = build("opengan", (12,), replace(TINY, late=3, rounds=9), count=16)  # two rounds an epoch

    def judge(game, phase, done):
        seen.append(copy.deepcopy(game.discriminator))
        return {}

    play = Engine(game, Both(x, None), Fabric(accelerator="cpu", devices=1), judge=judge, look_every=1)
    assert play.phases[0].keep is None
    play.play()
    game.eval()
    logits = [seen[done - 1](x) for done in (5, 7, 9)]
    torch.testing.assert_close(game.score(x), -torch.stack(logits).mean(0))
    assert count(game) == count(game.discriminator) + count(game.generator)
