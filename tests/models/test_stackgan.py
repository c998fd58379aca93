"""StackGAN, 2017: published counts and ladders, closed forms, and rounds of both stages written out plainly."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from played import Same, count, images, randomness
from torch import nn

from sparring.engine import Engine
from sparring.errors import UserError
from sparring.models.stackgan import (
    AUTHORS,
    SMALL,
    Augmentation,
    Discriminator,
    First,
    Second,
    StackGAN,
    StackGANRecipe,
    divergence,
)
from sparring.protocol import Batch, Spec

PAPER = StackGANRecipe()
TINY = StackGANRecipe(batch=6, latent=5, condition=4, width=4, discriminator_width=4, blocks=1, rounds=1)
WORDS = 7


def spec(side=32, channels=3, words=WORDS):
    return Spec((channels, side, side), 640, caption=words)


def build(recipe=TINY, side=32):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        game = StackGAN(spec(side), recipe)
        game.listen(torch.randn(40, WORDS))
    return game


class Told(Same):
    """Always the same images, captions and mismatched images."""

    def __call__(self):
        self.position += 1
        captions = torch.randn(len(self.x), WORDS, generator=torch.Generator().manual_seed(3))
        return Batch(self.x, caption=captions, mismatch=-self.x.flip(3))


def test_published_parameter_counts():
    with torch.device("meta"):
        found = [
            First(3, 64, 1024, PAPER),
            Discriminator(3, 64, 1024, PAPER),
            Second(3, 64, 256, 1024, PAPER),
            Discriminator(3, 256, 1024, PAPER),
        ]
    assert [count(network) for network in found] == [14_264_192, 4_029_824, 26_290_080, 48_603_520]


def shapes(network, *inputs):
    """What each convolution puts out, without the batch, on no device at all."""
    found = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, given, output: found.append(tuple(output.shape[1:])))
    network(*(torch.empty(2, *shape, device="meta") for shape in inputs))
    return found


def squares(found):
    """The ladder of the paper: each resolution with the maps that leave it last, by the order of the way."""
    return list(dict.fromkeys(found))


def test_ladders_of_the_authors():
    with torch.device("meta"):
        first, second = First(3, 64, 1024, PAPER), Second(3, 64, 256, 1024, PAPER)
        small, large = Discriminator(3, 64, 1024, PAPER), Discriminator(3, 256, 1024, PAPER)
    up = squares(shapes(first, (100,), (128,), (1024,)))
    assert up == [(256, 4, 4), (1024, 4, 4), (512, 8, 8), (128, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)]
    refined = shapes(second, (3, 64, 64), (128,), (1024,))
    assert squares(refined) == [
        (128, 64, 64), (256, 32, 32), (512, 16, 16), (64, 128, 128), (32, 256, 256), (3, 256, 256),
    ]  # fmt: skip
    assert refined.count((512, 16, 16)) == 1 + 1 + 2 * 4
    assert squares(shapes(small, (3, 64, 64), (1024,))) == [
        (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (128, 4, 4), (1, 1, 1),
    ]  # fmt: skip
    assert squares(shapes(large, (3, 256, 256), (1024,))) == [
        (64, 128, 128), (128, 64, 64), (256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4), (1024, 4, 4),
        (512, 4, 4), (128, 4, 4), (1, 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(("side", "small"), [(32, 16), (64, 32), (128, 32), (256, 64)])
def test_every_size(side, small):
    game = build(replace(TINY, width=4, discriminator_width=4), side).eval().requires_grad_(False)
    assert game.sketch(2).shape == (2, 3, small, small)
    enlarged = game.generate(2, z := game.latent(2), game.known[:2])
    assert enlarged.shape == (2, 3, side, side)
    assert torch.equal(enlarged[:, :, :: side // small, :: side // small], game.sketch(2, z, game.known[:2]))
    game.refiners()
    refined = game.generate(2, z, game.known[:2])
    assert refined.shape == (2, 3, side, side)
    assert not torch.equal(refined, enlarged)
    assert game.discriminator_two(refined, game.known[:2]).shape == (2,)


def test_one_stage_alone():
    game = build(replace(TINY, stages=1), 16).eval()
    assert [phase.name for phase in game.phases()] == ["one"]
    assert game.generate(3).shape == (3, 3, 16, 16)
    assert count(game.generator_two) == 0


def test_divergence_in_closed_form():
    mu, log_sigma = torch.tensor([[0.5, -1.0]], requires_grad=True), torch.tensor([[0.0, math.log(2)]])
    assert divergence(mu[:, :1], log_sigma[:, :1]).item() == pytest.approx(0.125)
    assert divergence(mu[:, 1:], log_sigma[:, 1:]).item() == pytest.approx(1.306853, abs=1e-6)
    assert divergence(mu, log_sigma, "mean").item() == pytest.approx(0.715926, abs=1e-6)
    assert divergence(mu, log_sigma, "sum").item() == pytest.approx(2 * 0.715926, abs=1e-6)
    (gradient,) = torch.autograd.grad(divergence(mu, log_sigma), mu)
    assert torch.allclose(gradient, mu.detach())


def test_augmentation():
    layer = Augmentation(WORDS, replace(TINY, condition=3))
    caption, noise = torch.randn(5, WORDS), torch.randn(5, 3)
    c, mu, log_sigma = layer(caption, noise)
    both = F.linear(caption, layer.layer.weight, layer.layer.bias)
    assert torch.equal(torch.cat([mu, log_sigma], 1), both)
    assert torch.allclose(c, both[:, :3] + both[:, 3:].exp() * noise)
    quirky = Augmentation(WORDS, replace(TINY, condition=3, quirks=True))
    quirky.load_state_dict(layer.state_dict())
    assert torch.allclose(torch.cat(quirky(caption, noise)[1:], 1), F.leaky_relu(both, 0.2))


def test_quirk_of_the_first_discriminator():
    kinds = (nn.LeakyReLU,)
    plain, quirky = (Discriminator(3, 64, WORDS, TINY, bare=bare) for bare in (False, True))
    difference = [sum(isinstance(m, kinds) for m in net.image.modules()) for net in (plain, quirky)]
    assert difference == [6, 5]
    third = [m for m in quirky.image if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU))]
    assert [type(m) for m in third[5:9]] == [nn.Conv2d, nn.BatchNorm2d, nn.Conv2d, nn.BatchNorm2d]
    assert count(plain) == count(quirky)


def engine(game, x):
    return Engine(game, Told(x), Fabric(accelerator="cpu", devices=1))


def bce(logit, target):
    return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, target))


def by_hand(generator, discriminator, make, x, caption, mismatch, kl):
    """A round as the authors' code has it, on copies of the networks: first D, then G."""
    optimizers = [torch.optim.Adam(n.parameters(), 2e-4, (0.5, 0.999)) for n in (discriminator, generator)]
    fake, mu, log_sigma = make()
    real, wrong, made = (discriminator(images, caption) for images in (x, mismatch, fake.detach()))
    terms = {"real": bce(real, 1.0), "mismatch": bce(wrong, 0.0) / 2, "fake": bce(made, 0.0) / 2}
    optimizers[0].zero_grad()
    (terms["real"] + (bce(wrong, 0.0) + bce(made, 0.0)) / 2).backward()
    optimizers[0].step()
    penalty = (-log_sigma + 0.5 * (-1 + torch.exp(2.0 * log_sigma) + mu**2)).mean()
    terms |= {"fooled": bce(discriminator(fake, caption), 1.0), "kl": kl * penalty}
    optimizers[1].zero_grad()
    (terms["fooled"] + terms["kl"]).backward()
    optimizers[1].step()
    return {name: float(value.detach()) for name, value in terms.items()}


