"""R3GAN, 2024: a relativistic loss with two gradient penalties converges, so that the tricks can go."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.errors import UserError
from sparring.losses import is_real, zero_penalty
from sparring.nets.augment import AUGMENT, augment
from sparring.nets.dcgan import nearest_power, power_of_two
from sparring.nets.dense import perceptron
from sparring.nets.optimizers import adam
from sparring.protocol import Draw, Game, Phase, Recipe, Round, Spec, Update, frozen, hyper

GAIN = math.sqrt(2 / (1 + 0.2**2))  # keeps the variance through a leaky ReLU of slope 0.2
WIDEST = 32  # pixels; above this side the width halves with every doubling, as in the authors' presets


@dataclass(frozen=True)
class R3GANRecipe(Recipe):
    batch: int = hyper(512, "", "authors' code, CIFAR-10", least=1)
    epochs: float = hyper(
        800, "", "authors' code: 400 for each player, where the schedules of CIFAR-10 end (2e7 images)", above=0
    )
    part: int = hyper(16, "", "ours: images of a batch that are in memory at once; the gradient is the same", least=1)
    ema: float = hyper(0.99993, "", "authors' code: half of the average is 5e6 images old", least=0, most=0.999999)
    latent: int = hyper(64, "dim z", "authors' code", least=1)
    width: int = hyper(768, "", "feature maps up to 32 pixels, a multiple of 8; authors' code", least=8)
    blocks: int = hyper(2, "", "residual blocks at each scale, authors' code", least=1)
    hidden: tuple[int, ...] = hyper((512, 512, 512), "", "layers of both networks on vectors; not the paper's", least=1)
    gamma: float = hyper(0.05, "gamma", "weight of both penalties at the start, authors' code", least=0)
    gamma_end: float = hyper(0.005, "gamma", "the same at the end, authors' code", least=0)
    rate: float = hyper(2e-4, "", "learning rate of Adam at the start, authors' code", above=0)
    rate_end: float = hyper(5e-5, "", "the same at the end, authors' code", above=0)
    beta2: float = hyper(0.9, "beta_2", "of Adam at the start, authors' code; beta_1 is 0", least=0, most=0.9999)
    beta2_end: float = hyper(0.99, "beta_2", "the same at the end, authors' code", least=0, most=0.9999)
    augment: str = hyper("", "T", AUGMENT)


FFHQ_64 = R3GANRecipe(batch=256, ema=0.99965, gamma=2.0, gamma_end=0.2)
SMALL = R3GANRecipe(batch=64, part=64, ema=0.999, width=32, blocks=1)  # for a small machine; not the paper's


class Generator(nn.Sequential):
    """Make images (B, C, S, S) of latent vectors (B, latent); their values are not bounded."""

    def __init__(self, shape: tuple[int, ...], r: R3GANRecipe) -> None:
        w = widths(shape, r.width)
        layers: list[nn.Module] = [Basis(r.latent, w[0]), *residuals(w[0], r.blocks, len(w))]
        for a, b in itertools.pairwise(w):
            layers += [*mix(a, b), Resample(up=True), *residuals(b, r.blocks, len(w))]
        super().__init__(*layers, scaled(nn.Conv2d(w[-1], shape[0], 1, bias=False)))


class Discriminator(nn.Sequential):
    """Say real or made: images (B, C, S, S) to logits (B,)."""

    def __init__(self, shape: tuple[int, ...], r: R3GANRecipe) -> None:
        w = widths(shape, r.width)[::-1]
        layers: list[nn.Module] = [scaled(nn.Conv2d(shape[0], w[0], 1, bias=False))]
        for a, b in itertools.pairwise(w):
            layers += [*residuals(a, r.blocks, len(w)), Resample(up=False), *mix(a, b)]
        layers += [*residuals(w[-1], r.blocks, len(w)), scaled(nn.Conv2d(w[-1], w[-1], 4, groups=w[-1], bias=False))]
        super().__init__(*layers, nn.Flatten(), scaled(nn.Linear(w[-1], 1, bias=False)), nn.Flatten(0))


class Residual(nn.Sequential):
    """Add to maps what a bottleneck twice as wide makes of them, in groups of 16; nothing at first (Fixup)."""

    def __init__(self, width: int, depth: int) -> None:
        inner = 2 * width
        gain = GAIN * depth ** (-1 / 4)  # of 3 linear layers in each of `depth` blocks: depth^(-1 / (2 * 3 - 2))
        super().__init__(
            scaled(nn.Conv2d(width, inner, 1), gain),
            nn.LeakyReLU(0.2, inplace=True),
            scaled(nn.Conv2d(inner, inner, 3, padding=1, groups=inner // 16), gain),
            nn.LeakyReLU(0.2, inplace=True),
            scaled(nn.Conv2d(inner, width, 1, bias=False), 0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Basis(nn.Module):
    """Begin with learnt 4x4 maps, scaled by what the latent vector says: (B, latent) to (B, width, 4, 4)."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.randn(width, 4, 4))
        self.scale = scaled(nn.Linear(latent, width, bias=False))

    def forward(self, z: Tensor) -> Tensor:
        return self.maps * self.scale(z)[:, :, None, None]


