"""GANomaly, 2018: published counts and ladders, its losses, its reset, its score, and a step written out plainly."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from played import assert_equal, build, count, images, ladder, play, randomness
from torch import nn

from sparring.models import find
from sparring.models.ganomaly import AUTHORS_CODE, GANomalyRecipe
from sparring.protocol import Batch, Spec

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
TINY = GANomalyRecipe(width=4, latent=6)


def tiny(norm="l1"):
    return build("ganomaly", (1, 16, 16), GANomalyRecipe(width=4, latent=6, norm=norm))


@pytest.mark.parametrize(
    ("shape", "generator", "discriminator"),
    [((3, 32, 32), 3_206_528, 663_296), ((1, 32, 32), 3_200_384, 661_248), ((3, 64, 64), 10_729_856, 2_765_568)],
)
def test_published_parameter_counts(shape, generator, discriminator):
    game = build("ganomaly", shape)
    assert sum(map(count, (game.encoder, game.decoder, game.reencoder))) == generator
    assert count(game.discriminator) == discriminator
    if shape == (3, 32, 32):
        assert (count(game.encoder), count(game.decoder)) == (1_068_800, 1_068_928)


def test_ladder():
    game, x = build("ganomaly", (3, 32, 32)), images(1, 3, 32, 32)
    down = [(64, 16, 16), (128, 8, 8), (256, 4, 4)]
    assert ladder(game.encoder, CONVOLUTIONS, x) == [*down, (100, 1, 1)]
    assert ladder(game.reencoder, CONVOLUTIONS, x) == [*down, (100, 1, 1)]
    assert ladder(game.discriminator, CONVOLUTIONS, x) == [*down, (1, 1, 1)]
    up = [(256, 4, 4), (128, 8, 8), (64, 16, 16), (3, 32, 32)]
    assert ladder(game.decoder, CONVOLUTIONS, torch.zeros(1, 100, 1, 1)) == up


def test_losses_at_identity():
    """Section 16.13: where the image and the code survive, all three losses of the generator are 0."""
    game = tiny().train()
    game.encoder, game.decoder, game.reencoder = nn.Identity(), nn.Identity(), nn.Identity()
    update, _ = next(game.round(lambda: Batch(images(4, 1, 16, 16)), 0))
    assert {name: term.item() for name, term in update.terms.items()} == {
        "adversarial": 0.0, "contextual": 0.0, "encoder": 0.0,
    }  # fmt: skip


def test_losses_are_weighted():
    x, terms = images(4, 1, 16, 16), []
    for recipe in (TINY, GANomalyRecipe(width=4, latent=6, adversarial=3, contextual=5, encoder=7)):
        game = build("ganomaly", (1, 16, 16), recipe)
        terms.append(next(game.round(lambda: Batch(x), 0))[0].terms)
    for name, ratio in {"adversarial": 3, "contextual": 0.1, "encoder": 7}.items():
        assert terms[1][name].item() == pytest.approx(ratio * terms[0][name].item(), rel=1e-5)


def test_two_rounds_are_those_of_the_reference():
    """The authors' order: both passes of D before the generator's step, then its own step on the earlier pass."""
    game, x = tiny(), images(6, 1, 16, 16)
    other = copy.deepcopy(game).train()
    made_by = [p for part in (other.encoder, other.decoder, other.reencoder) for p in part.parameters()]
    g_adam = torch.optim.Adam(made_by, 2e-4, (0.5, 0.999))
    d_adam = torch.optim.Adam(other.discriminator.parameters(), 2e-4, (0.5, 0.999))
    bce = nn.BCELoss()

    def judged(image):
        features = other.discriminator.features(image)
        return other.discriminator.last(features).sigmoid().flatten(), features

    for _ in range(2):
        z = other.encoder(x)
        y = other.decoder(z)
        again = other.reencoder(y)
        (real, _), (fake, _) = judged(x), judged(y.detach())
        g_adam.zero_grad()
        adversarial = F.mse_loss(judged(x)[1], judged(y)[1])
        (1 * adversarial + 50 * F.l1_loss(y, x) + 1 * F.mse_loss(z, again)).backward()
        g_adam.step()
        d_adam.zero_grad()
        ((bce(real, torch.ones(6)) + bce(fake, torch.zeros(6))) * 0.5).backward()
        d_adam.step()
    play(game, x, 2)
    assert_equal(game.encoder, other.encoder)
    assert_equal(game.decoder, other.decoder)
    assert_equal(game.reencoder, other.reencoder)
    assert_equal(game.discriminator, other.discriminator)


def finish_round(game, loss):
    """Play a round by hand without any step, and tell the discriminator that this was its loss."""
    play_ = game.round(lambda: Batch(images(4, 1, 16, 16)), 0)
    next(play_)
    with pytest.raises(StopIteration):
        play_.send(torch.tensor([1.0, loss]))


def weights(game):
    return {key: value.detach().clone() for key, value in game.discriminator.named_parameters()}


def test_reset_fires_where_the_loss_is_tiny():
    game = tiny().train()
    before = weights(game)
    finish_round(game, 2e-5)
    assert int(game.resets) == 0
    assert all(torch.equal(value, before[key]) for key, value in weights(game).items())
    finish_round(game, 0.9e-5)
    assert int(game.resets) == 1
    assert not any(torch.equal(value, before[key]) for key, value in weights(game).items() if "bias" not in key)
    assert all(0.01 < float(p.std()) < 0.03 for key, p in weights(game).items() if p.numel() > 200)
    norms = [layer for layer in game.discriminator.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    assert all(not layer.running_mean.any() and (layer.running_var == 1).all() for layer in norms)


def test_reset_is_the_same_on_every_process():
    games = [tiny().train(), build("ganomaly", (1, 16, 16), TINY).train()]
    torch.manual_seed(1)
    finish_round(games[0], 0.0)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in games[1].parameters():
            parameter.normal_()
    finish_round(games[1], 0.0)
    first = weights(games[0])
    assert all(torch.equal(value, first[key]) for key, value in weights(games[1]).items())
    finish_round(games[1], 0.0)
    assert int(games[1].resets) == 2
    assert not all(torch.equal(value, first[key]) for key, value in weights(games[1]).items()), "another one each time"


def test_reset_leaves_the_rest_alone():
    game = tiny().train()
    before = {key: value.clone() for key, value in game.encoder.named_parameters()}
    finish_round(game, 0.0)
    assert all(torch.equal(value, before[key]) for key, value in game.encoder.named_parameters())


@torch.no_grad()
def test_score_and_map_by_hand():
    x = images(5, 1, 16, 16)
    for norm in ("l1", "l2"):
        game = tiny(norm).eval()
        z = game.encoder(x)
        y = game.decoder(z)
        change = (z - game.reencoder(y)).reshape(5, 6)
        expected = change.abs().sum(1) if norm == "l1" else change.pow(2).mean(1)
        torch.testing.assert_close(game.score(x), expected)
        torch.testing.assert_close(game.anomaly_map(x), (x - y)[:, 0].abs())
        torch.testing.assert_close(game.reconstruct(x), y)
    assert AUTHORS_CODE.norm == "l2"


def test_a_score_knows_nothing_of_its_batch():
    """Section 16.20: in eval mode the company does not count; in train mode it does, hence the rule."""
    norm = nn.BatchNorm1d(1, affine=False, eps=1e-12)
    near, far = torch.tensor([[-0.1], [0.1]]), torch.tensor([[4.9], [5.1]])
    assert norm(near).mean().item() == pytest.approx(0, abs=1e-5)
    assert norm(far).mean().item() == pytest.approx(0, abs=1e-5)
    mixed = norm(torch.cat([near, far])).flatten()
    assert mixed.tolist() == pytest.approx([-1, -1, 1, 1], abs=0.05)

    game, x = play(tiny(), images(6, 1, 16, 16)), images(6, 1, 16, 16)
    strangers = torch.ones(6, 1, 16, 16)
    game.requires_grad_(False).eval()
    torch.testing.assert_close(game.score(torch.cat([x, strangers]))[:6], game.score(x))
    game.train()
    assert not torch.allclose(game.score(torch.cat([x, strangers]))[:6], game.score(x), rtol=1e-2)


def test_features_are_standardised():
    game = build("ganomaly", (4,), TINY)
    x = torch.randn(100, 4) * torch.tensor([1.0, 10.0, 0.1, 0.0]) + torch.tensor([0.0, 50.0, 1.0, 3.0])
    game.prepare(x)
    standard = game.standardise(x)
    torch.testing.assert_close(standard.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(standard.std(0, correction=0), torch.tensor([1.0, 1.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    assert not any(p.requires_grad for p in game.standardise.parameters())
    assert {"standardise.mean", "standardise.scale"} <= game.state_dict().keys(), "saved with the weights"


@pytest.mark.parametrize(
    ("count", "settings", "rounds"),
    [(4736, {}, 370), (192, {}, 350), (192, {"epochs": 15}, 45), (192, {"rounds": 7}, 7)],
)
def test_small_sets_are_learnt_too(count, settings, rounds):
    game = find("ganomaly").game(Spec((1, 16, 16), count), GANomalyRecipe(width=4, latent=6, **settings))
    assert game.rounds == rounds


def compared(score, **settings):
    return build("ganomaly", (1, 16, 16), GANomalyRecipe(width=4, latent=6, score=score, **settings))


@torch.no_grad()
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_what_is_compared(norm):
    x, found = images(5, 1, 16, 16), {}
    for score in ("code", "restored", "features", "all"):
        game = compared(score, norm=norm).eval()
        game.usual.copy_(torch.tensor([2.0, 4.0, 8.0]))
        found[score] = game.score(x)
    z = game.encoder(x)
    y = game.decoder(z)
    read = game.discriminator.features
    for score, change in {"code": z - game.reencoder(y), "restored": x - y, "features": read(x) - read(y)}.items():
        change = change.flatten(1)
        torch.testing.assert_close(found[score], change.abs().sum(1) if norm == "l1" else change.pow(2).mean(1))
    torch.testing.assert_close(found["all"], found["code"] / 2 + found["restored"] / 4 + found["features"] / 8)


def test_usual_sizes_are_running_means():
    """Round k counts for 1 / (k + 1), later for a hundredth; they are saved, and stay 1 where nothing is added up."""
    x, sizes = images(6, 1, 16, 16), []
    for rounds in (1, 2):
        game = compared("all")
        first = copy.deepcopy(game).train()
        play(game, x, rounds)
        sizes.append(game.usual.clone())
    z = first.encoder(x)
    y = first.decoder(z)
    read = first.discriminator.features
    now = [(z - first.reencoder(y)), (x - y), (read(x) - read(y))]
    expected = torch.stack([change.flatten(1).abs().sum(1).mean() for change in now])
    torch.testing.assert_close(sizes[0], expected.detach(), rtol=1e-4, atol=0)
    assert not torch.allclose(sizes[1], sizes[0], rtol=1e-4)
    assert "usual" in game.state_dict()
    assert torch.equal(play(tiny(), x).usual, torch.ones(3))


def test_noise_reaches_the_generator_alone():
    x, seen = images(6, 1, 16, 16), {}
    game = compared("code", noise=0.5).train()
    for name in ("encoder", "discriminator"):
        part = getattr(game, name).features
        part.register_forward_pre_hook(lambda layer, inputs, name=name: seen.setdefault(name, inputs[0].clone()))
    with randomness():
        drawn = torch.randn_like(x)
    with randomness():
        next(game.round(lambda: Batch(x), 0))
    torch.testing.assert_close(seen["encoder"], x + 0.5 * drawn)
    assert torch.equal(seen["discriminator"], x)
