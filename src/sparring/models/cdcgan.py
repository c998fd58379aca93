"""Conditional DCGAN, 2015: the label stands beside the input of every layer."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.errors import UserError
from sparring.losses import is_fake, is_real
from sparring.nets.augment import AUGMENT, augment
from sparring.nets.conditional import Conditional, Joined, OneHot, labels, need_classes
from sparring.nets.dcgan import nearest_power, power_of_two, upward, widths
from sparring.nets.initial import dcgan_weights
from sparring.nets.optimizers import adam
from sparring.protocol import Draw, Game, Phase, Recipe, Round, Spec, Update, frozen, hyper

MNIST = 28  # the side of the published networks, reached from 7 pixels instead of 4


@dataclass(frozen=True)
class CDCGANRecipe(Recipe):
    batch: int = hyper(128, "", "authors' code", least=1)
    epochs: float = hyper(200, "", "authors' code", above=0)
    constant: float = hyper(
        0.5, "", "share of the rounds at the full learning rate, which then falls to 0 in a line; authors' code: "
        "100 of 200 epochs", least=0, most=1,
    )  # fmt: skip
    latent: int = hyper(100, "dim Z", "authors' code", least=1)
    embedding: int = hyper(0, "", "width of a learnt code of the label; 0 is one-hot, the authors' code", least=0)
    width: int = hyper(64, "", "feature maps at the largest scale, authors' code", least=1)
    hidden: int = hyper(1024, "", "units of the fully connected layer, authors' code", least=1)
    rate: float = hyper(2e-4, "", "learning rate of Adam, authors' code", above=0)
    beta1: float = hyper(0.5, "beta_1", "momentum term of Adam, authors' code", least=0, most=0.999)
    weight_decay: float = hyper(2.5e-5, "", "L2, authors' code", least=0)
    augment: str = hyper("", "T", AUGMENT)


EMBEDDED = CDCGANRecipe(embedding=32)  # for many classes, of which one-hot maps would be costly; not the authors'


def ladder(side: int, width: int) -> tuple[int, list[int]]:
    """Give the smallest side, and the feature maps from there up to half of `side`: 7 and (128, 64) for 28.

    Raises:
        UserError: For a side that is neither 28 nor a power of two from 16 to 256.
    """
    if side == MNIST:
        return 7, widths(2, width)
    return 4, widths(power_of_two(side, 16, 256, "Beside 28 pixels, cdcgan"), width)


def coder(classes: int, r: CDCGANRecipe) -> tuple[nn.Module, int]:
    """What writes labels as vectors, and the width of these."""
    return (nn.Embedding(classes, r.embedding), r.embedding) if r.embedding else (OneHot(classes), classes)


def norm(layer: nn.Module, kind: Callable[..., nn.Module], outputs: int) -> list[nn.Module]:
    """A layer and its batch norm, without gain and bias (appendix 8.1)."""
    return [layer, kind(outputs, affine=False)]


def generator(spec: Spec, classes: int, r: CDCGANRecipe) -> Conditional:
    """Make images (B, C, S, S) in [0, 1] of latent vectors (B, latent) and labels (B,)."""
    code, k = coder(classes, r)
    base, w = ladder(spec.shape[-1], r.width)
    units = w[0] * base**2
    first = nn.Linear(r.latent + k, r.hidden, bias=False)
    second = nn.Linear(r.hidden + k, units, bias=False)
    stages = [
        Joined(*norm(first, nn.BatchNorm1d, r.hidden), nn.ReLU()),
        Joined(*norm(second, nn.BatchNorm1d, units), nn.ReLU(), nn.Unflatten(1, (w[0], base, base))),
    ]
    for a, b in itertools.pairwise(w):
        stages.append(Joined(*norm(upward(a + k, b, 5), nn.BatchNorm2d, b), nn.ReLU()))
    return Conditional(code, [*stages, Joined(upward(w[-1] + k, spec.shape[0], 5), nn.Sigmoid())])


def discriminator(spec: Spec, classes: int, r: CDCGANRecipe) -> Conditional:
    """Say real or made: images (B, C, S, S) in [0, 1] and labels (B,) to logits (B,)."""
    code, k = coder(classes, r)
    base, w = ladder(spec.shape[-1], r.width)
    w.reverse()

    def half(inputs: int, outputs: int) -> nn.Conv2d:
        return nn.Conv2d(inputs + k, outputs, 5, 2, 2, bias=False)

    stages = [Joined(half(spec.shape[0], w[0]), nn.LeakyReLU(0.2))]
    for a, b in itertools.pairwise(w):
        stages.append(Joined(*norm(half(a, b), nn.BatchNorm2d, b), nn.LeakyReLU(0.2)))
    stages[-1].layers.append(nn.Flatten())
    hidden = nn.Linear(w[-1] * base**2 + k, r.hidden, bias=False)
    verdict = nn.Linear(r.hidden + k, 1, bias=False)
    stages.append(Joined(*norm(hidden, nn.BatchNorm1d, r.hidden), nn.LeakyReLU(0.2)))
    return Conditional(code, [*stages, Joined(verdict, nn.Flatten(0))])


class CDCGAN(Game):
    """Make images of a class that one names, with convolutions.

    Reference: Alec Radford, Luke Metz, Soumith Chintala (2015), Unsupervised Representation Learning
    with Deep Convolutional Generative Adversarial Networks, arXiv:1511.06434, appendix 8.1. Details are
    those of the authors' code, Newmu/dcgan_code, folder mnist.

    Departures:
        The published networks are for 28 pixels, by way of 14 and 7; other sides are powers of two, by
        the same rule down to 4 pixels, and the feature maps double at every halving up to 8 times. The
        discriminator moves first in a round, an epoch is one pass of it over the data, and the
        generator's turn takes a fresh z and the labels of the discriminator's minibatch; in the authors'
        code the turns share no minibatch. The learning rate falls at every round, not at every epoch.
        Batch norm keeps running statistics (momentum 0.1, eps 1e-5), so that a sample does not depend on
        its companions; the authors' code kept none (eps 1e-8). `generate` returns [-1, 1]; the networks
        see [0, 1].
    """

    needs = ("x", "label")
    averages = ("generator",)
    boundary = 0.0

    def __init__(self, spec: Spec, recipe: CDCGANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: CDCGANRecipe = recipe
        if not spec.is_image:
            raise UserError(f"cdcgan works on images, not on vectors of {spec.size} numbers: use cgan for these.")
        self.classes = need_classes(spec, "cdcgan")
        self.generator = generator(spec, self.classes, recipe)
        self.discriminator = discriminator(spec, self.classes, recipe)
        dcgan_weights(self)
        augment(self.discriminator, recipe.augment, spec, unit=True)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return native if native == MNIST else nearest_power(native, 16, 256)

    def latent(self, n: int) -> Tensor:
        """Draw z from the prior, U(-1, 1): (n, latent)."""
        return torch.empty(n, self.recipe.latent, device=next(self.parameters()).device).uniform_(-1, 1)

    def generate(self, n: int, z: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        """Make n images (n, *spec.shape) in [-1, 1], of these latent vectors and labels or of fresh draws."""
        z = self.latent(n) if z is None else z
        return self.generator(z, labels(n, label, self.classes, z.device)).float() * 2 - 1

    def round(self, draw: Draw, step: int) -> Round:
        batch = draw()
        x, label = (batch.x + 1) / 2, batch.label
        with torch.no_grad():
            y = self.generator(self.latent(len(x)), label)
        real, fake = self.discriminator(x, label), self.discriminator(y, label)
        yield Update("discriminator", real=is_real(real), fake=is_fake(fake))
        y = self.generator(self.latent(len(x)), label)
        with frozen(self.discriminator):
            fooled = is_real(self.discriminator(y, label))
        yield Update("generator", fooled=fooled)

    def discriminate(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits of these examples and of as many made ones, (B,) each; higher is more real."""
        y = self.generator(self.latent(len(x)), label)
        return self.discriminator((x + 1) / 2, label).float(), self.discriminator(y, label).float()

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        optimizer = partial(adam, rate=r.rate, betas=(r.beta1, 0.999), weight_decay=r.weight_decay)
        return {"discriminator": optimizer(self.discriminator), "generator": optimizer(self.generator)}

    def phases(self) -> list[Phase]:
        falling = max(1.0, (1 - self.recipe.constant) * self.rounds)  # rounds
        return [
            Phase("train", self.rounds, self.round, self.players, lambda step: min(1.0, (self.rounds - step) / falling))
        ]
