"""DiscoGAN, 2017: published networks, the authors' rounds written out, and the paper's ablations."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from played import assert_equal, build, count, images, ladder, play
from torch import nn

from sparring.data import Stream, open_source
from sparring.data.toys import MODES
from sparring.engine import Engine
from sparring.errors import UserError
from sparring.metrics.modes import mapped_modes
from sparring.models import find
from sparring.models.discogan import EXTRA_LAYERS, FORMULA, ONE_WAY, PLAIN, SMALL, TOY, DiscoGANRecipe, feature_matching
from sparring.protocol import Batch

TINY = DiscoGANRecipe(width=4, batch=6)
RGB = (3, 64, 64)


def test_the_published_networks():
    game, extra = build("discogan", RGB), build("discogan", RGB, EXTRA_LAYERS)
    assert count(game.generator_ab) == count(game.generator_ba) == 5_513_856
    assert count(extra.generator_ab) == 7_153_480
    assert count(game.discriminator_a) == count(game.discriminator_b) == 2_765_568
    x, convolutions = images(1, *RGB), (nn.Conv2d, nn.ConvTranspose2d)
    down, up = [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)], [(256, 8, 8), (128, 16, 16), (64, 32, 32), RGB]
    assert ladder(game.generator_ab, convolutions, x) == [*down, *up]
    assert ladder(extra.generator_ab, convolutions, x) == [*down, (100, 1, 1), (512, 4, 4), *up]
    assert ladder(game.discriminator_b, convolutions, x) == [*down, (1, 1, 1)]
    _, features = game.discriminator_b(x)
    assert [tuple(f.shape[1:]) for f in features] == down[1:]


@pytest.mark.parametrize("side", [16, 128])
def test_other_sizes(side):
    game = build("discogan", (1, side, side), TINY).eval()
    y = game.translate(images(2, 1, side, side), "b")
    assert y.shape == (2, 1, side, side)
    assert y.abs().max() <= 1
    assert not torch.equal(y, game.translate(images(2, 1, side, side), "a"))


@pytest.mark.parametrize("extra", [False, True])
def test_a_turn_takes_the_extra_layers(extra):
    """Turned by 90 degrees, the first pixel is the last of the first row; that far only the extra layers see."""
    game = build("discogan", (1, 32, 32), replace(SMALL, extra=extra)).eval()
    x = images(1, 1, 32, 32).requires_grad_()
    (seen,) = torch.autograd.grad(game.translate(x, "b")[0, 0, 0, 0], x)
    assert (seen[0, 0, 0, -1] != 0) == extra
    assert seen[0, 0, 0, 0] != 0


def test_vectors_meet_the_layers_of_the_toy_problem():
    game = build("discogan", (2,), TINY)
    for network, layers in ((game.generator_ab, 3), (game.discriminator_a, 5)):
        assert sum(isinstance(layer, nn.Linear) for layer in network.modules()) == layers
    x = torch.tensor([[3.0, -40.0]])
    assert torch.equal(game.translate(x, "b"), game.generator_ab(x)), "vectors have no range"


@pytest.mark.parametrize("shape", [(3, 48, 48), (3, 512, 512)])
def test_sizes_that_are_refused(shape):
    with pytest.raises(UserError, match="discogan works on square images whose side is a power of two from 16 to 256"):
        build("discogan", shape)


def test_feature_matching_compares_means_of_a_minibatch():
    real, made = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    assert float(feature_matching([real], [made])) == pytest.approx((4 + 4) / 2)
    assert float(feature_matching([real, real], [made, real.flip(0)])) == pytest.approx(4)


def discriminator():
    """The authors' for 16 pixels: verdict in (0, 1), and the features behind the second leaky ReLU."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 4, 4, 2, 1, bias=False), nn.Conv2d(4, 8, 4, 2, 1, bias=False)
            self.norm2, self.conv3 = nn.BatchNorm2d(8), nn.Conv2d(8, 1, 4, bias=False)

        def forward(self, x):
            feature = F.leaky_relu(self.norm2(self.conv2(F.leaky_relu(self.conv1(x), 0.2))), 0.2)
            return torch.sigmoid(self.conv3(feature)).flatten(), [feature]

    return Net()


def generator():
    return nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
        nn.Conv2d(4, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.ConvTranspose2d(4, 1, 4, 2, 1, bias=False), nn.Sigmoid(),
    )  # fmt: skip


