"""CGAN, 2014: the networks of section 4.1, and two rounds written out plainly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from played import count, images, randomness
from torch import nn

from sparring.errors import UserError
from sparring.models.cgan import CGAN, CGANRecipe
from sparring.protocol import Spec
from sparring.testing import TinyDraw
from sparring.testing.rig import Case

DIGITS = Spec((1, 28, 28), 50_000, tuple("0123456789"))
THREE = Spec((1, 4, 4), 1000, ("a", "b", "c"))
TINY = CGANRecipe(batch=10, latent=4, hidden=(5, 6, 12), units=(6, 4, 5))


def tiny(spec=THREE, **changes):
    return Case("cgan", CGAN, replace(TINY, **changes), spec).build().eval().requires_grad_(False)


def test_networks_of_the_paper():
    """Section 4.1: widths 200, 1000 and 1200; maxout 240 x 5, 50 x 5 and 240 x 4."""
    game = CGAN(DIGITS, CGANRecipe())
    assert count(game.generator) == (100 + 1) * 200 + (10 + 1) * 1000 + (1200 + 1) * 1200 + (1200 + 1) * 784
    assert count(game.discriminator) == (784 + 1) * 1200 + (10 + 1) * 250 + (290 + 1) * 960 + (240 + 1)
    for network in (game.generator, game.discriminator):
        assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


def plain_generator(w, z, y):
    h = torch.cat([F.relu(F.linear(z, w["z.0.weight"], w["z.0.bias"])),
                   F.relu(F.linear(y, w["label.1.weight"], w["label.1.bias"]))], 1)  # fmt: skip
    h = F.relu(F.linear(F.dropout(h, 0.5), w["joint.1.weight"], w["joint.1.bias"]))
    return torch.sigmoid(F.linear(F.dropout(h, 0.5), w["joint.4.weight"], w["joint.4.bias"]))


def plain_discriminator(w, x, y):
    def maxout(x, name, pieces):
        h = F.linear(x, w[f"{name}.linear.weight"], w[f"{name}.linear.bias"])
        return h.view(len(x), -1, pieces).max(2).values

    h = torch.cat([maxout(x, "x", 5), maxout(y, "label.1", 5)], 1)
    h = maxout(F.dropout(h, 0.5), "joint.1", 4)
    return F.linear(F.dropout(h, 0.5), w["joint.3.weight"], w["joint.3.bias"])[:, 0]


def bce(logit, target):
    return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, target))


def test_two_rounds_are_the_papers():
    """One y for real and made data; both gradients at the same weights; SGD with rising momentum, falling rate."""
    engine, draw = Case("cgan", CGAN, TINY, THREE).engine(rounds=2), TinyDraw(THREE, 10)
    networks = engine.game.generator, engine.game.discriminator
    with torch.no_grad():  # large enough to show every difference
        for network, factor in zip(networks, (10, 60), strict=True):
            for parameter in network.parameters():
                parameter.copy_(parameter * factor + 0.01)
    g, d = ({name: p.detach().clone().requires_grad_() for name, p in n.named_parameters()} for n in networks)
    velocity = {id(p): torch.zeros_like(p) for w in (g, d) for p in w.values()}
    for step in range(2):
        batch = draw()
        x, label = (batch.x.flatten(1) + 1) / 2, torch.eye(3)[batch.label]
        with randomness(step):
            made = plain_generator(g, (2 * torch.rand(10, 4) - 1) * math.sqrt(3), label)
            real, fake = plain_discriminator(d, x, label), plain_discriminator(d, made, label)
        blame = torch.autograd.grad((bce(real, 1.0) + bce(fake, 0.0)) / 2, d.values(), retain_graph=True)
        praise = torch.autograd.grad(bce(fake, 1.0), g.values())
        rate, momentum = 0.1 / 1.00004**step, 0.5 + 0.2 * step / 25_000
        with torch.no_grad():
            for p, slope in zip([*d.values(), *g.values()], [*blame, *praise], strict=True):
                velocity[id(p)].mul_(momentum).add_(slope)
                p -= rate * velocity[id(p)]
    engine.play()
    for network, plain in zip(networks, (g, d), strict=True):
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(parameter, plain[name], atol=1e-6, rtol=1e-5)


def test_schedules_are_the_papers():
    (phase,) = CGAN(DIGITS, CGANRecipe()).phases()
    assert phase.rate(0) == 1
    assert phase.rate(1) == pytest.approx(1 / 1.00004)
    assert 0.1 * phase.rate(10**7) == pytest.approx(1e-6)
    assert (phase.momentum(0), phase.momentum(10**6)) == (0.5, pytest.approx(0.7))
    assert phase.momentum(500 * 125) == pytest.approx(0.6)
    assert phase.rounds == 500 * 250


def test_prior_and_range():
    game = tiny()
    z, edge = game.latent(5000), math.sqrt(3)  # of variance 1
    assert z.shape == (5000, 4)
    assert -edge <= float(z.min()) < -0.999 * edge
    assert 0.999 * edge < float(z.max()) <= edge
    cube = tiny(prior="cube").latent(5000)
    assert 0 <= float(cube.min()) < 0.001 < 0.999 < float(cube.max()) <= 1
    y = game.generate(7)
    assert y.shape == (7, 1, 4, 4)
    assert float(y.abs().max()) <= 1


def test_the_label_is_obeyed_and_checked():
    game, label = tiny(), torch.tensor([2, 0, 1])
    z = game.latent(3)
    y = game.generate(3, z, label)
    torch.testing.assert_close(game.generate(2, z[1:], label[1:]), y[1:])
    assert not torch.equal(game.generate(3, z, label.flip(0))[1], game.generate(3, z, label.roll(1))[1])
    with pytest.raises(UserError, match=r"3 examples need 3 labels; got a tensor of shape \(2,\)"):
        game.generate(3, z, label[:2])
    for wrong in (torch.tensor([0, 1, 3]), torch.tensor([0, 1, -1])):
        with pytest.raises(UserError, match="class numbers from 0 to 2"):
            game.generate(3, z, wrong)
    assert game.generate(0, z[:0], label[:0]).shape == (0, 1, 4, 4)


def test_labels_are_drawn_uniformly_where_none_are_given():
    game = tiny()
    z = game.latent(1)
    of_class = [game.generate(1, z, torch.tensor([k])) for k in range(3)]
    y = game.generate(3000, z.expand(3000, -1))
    found = torch.stack([(y - one).flatten(1).abs().amax(1) < 1e-6 for one in of_class])
    assert (found.sum(0) == 1).all()
    assert found.float().mean(1).tolist() == pytest.approx([1 / 3] * 3, abs=0.04)


def test_first_weights_and_first_output():
    game, x = CGAN(DIGITS, CGANRecipe()), images(200, 1, 28, 28) * 0.5 + 0.3
    g, d = game.generator, game.discriminator
    for part, half in ((g, 0.05), (d.x, 0.005), (d.joint, 0.005)):
        for layer in part.modules():
            if isinstance(layer, nn.Linear):
                assert float(layer.weight.detach().abs().max()) == pytest.approx(half, rel=0.05)
                assert not layer.bias.any()
    assert float(d.label[1].linear.weight.detach().abs().max()) == pytest.approx(math.sqrt(1 / 10), rel=0.05)
    game.prepare(x)
    torch.testing.assert_close(game.generator.joint[-2].bias.sigmoid() * 2 - 1, x.flatten(1).mean(0), atol=1e-5, rtol=0)


def test_features_of_any_scale():
    spec = Spec((3,), 1000, ("a", "b"))
    game = CGAN(spec, TINY).eval().requires_grad_(False)
    x = torch.tensor([1000.0, 0.0, -3.0]) + torch.tensor([50.0, 1e-3, 1.0]) * torch.randn(500, 3)
    game.prepare(x)
    rows = game.standardise(x)
    assert rows.mean(0).tolist() == pytest.approx([0, 0, 0], abs=1e-3)
    assert rows.std(0).tolist() == pytest.approx([1, 1, 1], abs=1e-2)
    y = game.generate(400)
    torch.testing.assert_close(y.mean(0), x.mean(0), atol=50.0, rtol=0)
    assert abs(float(y[:, 1].mean())) < 0.01


def test_data_without_classes_are_refused():
    with pytest.raises(UserError, match="cgan makes examples by class"):
        CGAN(Spec((1, 4, 4), 100), TINY)
