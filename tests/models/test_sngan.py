"""SN-GAN, 2018: singular values, the hinge, published networks, and rounds written out plainly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from played import assert_equal, build, count, engine, images, ladder, play, randomness
from safetensors.torch import load_file, save_file
from torch import nn

from sparring.errors import UserError
from sparring.models.sngan import CONVOLUTIONAL, SNGANRecipe
from sparring.protocol import Batch

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
TINY = SNGANRecipe(width=(8, 8), latent=6, rounds=10)
PLAIN = replace(CONVOLUTIONAL, width=(4, 4), latent=6, rounds=10)


def test_networks_of_the_authors():
    """Counts follow from the layers in the authors' code: 256 and 128 maps, CIFAR-10."""
    game = build("sngan", (3, 32, 32))
    assert (count(game.generator), count(game.discriminator)) == (4_276_739, 1_053_824)
    game = build("sngan", (3, 32, 32), CONVOLUTIONAL)
    up = ladder(game.generator, CONVOLUTIONS, game.latent(1))
    assert up == [(8192,), (256, 8, 8), (128, 16, 16), (64, 32, 32), (3, 32, 32)]
    down = ladder(game.discriminator, CONVOLUTIONS, images(1, 3, 32, 32))
    assert down == [
        (64, 32, 32), (128, 16, 16), (128, 16, 16), (256, 8, 8), (256, 8, 8), (512, 4, 4), (512, 4, 4), (1,)
    ]  # fmt: skip


def weights(game):
    """Pairs of the raw and the normalised weights of every layer of the discriminator, as matrices."""
    layers = [layer for layer in game.discriminator.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert layers
    return [(layer.parametrizations.weight.original.flatten(1), layer.weight.flatten(1)) for layer in layers]


@pytest.mark.parametrize("recipe", [TINY, PLAIN])
def test_every_layer_has_spectral_norm_one(recipe):
    game, x = build("sngan", (1, 16, 16), recipe), images(4, 1, 16, 16)
    for _ in range(100):  # power iterations
        game.discriminator(x)
    game.eval()
    for raw, normalised in weights(game):
        assert float(torch.linalg.matrix_norm(normalised, 2).detach()) == pytest.approx(1, abs=1e-2)
        torch.testing.assert_close(normalised * torch.linalg.matrix_norm(raw, 2), raw, rtol=1e-2, atol=1e-6)
    assert not any("parametrizations" in name for name, _ in game.generator.named_parameters())


def test_spectral_norm_of_a_matrix():
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0], [4.0, 5.0]]))
    nn.utils.parametrizations.spectral_norm(layer)
    raw = layer.parametrizations.weight.original
    assert float((raw[0, 0] / layer.weight[0, 0]).detach()) == pytest.approx(math.sqrt(45), rel=1e-5)


def test_the_power_iteration_converges_at_its_rate():
    """Section 16.17: what it misses falls by (5 / 45)^2 a step, the square of that of its vectors."""
    matrix = torch.tensor([[3.0, 0.0], [4.0, 5.0]], dtype=torch.float64)
    layer = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    layer.weight.data.copy_(matrix)
    nn.utils.parametrizations.spectral_norm(layer)
    norm = layer.parametrizations.weight[0]
    norm._u.copy_(torch.tensor([1.0, 0.0]))
    norm._v.copy_(F.normalize(matrix.T @ norm._u, dim=0))
    missed = []
    for _ in range(8):
        layer.weight  # noqa: B018 - a look at it is one iteration
        missed.append(math.sqrt(45) - float(norm._u @ matrix @ norm._v))
    for k in range(3, 6):
        assert missed[k + 1] / missed[k] == pytest.approx(1 / 81, rel=0.02)


@pytest.mark.parametrize(("real", "fake", "cost"), [(0.0, 0.0, 2.0), (1.0, -1.0, 0.0), (-1.0, -1.0, 2.0)])
def test_hinge_of_known_verdicts(real, fake, cost):
    """Section 16.10: 2 where nothing is told apart, 0 where everything is."""
    game = build("sngan", (1, 16, 16), replace(CONVOLUTIONAL, loss="hinge", width=(4, 4), latent=4))
    game.discriminator = Verdicts(real, fake)
    update = next(game.round(lambda: Batch(images(6, 1, 16, 16)), 0))
    assert (update.terms["real"] + update.terms["fake"]).item() == pytest.approx(cost)