def authors_rounds(game, a, b, rounds):
    """All losses on one graph in every round, as the authors take them; who moves depends on its number."""
    names = ("generator_ab", "generator_ba", "discriminator_a", "discriminator_b")
    nets = {n: generator() if n.startswith("g") else discriminator() for n in names if hasattr(game, n)}
    for name, net in nets.items():
        mine = list(getattr(game, name).state_dict().values())
        net.load_state_dict(dict(zip(net.state_dict(), mine, strict=True)))
    g_ab, g_ba = nets["generator_ab"], nets["generator_ba"]
    sides = ([n for k, n in nets.items() if k.startswith(first)] for first in "dg")
    adams = [
        torch.optim.Adam(chain(*(n.parameters() for n in side)), 2e-4, (0.5, 0.999), weight_decay=1e-5)
        for side in sides
    ]
    r = game.recipe

    def losses(d, x, y):
        (real, wanted), (fake, found) = d(x), d(y)
        ones, zeros = torch.ones_like(real), torch.zeros_like(real)
        of_d = 0.5 * F.binary_cross_entropy(real, ones) + 0.5 * F.binary_cross_entropy(fake, zeros)
        matching = sum(((u.mean(0) - v.mean(0)) ** 2).mean() for u, v in zip(wanted, found, strict=True))
        return of_d, (1 - r.matching) * F.binary_cross_entropy(fake, ones) + r.matching * matching

    a, b = (a + 1) / 2, (b + 1) / 2
    for step in range(rounds):
        ab, ba = g_ab(a), g_ba(b)
        aba, bab = g_ba(ab), g_ab(ba)
        rate = r.restored_first if step < r.curriculum else r.restored
        d_b, adversarial_b = losses(nets["discriminator_b"], b, ab)
        of_d, of_g = d_b, adversarial_b * (1 - rate) + F.mse_loss(aba, a) * rate
        if r.coupling == "none":
            of_g = adversarial_b
        if "discriminator_a" in nets:
            d_a, adversarial_a = losses(nets["discriminator_a"], a, ba)
            of_d = of_d + d_a
            of_g = of_g + (
                adversarial_a if r.coupling == "none" else adversarial_a * (1 - rate) + F.mse_loss(bab, b) * rate
            )
        for adam in adams:
            adam.zero_grad()
        if step % r.interval == 0:
            of_d.backward()
            adams[0].step()
        else:
            of_g.backward()
            adams[1].step()
    return nets


@pytest.mark.parametrize("recipe", [DiscoGANRecipe(curriculum=2), SMALL, FORMULA, ONE_WAY, PLAIN], ids=str)
def test_five_rounds_are_those_of_the_authors(recipe):
    game = build("discogan", (1, 16, 16), replace(recipe, width=4, batch=6))
    a, b = images(6, 1, 16, 16), -(images(6, 1, 16, 16).flip(0) ** 3)
    nets = authors_rounds(game, a, b, 5)
    play(game, a, 5, partner=b)
    for name, net in nets.items():
        assert_equal(getattr(game, name), net)


def terms(recipe, step):
    game = build("discogan", (1, 16, 16), replace(recipe, width=4))
    return set(next(game.round(lambda: Batch(images(6, 1, 16, 16), partner=images(6, 1, 16, 16)), step)).terms)


def test_a_round_takes_what_its_player_learns_from():
    assert terms(TINY, 0) == terms(TINY, 3) == {"real_a", "fake_a", "real_b", "fake_b"}
    both = {"fooled_a", "matched_a", "restored_a", "fooled_b", "matched_b", "restored_b"}
    assert terms(TINY, 1) == terms(TINY, 2) == both
    assert terms(FORMULA, 1) == {"fooled_a", "restored_a", "fooled_b", "restored_b"}
    assert terms(ONE_WAY, 0) == {"real_b", "fake_b"}
    assert terms(ONE_WAY, 1) == {"fooled_b", "matched_b", "restored_a"}
    assert terms(PLAIN, 1) == {"fooled_a", "matched_a", "fooled_b", "matched_b"}


def mapped(coupling, rounds):
    a, b = open_source("5gaussians"), open_source("10gaussians")
    recipe = replace(TOY, coupling=coupling, rounds=rounds)
    torch.manual_seed(0)
    game = find("discogan").game(a.spec(), recipe)
    Engine(game, Stream(a, recipe.batch, beside={"partner": b}), Fabric(accelerator="cpu", devices=1)).play()
    test = open_source("5gaussians", split="test", limit=1000)
    with torch.no_grad():
        y = game.eval().translate(torch.from_numpy(test.read(slice(None))), "b").numpy()
    return mapped_modes(test.labels, y, MODES["10gaussians"].centres, MODES["10gaussians"].sigma)


def test_the_toy_problem():
    """DiscoGAN sends five Gaussians to most of ten, no two to one, and more exactly than plain GANs do."""
    found = {coupling: mapped(coupling, 1000) for coupling in ("both", "none")}
    assert found["both"]["value"] >= 8, found["both"]
    assert found["both"]["merged"] == 0, found["both"]
    assert found["none"]["high_quality"] < found["both"]["high_quality"], found
