"""Spectrally normalised GAN, 2018: every layer of the discriminator is divided by its largest singular value."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim import Optimizer

from sparring.losses import is_fake, is_real
from sparring.nets.augment import AUGMENT, augment
from sparring.nets.dcgan import check_images, down, nearest_power, up, widths
from sparring.nets.initial import dcgan_weights
from sparring.nets.optimizers import adam
from sparring.nets.residual import ResidualCritic, ResidualGenerator, glorot
from sparring.protocol import Draw, Game, Phase, Recipe, Round, Spec, Update, frozen, hyper


@dataclass(frozen=True)
class SNGANRecipe(Recipe):
    batch: int = hyper(64, "M", "authors' code, CIFAR-10", least=1)
    epochs: float = hyper(320, "", "authors' code: 50,000 steps of the generator on CIFAR-10", above=0)
    architecture: str = hyper(
        "residual", "", "authors' code: ResNet of CIFAR-10", choices=("residual", "convolutional")
    )
    latent: int = hyper(128, "dim z", "authors' code", least=1)
    width: tuple[int, int] = hyper(
        (256, 128), "", "feature maps of generator and discriminator; of the convolutional ones at the largest scale",
        least=1,
    )  # fmt: skip
    loss: str = hyper("hinge", "", "authors' code: hinge; logistic is that of GAN", choices=("hinge", "logistic"))
    discriminator_steps: int = hyper(5, "n_dis", "authors' code, CIFAR-10", least=1)
    made: int = hyper(2, "", "minibatches that a step of the generator makes; authors' code: 128 images", least=1)
    rate: float = hyper(2e-4, "alpha", "learning rate of Adam, falling to 0 in a line; authors' code", above=0)
    beta1: float = hyper(0.0, "beta_1", "of Adam, authors' code", least=0, most=0.999)
    beta2: float = hyper(0.9, "beta_2", "of Adam, authors' code", least=0, most=0.9999)
    augment: str = hyper("", "T", AUGMENT)


CONVOLUTIONAL = SNGANRecipe(  # the plain network of pfnet-research/chainer-gan-lib, its turns and its betas
    architecture="convolutional", width=(64, 64), loss="logistic", discriminator_steps=1, made=1, beta1=0.5, beta2=0.999
)  # fmt: skip
SMALL = replace(CONVOLUTIONAL, width=(16, 16))  # for a small machine; not the paper's


class Generator(nn.Sequential):
    """Make images (B, C, S, S) in [-1, 1] of latent vectors (B, latent), without residual blocks."""

    def __init__(self, shape: tuple[int, ...], latent: int, width: int) -> None:
        w = widths(shape[-1].bit_length() - 2, width)  # from 4 pixels to the full side
        units = w[0] * 16
        first = [nn.Linear(latent, units), nn.BatchNorm1d(units), nn.ReLU(inplace=True), nn.Unflatten(1, (w[0], 4, 4))]
        middle = [layer for a, b in itertools.pairwise(w) for layer in up(a, b, bias=True)]
        super().__init__(*first, *middle, nn.Conv2d(w[-1], shape[0], 3, padding=1), nn.Tanh())


class Discriminator(nn.Sequential):
    """Say real or made, (B, C, S, S) to (B,), without residual blocks: a 3x3 convolution before each that halves."""

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        w = widths(shape[-1].bit_length() - 2, width)[::-1]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(w):
            layers += [*same(a if layers else shape[0], a), *down(a, b, norm=False, bias=True)]
        super().__init__(*layers, *same(w[-1], w[-1]), nn.Flatten(), nn.Linear(w[-1] * 16, 1), nn.Flatten(0))


def same(inputs: int, outputs: int) -> list[nn.Module]:
    """Keep the side: a 3x3 convolution, and leaky ReLU 0.2."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]


class ResidualDiscriminator(ResidualCritic):
    """Say real or made, (B, C, S, S) to (B,): the critic of WGAN-GP, but for a sum over pixels and no last bias."""

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__(shape, width)
        self.verdict = glorot(nn.Linear(width, 1, bias=False))

    def features(self, x: Tensor) -> Tensor:
        """Sum of each map, (B, width)."""
        return self.relu(self.blocks(x)).sum((2, 3))


class SNGAN(Game):
    """Make images against a discriminator whose layers have spectral norm 1.

    A power iteration at every pass follows the largest singular value of each layer's weights (of a
    convolution: as a matrix with a row for each output map).

    Reference: Takeru Miyato, Toshiki Kataoka, Masanori Koyama, Yuichi Yoshida (2018), Spectral Normalization
    for Generative Adversarial Networks, arXiv:1802.05957. Details are those of the authors' code,
    pfnet-research/sngan_projection (unconditional CIFAR-10), and for the variant `convolutional` those of
    pfnet-research/chainer-gan-lib.

    Departures:
        The generator moves last in a round (the order matters only for the first of them). Real and made
        images pass the discriminator together, with one power iteration, not two. Sides other than 32
        pixels have more or fewer blocks of the same width. In the convolutional generator the gains of
        batch norm start at N(1, 0.02) instead of 1.
    """

    averages = ("generator",)
    boundary = 0.0

    def __init__(self, spec: Spec, recipe: SNGANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: SNGANRecipe = recipe
        self.draws = recipe.discriminator_steps
        check_images(spec, "sngan")
        wide, narrow = recipe.width
        if recipe.architecture == "residual":
            self.generator: nn.Module = ResidualGenerator(spec.shape, recipe.latent, wide)
            self.discriminator: nn.Module = ResidualDiscriminator(spec.shape, narrow)
        else:
            self.generator = Generator(spec.shape, recipe.latent, wide)
            self.discriminator = Discriminator(spec.shape, narrow)
            dcgan_weights(self)
        for layer in list(self.discriminator.modules()):  # after the first weights are drawn: it looks at them
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                spectral_norm(layer)
        augment(self.discriminator, recipe.augment, spec)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return nearest_power(native, 16, 256)

    def latent(self, n: int) -> Tensor:
        """Draw z from N(0, 1), (n, latent)."""
        return torch.randn(n, self.recipe.latent, device=next(self.parameters()).device)

    def generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n images (n, *spec.shape) in [-1, 1]; z defaults to fresh draws."""
        return self.generator(self.latent(n) if z is None else z).float()

    def round(self, draw: Draw, step: int) -> Round:
        r = self.recipe
        hinge = r.loss == "hinge"
        for _ in range(r.discriminator_steps):
            x = draw().x
            with torch.no_grad():
                y = self.generate(len(x))
            real, fake = self.discriminator(torch.cat([x, y])).float().chunk(2)
            if hinge:
                yield Update("discriminator", real=F.relu(1 - real).mean(), fake=F.relu(1 + fake).mean())
            else:
                yield Update("discriminator", real=is_real(real), fake=is_fake(fake))
        y = self.generate(r.made * len(x))
        with frozen(self.discriminator):
            logit = self.discriminator(y).float()
        yield Update("generator", fooled=-logit.mean() if hinge else is_real(logit))

    def discriminate(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits of these examples and of as many made ones, (B,) each; higher is more real."""
        return self.discriminator(x).float(), self.discriminator(self.generate(len(x))).float()

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        optimizer = partial(adam, rate=r.rate, betas=(r.beta1, r.beta2))
        return {"discriminator": optimizer(self.discriminator), "generator": optimizer(self.generator)}

    def phases(self) -> list[Phase]:
        return [Phase("train", self.rounds, self.round, self.players, lambda step: max(0.0, 1 - step / self.rounds))]