class Verdicts(nn.Module):
    """Says one number of the first half of a minibatch, and another of the second."""

    def __init__(self, real, fake):
        super().__init__()
        self.said = nn.Parameter(torch.tensor([real, fake]))

    def forward(self, x):
        return self.said.repeat_interleave(len(x) // 2)


def test_hinge_of_an_optimal_discriminator():
    """Sign(p - q) costs 2 times the overlap of the densities: N(0, 1) and N(2, 1)."""
    x = torch.linspace(-12, 14, 200001, dtype=torch.float64)
    p, q = ((-((x - m) ** 2) / 2).exp() / math.sqrt(2 * math.pi) for m in (0, 2))
    score = (p - q).sign()
    loss = float((p * F.relu(1 - score) + q * F.relu(1 + score)).sum() * (x[1] - x[0]))
    assert loss == pytest.approx(2 * math.erfc(1 / math.sqrt(2)), abs=1e-5)
    assert 2 * math.erfc(1 / math.sqrt(2)) == pytest.approx(0.63462102)


class Plain:
    """The plain discriminator for 16 pixels, layer by layer, with a power iteration of its own at every pass."""

    def __init__(self, game):
        state = {name: value.clone() for name, value in game.discriminator.state_dict().items()}
        self.raw = [v.requires_grad_() for k, v in state.items() if k.endswith("original")]
        self.bias = [v.requires_grad_() for k, v in state.items() if k.endswith("bias")]
        self.u = [v for k, v in state.items() if k.endswith("_u")]
        self.v = [v for k, v in state.items() if k.endswith("_v")]

    def weight(self, k):
        matrix = self.raw[k].flatten(1)
        with torch.no_grad():
            self.u[k] = F.normalize(matrix @ self.v[k], dim=0)
            self.v[k] = F.normalize(matrix.T @ self.u[k], dim=0)
        return self.raw[k] / (self.u[k] @ matrix @ self.v[k])

    def __call__(self, x):
        y = x
        for k, (stride, padding) in enumerate([(1, 1), (2, 1), (1, 1), (2, 1), (1, 1)]):
            y = F.leaky_relu(F.conv2d(y, self.weight(k), self.bias[k], stride, padding), 0.2)
        return F.linear(y.flatten(1), self.weight(5), self.bias[5]).flatten()


@pytest.mark.parametrize("loss", ["hinge", "logistic"])
def test_two_rounds_are_those_of_the_paper(loss):
    recipe = replace(PLAIN, loss=loss, discriminator_steps=2, made=2, rate=1e-3, beta1=0.0, beta2=0.9)
    game, x = build("sngan", (1, 16, 16), recipe), images(5, 1, 16, 16)
    generator = nn.Sequential(
        nn.Linear(6, 16 * 16), nn.BatchNorm1d(16 * 16), nn.ReLU(), nn.Unflatten(1, (16, 4, 4)),
        nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 1, 3, 1, 1), nn.Tanh(),
    )  # fmt: skip
    generator.load_state_dict(dict(zip(generator.state_dict(), game.generator.state_dict().values(), strict=True)))
    discriminator = Plain(game)
    d_adam = torch.optim.Adam([*discriminator.raw, *discriminator.bias], 1e-3, (0.0, 0.9))
    g_adam = torch.optim.Adam(generator.parameters(), 1e-3, (0.0, 0.9))
    for step in range(2):
        for adam in (d_adam, g_adam):
            adam.param_groups[0]["lr"] = 1e-3 * (1 - step / 10)
        with randomness(step):
            for _ in range(2):
                d_adam.zero_grad()
                y = generator(torch.randn(5, 6)).detach()
                logits = discriminator(torch.cat([x, y]))
                real, fake = logits[:5], logits[5:]
                if loss == "hinge":
                    (F.relu(1 - real).mean() + F.relu(1 + fake).mean()).backward()
                else:
                    (F.softplus(-real).mean() + F.softplus(fake).mean()).backward()
                d_adam.step()
            g_adam.zero_grad()
            logit = discriminator(generator(torch.randn(10, 6)))
            (-logit.mean() if loss == "hinge" else F.softplus(-logit).mean()).backward()
            g_adam.step()
    play(game, x, 2)
    for layer, other, after in zip(game.generator, generator, generator[1:], strict=False):
        if isinstance(after, nn.modules.batchnorm._BatchNorm):
            # Before batch norm the gradient of a bias is rounding errors, which Adam enlarges.
            other.bias.data.copy_(layer.bias.data)
    assert_equal(game.generator, generator)
    state = game.discriminator.state_dict()
    for end, mine in (("original", discriminator.raw), ("bias", discriminator.bias), ("_u", discriminator.u)):
        theirs = [value for name, value in state.items() if name.endswith(end)]
        for a, b in zip(theirs, mine, strict=True):
            torch.testing.assert_close(a, b.detach(), atol=2e-6, rtol=1e-5)


def test_the_residual_discriminator_sums_over_pixels():
    game, x = build("sngan", (1, 16, 16), TINY).eval(), images(3, 1, 16, 16)
    d = game.discriminator
    with torch.no_grad():
        maps = F.relu(d.blocks(x))
        torch.testing.assert_close(d(x), maps.sum((2, 3)) @ d.verdict.weight[0])
    assert d.verdict.bias is None


@pytest.mark.parametrize("recipe", [TINY, PLAIN])
def test_weights_survive_a_file(tmp_path, recipe):
    game = build("sngan", (1, 16, 16), recipe)
    play(game, images(4, 1, 16, 16), 1)
    save_file(game.state_dict(), tmp_path / "w.safetensors")
    other = build("sngan", (1, 16, 16), recipe)
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    x = images(4, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(other.eval().discriminator(x), game.eval().discriminator(x))
        assert torch.equal(game.discriminator(x), game.discriminator(x)), "no power iteration in eval mode"


def test_a_round_draws_five_minibatches_and_the_rate_falls_to_nothing():
    game = build("sngan", (1, 16, 16), replace(TINY, batch=10, rounds=None, epochs=2), count=1000)
    assert (game.draws, game.rounds) == (5, 40)
    (phase,) = game.phases()
    assert [phase.rate(step) for step in (0, 20, 40)] == [1.0, 0.5, 0.0]
    one = engine(game, images(10, 1, 16, 16))
    one.play()
    assert one.draw.position == 5


@pytest.mark.parametrize("recipe", [TINY, PLAIN])
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 64, 64), (1, 256, 256)])
def test_every_size(recipe, shape):
    game = build("sngan", shape, replace(recipe, augment="color,cutout")).eval()
    with torch.no_grad():
        y = game.generate(2)
        assert y.shape == (2, *shape)
        assert game.discriminator(y).shape == (2,)


@pytest.mark.parametrize("shape", [(3, 48, 48), (20,)])
def test_sizes_that_are_refused(shape):
    with pytest.raises(UserError, match="sngan works on"):
        build("sngan", shape)
