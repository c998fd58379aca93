"""Least squares GAN, 2017: the discriminator regresses labels, so that samples far from the data still pull."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparring.nets.augment import AUGMENT, augment
from sparring.nets.dcgan import Discriminator, Generator, check_images, nearest_power
from sparring.nets.initial import dcgan_weights
from sparring.nets.optimizers import adam
from sparring.protocol import Draw, Game, Recipe, Round, Spec, Update, frozen, hyper


@dataclass(frozen=True)
class LSGANRecipe(Recipe):
    batch: int = hyper(64, "", "authors' code", least=1)
    epochs: float = hyper(25, "", "as DCGAN; the authors' code counts a million steps and more", above=0)
    fake_label: float = hyper(0.0, "a", "what D learns to say of made images, authors' code")
    real_label: float = hyper(1.0, "b", "what D learns to say of real images, authors' code")
    fooled_label: float = hyper(1.0, "c", "what G wants D to say of made images, authors' code")
    latent: int = hyper(1024, "dim z", "authors' code", least=1)
    width: int = hyper(64, "", "feature maps at the largest scale, authors' code", least=1)
    kernel: int = hyper(5, "", "authors' code: 5x5; 4 as in the PyTorch examples", least=4, most=5)
    rate: float = hyper(2e-4, "", "learning rate of Adam; authors' code for the networks of DCGAN", above=0)
    beta1: float = hyper(0.5, "beta_1", "momentum term of Adam, authors' code", least=0, most=0.999)
    augment: str = hyper("", "T", AUGMENT)


PEARSON = LSGANRecipe(fake_label=-1.0, real_label=1.0, fooled_label=0.0)  # b - c = 1 and b - a = 2


def squares(score: Tensor, label: float) -> Tensor:
    """E (D - label)^2 / 2, a scalar; `score` is D of each example, any shape."""
    return (score.float() - label).square().mean() / 2


class LSGAN(Game):
    """Make images against a discriminator that learns labels by least squares.

    Where D is optimal, it says (b p + a q) / (p + q) of data p and samples q; with b - c = 1 and
    b - a = 2 (variant `pearson`) the generator then descends the Pearson chi-square divergence between
    p + q and 2 q.

    Reference: Xudong Mao, Qing Li, Haoran Xie, Raymond Y. K. Lau, Zhen Wang, Stephen Paul Smolley (2017),
    Least Squares Generative Adversarial Networks, arXiv:1611.04076. Details are those of the authors'
    code, xudonmao/LSGAN, on the networks of DCGAN.

    Departures:
        Losses are means over the minibatch, as in the paper; the authors' code takes sums, which Adam
        does not notice. Both networks have batch norm, whose running statistics have momentum 0.1, and both
        variants Adam; the authors' comparison of stability leaves norms out. First weights are not truncated, and
        convolutions of stride 2 are padded by 2 on all sides. Images have a side of any power of two from 16 to
        256; the paper's deeper networks for 112 pixels are left out.
    """

    averages = ("generator",)

    def __init__(self, spec: Spec, recipe: LSGANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: LSGANRecipe = recipe
        self.boundary = (recipe.fake_label + recipe.real_label) / 2
        check_images(spec, "lsgan")
        self.generator = Generator(spec.shape, recipe.latent, recipe.width, recipe.kernel, bias=True)
        self.discriminator = Discriminator(spec.shape, recipe.width, recipe.kernel, bias=True)
        dcgan_weights(self)
        augment(self.discriminator, recipe.augment, spec)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return nearest_power(native, 16, 256)

    def latent(self, n: int) -> Tensor:
        """Draw z from U(-1, 1), (n, latent, 1, 1)."""
        return torch.empty(n, self.recipe.latent, 1, 1, device=next(self.parameters()).device).uniform_(-1, 1)

    def generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n images (n, *spec.shape) in [-1, 1]; z defaults to fresh draws."""
        return self.generator(self.latent(n) if z is None else z).float()

    def round(self, draw: Draw, step: int) -> Round:
        r = self.recipe
        x = draw().x
        y = self.generate(len(x))  # of the same z for both players, as in the authors' code
        real, fake = self.discriminator(x), self.discriminator(y.detach())
        yield Update("discriminator", real=squares(real, r.real_label), fake=squares(fake, r.fake_label))
        with frozen(self.discriminator):
            fooled = squares(self.discriminator(y), r.fooled_label)
        yield Update("generator", fooled=fooled)

    def discriminate(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What D says of these examples and of as many made ones, (B,) each."""
        return self.discriminator(x).float(), self.discriminator(self.generate(len(x))).float()

    def players(self) -> dict[str, Optimizer]:
        optimizer = partial(adam, rate=self.recipe.rate, betas=(self.recipe.beta1, 0.999))
        return {"discriminator": optimizer(self.discriminator), "generator": optimizer(self.generator)}
