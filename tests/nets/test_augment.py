"""Differentiable augmentation: the changes written out pixel by pixel, and where they are made."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from torch import nn

from sparring import models
from sparring.errors import UserError
from sparring.nets.augment import POLICIES, augment, brightness, contrast, cutout, parse, saturation, translation
from sparring.protocol import Spec
from sparring.testing import TinyDraw
from sparring.testing.rig import cases

SPEC = Spec((3, 12, 10), 100)


@pytest.fixture
def x():
    return torch.rand(40, 3, 12, 10, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Eye(nn.Module):
    """Keeps what it sees."""

    def forward(self, x, label=None):
        self.seen, self.label = x, label
        return x.flatten(1).sum(1)


def seeded(change, x, seed=3):
    torch.manual_seed(seed)
    return change(x)


def test_brightness_adds_one_number_to_an_image(x):
    added = seeded(brightness, x) - x
    torch.testing.assert_close(added, added[:, :1, :1, :1].expand_as(x))
    assert -0.5 <= float(added.min()) < -0.4 < 0.4 < float(added.max()) <= 0.5


def test_saturation_scales_the_distance_from_grey(x):
    y, grey = seeded(saturation, x), x.mean(1, keepdim=True)
    torch.testing.assert_close(y.mean(1, keepdim=True), grey)
    factor = ((y - grey) * (x - grey)).sum((1, 2, 3)) / (x - grey).square().sum((1, 2, 3))
    torch.testing.assert_close(y, grey + factor[:, None, None, None] * (x - grey))
    assert 0 <= float(factor.min()) < 0.2 < 1.8 < float(factor.max()) <= 2
    torch.testing.assert_close(seeded(saturation, x[:, :1]), x[:, :1])  # grey images have no colours


def test_contrast_scales_the_distance_from_the_mean(x):
    y, mean = seeded(contrast, x), x.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(y.mean((1, 2, 3), keepdim=True), mean)
    factor = (y - mean).flatten(1).norm(dim=1) / (x - mean).flatten(1).norm(dim=1)
    torch.testing.assert_close(y, mean + factor[:, None, None, None] * (x - mean))
    assert 0.5 <= float(factor.min()) < 0.6 < 1.4 < float(factor.max()) <= 1.5


def test_translation_is_that_of_a_loop(x):
    y = seeded(translation, x)
    torch.manual_seed(3)
    down, right = (torch.randint(-most, most + 1, (40, 1, 1, 1)).flatten().tolist() for most in (2, 1))
    assert {*down} == {-2, -1, 0, 1, 2}, "12 / 8 is rounded up, as in the authors' code"
    assert {*right} == {-1, 0, 1}
    expected = torch.zeros_like(x)
    for k in range(40):
        for i in range(12):
            for j in range(10):
                if 0 <= i + down[k] < 12 and 0 <= j + right[k] < 10:
                    expected[k, :, i, j] = x[k, :, i + down[k], j + right[k]]
    assert torch.equal(y, expected)


def test_cutout_is_that_of_a_loop(x):
    y = seeded(cutout, x)
    torch.manual_seed(3)
    # 12 pixels lose 6, so that the centre may lie on 13 edges; 10 lose 5, with the centre on one of 10 pixels.
    tops, lefts = torch.randint(0, 13, (40, 1)) - 3, torch.randint(0, 10, (40, 1)) - 2
    expected = x.clone()
    for k in range(40):
        for i in range(12):
            for j in range(10):
                if tops[k] <= i < tops[k] + 6 and lefts[k] <= j < lefts[k] + 5:
                    expected[k, :, i, j] = 0
    assert torch.equal(y, expected)
    assert min(tops) < 0
    assert max(tops) > 6, "the centre may lie at the edge"


def test_gradients_pass_through_all_of_it(x):
    x.requires_grad_()
    y = x
    for change in parse("color,translation,cutout"):
        y = seeded(change, y)
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert bool((first.flatten(1).abs().sum(1) > 0).all())
    assert bool(torch.isfinite(second).all())


def test_images_are_changed_on_their_way_into_a_network_that_trains(x):
    eye, label = Eye(), torch.arange(40)
    augment(eye, "translation, cutout", SPEC)
    torch.manual_seed(3)
    expected = cutout(translation(x))
    torch.manual_seed(3)
    assert torch.equal(eye(x, label), expected.flatten(1).sum(1))
    assert eye.label is label
    eye.eval()(x)
    assert eye.seen is x


def test_images_of_another_range_are_changed_as_the_others_are(x):
    """What 0 is in [-1, 1], grey, is 0.5 in [0, 1]; brightness moves by a quarter of the range in both."""
    eye, other = Eye(), Eye()
    augment(eye, "color,translation,cutout", SPEC)
    augment(other, "color,translation,cutout", SPEC, unit=True)
    seeded(eye, x)
    seeded(other, (x + 1) / 2)
    torch.testing.assert_close(2 * other.seen - 1, eye.seen)
    other.eval()(x)
    assert other.seen is x


AUGMENTED = [name for name in models.names() if hasattr(models.find(name).recipe(), "augment")]


@pytest.mark.parametrize("name", AUGMENTED)
def test_all_players_see_the_changes_and_nobody_afterwards(name, monkeypatch):
    """Real and made images are counted on their way into the discriminator, in the turns of all players."""
    seen: list[float] = []  # the least value of each image: below 0 in [-1, 1], whatever the networks see
    variants = 0

    def mark(x):
        seen.extend(x.amin((1, 2, 3)).tolist())
        return x

    monkeypatch.setitem(POLICIES, "mark", (mark,))
    for case in cases(models.find(name), once=True, augment="mark"):
        if not case.spec.is_image:
            continue
        variants += 1
        game, draw = case.build(), TinyDraw(case.spec, case.recipe.batch)
        for updates in game.train().round(draw, 10**6 + 1):  # which is no eager round
            updates = updates if isinstance(updates, tuple) else (updates,)
            judged = any(update.player != "generator" for update in updates)
            assert len(seen) >= (2 if judged else 1) * case.recipe.batch
            assert not judged or min(seen) < -0.1
            seen.clear()
        game.eval()
        game.generate(2)
        opponent = getattr(game, "discriminator", None) or game.critic
        with torch.no_grad(), suppress(TypeError):  # of pairs, and of images by class
            opponent(draw().x)
        assert not seen
    assert variants


def test_who_can_be_augmented():
    made = {name for name in models.names() if hasattr(models.find(name).game, "generate")}
    assert {"dcgan", "cdcgan", "wgan", "wgan_gp", "lsgan", "sngan", "r3gan", "bigan", "wali"} <= {*AUGMENTED} <= made
    with pytest.raises(UserError, match="dense networks see rows of numbers: leave it empty, or set networks"):
        models.find("bigan").game(SPEC, models.find("bigan").recipe(augment="cutout"))


def test_an_empty_policy_does_nothing(x):
    eye = Eye()
    augment(eye, "", Spec((5,), 10))
    eye(x)
    assert eye.seen is x
    assert not eye._forward_pre_hooks


def test_what_is_refused():
    with pytest.raises(UserError, match="There is no augmentation 'colour': did you mean 'color'"):
        augment(Eye(), "colour", SPEC)
    with pytest.raises(UserError, match="not vectors of 5 numbers"):
        augment(Eye(), "cutout", Spec((5,), 10))


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("side", [4, 7, 32])
def test_every_size(name, side):
    y = torch.randn(5, 1, side, side)
    for change in parse(name):
        y = change(y)
    assert y.shape == (5, 1, side, side)
    assert bool(torch.isfinite(y).all())