class Resample(nn.Module):
    """Double the side of maps, or halve it, through the filter [1, 3, 3, 1]; outside the image all is 0."""

    kernel: Tensor

    def __init__(self, up: bool) -> None:
        super().__init__()
        self.up = up
        tap = torch.tensor([1.0, 3.0, 3.0, 1.0]) / (4 if up else 8)
        self.register_buffer("kernel", torch.outer(tap, tap)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = self.kernel.expand(channels, -1, -1, -1)
        resample = F.conv_transpose2d if self.up else F.conv2d
        return resample(x, kernel, stride=2, padding=1, groups=channels)


def widths(shape: tuple[int, ...], width: int) -> list[int]:
    """Feature maps from 4 pixels up to the full side, in multiples of 8."""
    sides = [4 << k for k in range(power_of_two(shape[-1], 16, 256, "r3gan") + 1)]
    return [max(8, width * WIDEST // max(WIDEST, side) // 8 * 8) for side in sides]


def residuals(width: int, blocks: int, scales: int) -> list[nn.Module]:
    return [Residual(width, blocks * scales) for _ in range(blocks)]


def mix(inputs: int, outputs: int) -> list[nn.Module]:
    """Change the number of maps where it changes."""
    return [] if inputs == outputs else [scaled(nn.Conv2d(inputs, outputs, 1, bias=False))]


def scaled(layer: nn.Module, gain: float = 1.0) -> nn.Module:
    """Draw weights from N(0, gain^2 / fan in); the bias is 0. Return the layer."""
    assert isinstance(layer.weight, Tensor)
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    if isinstance(layer.bias, Tensor):
        nn.init.zeros_(layer.bias)
    return layer


class R3GAN(Game):
    """Make images, or vectors, by a loss on pairs of a real and a made example, and no normalisation.

    The discriminator learns to put each real example above the made one beside it, at the price of the
    squared gradient at real (R1) and at made examples (R2).

    Reference: Yiwen Huang, Aaron Gokaslan, Volodymyr Kuleshov, James Tompkin (2024), The GAN is dead; long
    live the GAN! A Modern GAN Baseline, arXiv:2501.05441. Details are those of the authors' code,
    brownvc/R3GAN.

    Departures:
        Classes are not used, and the authors' adaptive augmentation is left out (see `augment` for another).
        Learning rate, gamma and beta_2 follow a half cosine over the whole training, however long it is,
        and the decay of the average is constant. Penalties are taken in float32. What `generate` returns is
        clipped to [-1, 1]. Vectors pass through fully connected networks, which the paper does not have.
    """

    averages = ("generator",)
    draws = 2

    def __init__(self, spec: Spec, recipe: R3GANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: R3GANRecipe = recipe
        self.adams: dict[str, Optimizer] = {}
        if recipe.width % 8:
            raise UserError(f"The 'width' of R3GANRecipe must be a multiple of 8; got {recipe.width} instead.")
        if spec.is_image:
            self.generator: nn.Module = Generator(spec.shape, recipe)
            self.discriminator: nn.Module = Discriminator(spec.shape, recipe)
        else:
            self.generator = perceptron((recipe.latent, *recipe.hidden, spec.size), nn.LeakyReLU)
            layers = perceptron((spec.size, *recipe.hidden, 1), nn.LeakyReLU)
            layers[-1].register_parameter("bias", None)  # it would cancel in the differences of logits
            self.discriminator = layers.append(nn.Flatten(0))
        augment(self.discriminator, recipe.augment, spec)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return nearest_power(native, 16, 256)

    def latent(self, n: int) -> Tensor:
        """Draw z from N(0, 1), (n, latent)."""
        return torch.randn(n, self.recipe.latent, device=next(self.parameters()).device)

    def generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n examples (n, *spec.shape), images in [-1, 1]; z defaults to fresh draws."""
        y = self.generator(self.latent(n) if z is None else z).float()
        return y.clamp(-1, 1) if self.spec.is_image else y

    def round(self, draw: Draw, step: int) -> Round:
        r = self.recipe
        gamma, beta2 = self.at(step, r.gamma, r.gamma_end), self.at(step, r.beta2, r.beta2_end)
        for optimizer in self.adams.values():
            for group in optimizer.param_groups:
                group["betas"] = (0.0, beta2)
        for x, z, share, last in self.parts(draw().x):
            with torch.no_grad():
                y = self.generator(z)
            (real, r1), (fake, r2) = self.judged(x), self.judged(y)
            relativistic = share * is_real(real - fake)
            update = Update("discriminator", relativistic=relativistic, r1=share * gamma * r1, r2=share * gamma * r2)
            yield update if last else update.held()
        for x, z, share, last in self.parts(draw().x):
            with torch.no_grad():
                real = self.discriminator(x).float()
            y = self.generator(z)
            with frozen(self.discriminator):
                fake = self.discriminator(y).float()
            update = Update("generator", relativistic=share * is_real(fake - real))
            yield update if last else update.held()

    def parts(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor, float, bool]]:
        """Parts of a batch, each with its latent vectors, its share of the batch, and whether it is the last."""
        z, size = self.latent(len(x)), self.recipe.part if self.spec.is_image else len(x)
        for k in range(0, len(x), size):
            part = x[k : k + size]
            yield part, z[k : k + size], len(part) / len(x), k + size >= len(x)

    def judged(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B,) and half the mean squared gradient of the discriminator, in one pass."""
        logits: list[Tensor] = []

        def discriminator(x: Tensor) -> Tensor:
            logits.append(self.discriminator(x))
            return logits[0]

        penalty = zero_penalty(discriminator, x)
        return logits[0], penalty

    def at(self, step: int, start: float, end: float) -> float:
        """Where a half cosine from start to end stands."""
        return end + (start - end) * (1 + math.cos(math.pi * min(1.0, step / self.rounds))) / 2

    def discriminate(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits of these examples and of as many made ones, (B,) each; higher is more real."""
        y = self.generator(self.latent(len(x)))
        return self.discriminator(x).float(), self.discriminator(y).float()

    def players(self) -> dict[str, Optimizer]:
        optimizer = partial(adam, rate=self.recipe.rate, betas=(0.0, self.recipe.beta2))
        self.adams = {"discriminator": optimizer(self.discriminator), "generator": optimizer(self.generator)}
        return self.adams

    def phases(self) -> list[Phase]:
        r = self.recipe

        def rate(step: int) -> float:
            return self.at(step, 1.0, r.rate_end / r.rate)

        return [Phase("train", self.rounds, self.round, self.players, rate)]