def close(one, other):
    """Whether weights agree, but for the bias before a batch norm: its gradient is rounding, which Adam enlarges."""
    pairs = zip(one.named_parameters(), other.parameters(), strict=True)
    return all(torch.allclose(a, b, atol=2e-6) for (name, a), b in pairs if name != "layers.0.bias")


def test_rounds_are_those_of_the_authors():
    game, x = build(), images(6, 3, 32, 32)
    plain = copy.deepcopy(game).train()
    batch = Told(x)()
    caption = (batch.caption - game.centre) / game.spread
    with randomness():
        z, noise, _ = plain.noises(plain.latent(6))
    halved = [F.avg_pool2d(part, 2) for part in (x, batch.mismatch)]
    terms = by_hand(
        plain.generator_one, plain.discriminator_one, lambda: plain.generator_one(z, noise, caption),
        halved[0], caption, halved[1], 2.0,
    )  # fmt: skip
    playing = engine(game, x)
    playing.phases = playing.phases[:1]
    playing.play()
    line = playing.journal.lines[-1]
    found = {name.split("/")[1]: value for name, value in line.items() if "/" in name}
    assert found == pytest.approx(terms, rel=1e-4, abs=1e-6)
    assert close(game.generator_one, plain.generator_one)
    assert close(game.discriminator_one, plain.discriminator_one)
    assert not game.refined

    frozen = {key: value.clone() for key, value in game.generator_one.state_dict().items()}
    plain = copy.deepcopy(game).train()
    playing = engine(game, x)
    playing.phase = 1
    with torch.random.fork_rng([]):
        playing._seed(0)
        z, first, second = plain.noises(plain.latent(6))
    with torch.no_grad():
        rough, _, _ = plain.generator_one.eval()(z, first, caption)
    by_hand(
        plain.generator_two, plain.discriminator_two, lambda: plain.generator_two(rough, second, caption),
        x, caption, batch.mismatch, 2.0,
    )  # fmt: skip
    playing.play()
    assert close(game.generator_two, plain.generator_two)
    assert close(game.discriminator_two, plain.discriminator_two)
    for key, value in game.generator_one.state_dict().items():
        assert torch.equal(value, frozen[key]), f"stage I is frozen, and {key} moved"
    assert game.refined


