"""Deep convolutional GAN, 2015: the architecture that made adversarial training work on images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.losses import is_fake, is_real
from sparring.nets.augment import AUGMENT, augment
from sparring.nets.dcgan import Discriminator, Generator, check_images, nearest_power
from sparring.nets.initial import dcgan_weights
from sparring.nets.optimizers import adam
from sparring.nets.paired import PairedDiscriminator, PairedGenerator
from sparring.protocol import Draw, Game, Recipe, Round, Spec, Update, frozen, hyper


@dataclass(frozen=True)
class DCGANRecipe(Recipe):
    batch: int = hyper(128, "", "section 4: mini-batch size of 128", least=1)
    epochs: float = hyper(25, "", "authors' code, faces", above=0)
    latent: int = hyper(100, "dim Z", "figure 1", least=1)
    prior: str = hyper("uniform", "Z", "section 4 and figure 1: uniform; U(-1, 1)", choices=("uniform", "normal"))
    width: int = hyper(128, "", "feature maps at the largest scale, authors' code", least=1)
    kernel: int = hyper(
        5, "", "figure 1: 5x5; with 4 the first and last layers are 4x4 too, with 3 a scale has two layers", least=3,
        most=5,
    )  # fmt: skip
    rate: float = hyper(2e-4, "", "section 4: learning rate of Adam", above=0)
    beta1: float = hyper(0.5, "beta_1", "section 4: momentum term of Adam", least=0, most=0.999)
    weight_decay: float = hyper(1e-5, "", "L2, authors' code", least=0)
    fresh_noise: bool = hyper(True, "", "authors' code: the players take turns by minibatch and never share a z")
    augment: str = hyper("", "T", AUGMENT)


FOUR = DCGANRecipe(  # 4x4 kernels and half the width, as in the PyTorch examples: what everybody runs
    prior="normal", width=64, kernel=4, weight_decay=0.0, fresh_noise=False
)
IMAGENET32 = DCGANRecipe(epochs=30, latent=256, kernel=3, weight_decay=0.0)  # authors' code: whose features are probed


class DCGAN(Game):
    """Make images with strided convolutions, batch norm and no pooling.

    Reference: Alec Radford, Luke Metz, Soumith Chintala (2015), Unsupervised Representation Learning
    with Deep Convolutional Generative Adversarial Networks, arXiv:1511.06434. Details are those of the
    authors' code, Newmu/dcgan_code; the variant `four` is that of the PyTorch examples, and `imagenet32`
    the authors' model of 32x32 ImageNet, whose discriminator gives 28,672 features (see `sparring probe`).

    Departures:
        The discriminator moves first in a round (the order matters only for the first of them), and an
        epoch is one pass of the discriminator over the data: in the authors' code half the minibatches
        of a pass go to turns of the generator, which does not look at them. Batch norm keeps running
        statistics (momentum 0.1, eps 1e-5), so that a sample does not depend on its companions; the
        authors' code kept none (eps 1e-8). Sides other than 64 pixels, or 32 of `imagenet32`, follow the
        same ladder, never wider than 8 times the base width.
    """

    averages = ("generator",)
    boundary = 0.0

    def __init__(self, spec: Spec, recipe: DCGANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: DCGANRecipe = recipe
        check_images(spec, "dcgan")
        if recipe.kernel == 3:
            self.generator: nn.Module = PairedGenerator(spec.shape, recipe.latent, recipe.width)
            self.discriminator: nn.Module = PairedDiscriminator(spec.shape, recipe.width)
        else:
            self.generator = Generator(spec.shape, recipe.latent, recipe.width, recipe.kernel)
            self.discriminator = Discriminator(spec.shape, recipe.width, recipe.kernel)
        dcgan_weights(self)
        augment(self.discriminator, recipe.augment, spec)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return nearest_power(native, 16, 256)

    def latent(self, n: int) -> Tensor:
        """Draw z from the prior, (n, latent, 1, 1)."""
        z = torch.empty(n, self.recipe.latent, 1, 1, device=next(self.parameters()).device)
        return z.uniform_(-1, 1) if self.recipe.prior == "uniform" else z.normal_()

    def generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n images (n, *spec.shape) in [-1, 1]; z defaults to fresh draws."""
        return self.generator(self.latent(n) if z is None else z).float()

    def round(self, draw: Draw, step: int) -> Round:
        x = draw().x
        y = self.generate(len(x))
        real, fake = self.discriminator(x), self.discriminator(y.detach())
        yield Update("discriminator", real=is_real(real), fake=is_fake(fake))
        if self.recipe.fresh_noise:
            y = self.generate(len(x))
        with frozen(self.discriminator):
            fooled = is_real(self.discriminator(y))
        yield Update("generator", fooled=fooled)

    def discriminate(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits of these examples and of as many made ones, (B,) each; higher is more real."""
        return self.discriminator(x).float(), self.discriminator(self.generate(len(x))).float()

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        optimizer = partial(adam, rate=r.rate, betas=(r.beta1, 0.999), weight_decay=r.weight_decay)
        return {"discriminator": optimizer(self.discriminator), "generator": optimizer(self.generator)}