def test_the_learning_rate_is_halved():
    recipe = StackGANRecipe(batch=64, epochs=6, halve=(2, 3), width=4, discriminator_width=4)
    one, two = StackGAN(spec(), recipe).phases()
    assert (one.rounds, two.rounds) == (60, 60), "10 rounds an epoch"
    assert [one.rate(step) for step in (0, 19, 20, 39, 40)] == [1, 1, 0.5, 0.5, 0.25]
    assert [two.rate(step) for step in (0, 29, 30, 59)] == [1, 1, 0.5, 0.5]
    short = StackGAN(spec(), replace(recipe, epochs_second=2))
    assert [phase.rounds for phase in short.phases()] == [60, 20]
    assert [phase.rounds for phase in StackGAN(spec(), replace(short.recipe, rounds=7)).phases()] == [7, 7]
    assert (SMALL.epochs, SMALL.epochs_second, SMALL.near) == (40, 15, 0.5)
    assert build(replace(TINY, near=0.25)).near == 0.25
    assert (AUTHORS.halve, AUTHORS.captions, AUTHORS.quirks) == ((50, 100), 4, True)


def test_embeddings_of_any_scale_are_heard_alike():
    captions, x = torch.randn(40, WORDS) * torch.rand(WORDS) + torch.randn(WORDS), images(6, 3, 32, 32)
    found = []
    for scale, shift in ((1.0, 0.0), (0.01, 5.0)):
        game = build()
        game.listen(captions * scale + shift)
        heard = game.heard(captions * scale + shift)
        assert heard.mean(0).abs().max() < 1e-3
        assert heard.square().mean().item() == pytest.approx(1, rel=1e-3)
        said = Batch(x, caption=captions[:6] * scale + shift, mismatch=x.flip(0))
        with torch.random.fork_rng([]):
            torch.manual_seed(1)
            terms = [next(play(lambda said=said: said, 0)).terms for play in (game.round, game.refine)]
            game.refiners()
            game.eval()
            made = game.generate(6, game.latent(6), said.caption)
        found.append([*terms[0].values(), *terms[1].values(), made])
    assert len(found[0]) == 7
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_the_last_stage_is_averaged():
    """Stage II learns from stage I by the weights that stage I is used with afterwards."""
    assert build().averages == ("generator_two",)
    assert build(replace(TINY, stages=1), 16).averages == ("generator_one",)


def test_captions_are_recalled():
    game = build()
    rows = {tuple(row) for row in game.known.tolist()}
    assert len(rows) == 40, "of fewer than 256, each stays"
    assert {tuple(row) for row in game.recall(30).tolist()} <= rows


def test_data_that_are_refused():
    with pytest.raises(UserError, match="these data have none: add texts"):
        StackGAN(spec(words=0), TINY)
    with pytest.raises(UserError, match="a power of two from 32 to 256, not on 16 pixels"):
        StackGAN(spec(16), TINY)
    with pytest.raises(UserError, match="stackgan works on images"):
        StackGAN(Spec((20,), 100, caption=WORDS), TINY)


@pytest.mark.parametrize(("native", "side"), [(8, 32), (33, 64), (65, 128), (900, 256)])
def test_fit_side(native, side):
    assert StackGAN.fit_side(native, PAPER) == side
