"""Wasserstein GAN with gradient penalty, 2017: a critic whose slope is held at 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.errors import UserError
from sparring.losses import gradient_penalty
from sparring.nets.augment import AUGMENT, augment
from sparring.nets.conditional import labels
from sparring.nets.dcgan import Discriminator, Generator, check_images, nearest_power
from sparring.nets.dense import Standardise, perceptron
from sparring.nets.optimizers import adam
from sparring.nets.residual import HE, ResidualCritic, ResidualGenerator, glorot
from sparring.protocol import Draw, Game, Phase, Recipe, Round, Spec, Update, frozen, hyper


@dataclass(frozen=True)
class WGANGPRecipe(Recipe):
    batch: int = hyper(64, "m", "authors' code", least=1)
    epochs: float = hyper(100, "", "authors' code: 100,000 or 200,000 rounds instead, as its variants have", above=0)
    critic_steps: int = hyper(5, "n_critic", "Algorithm 1", least=1)
    penalty: float = hyper(10.0, "lambda", "Algorithm 1; 0.1 for toys in authors' code", least=0)
    one_sided: bool = hyper(False, "", "section 4: two-sided; True lets slopes below 1 be")
    rate: float = hyper(1e-4, "alpha", "Algorithm 1: learning rate of Adam", above=0)
    beta1: float = hyper(0.0, "beta_1", "Algorithm 1; 0.5 in some of authors' code", least=0, most=0.999)
    beta2: float = hyper(0.9, "beta_2", "Algorithm 1", least=0, most=0.999999)
    decay: bool = hyper(False, "", "the rate falls linearly to 0; authors' code, residual networks on CIFAR-10")
    architecture: str = hyper(
        "convolutional", "", "of images; vectors always meet a multilayer perceptron, authors' code",
        choices=("convolutional", "residual", "mlp"),
    )  # fmt: skip
    latent: int = hyper(128, "dim z", "authors' code; 2 for toys", least=1)
    width: int = hyper(64, "", "feature maps at the largest scale, authors' code: DIM; 128 for CIFAR-10", least=1)
    norm: bool = hyper(True, "", "batch norm in the convolutional generator, authors' code: not for MNIST")
    output: str = hyper(
        "tanh", "", "generator's last layer on images, authors' code; sigmoid for MNIST", choices=("tanh", "sigmoid")
    )
    hidden: tuple[int, ...] = hyper((512, 512, 512), "", "layers of the multilayer perceptrons, authors' code", least=1)
    generator_batches: int = hyper(1, "", "minibatches that the generator makes in its turn, authors' code", least=1)
    dequantise: bool = hyper(False, "", "noise of one grey level on real images, authors' code, residual networks")
    conditional: bool = hyper(False, "", "images by class, residual networks only, authors' code")
    class_critic: float = hyper(1.0, "", "weight of the class loss for the critic, authors' code", least=0)
    class_generator: float = hyper(0.1, "", "weight of the class loss for the generator, authors' code", least=0)
    augment: str = hyper("", "T", AUGMENT)


MNIST = WGANGPRecipe(batch=50, rounds=200_000, beta1=0.5, norm=False, output="sigmoid")
CIFAR10_CONV = WGANGPRecipe(rounds=200_000, beta1=0.5, width=128)
CIFAR10_RESNET = WGANGPRecipe(
    rounds=100_000, rate=2e-4, decay=True, architecture="residual", width=128, generator_batches=2, dequantise=True
)
CIFAR10_CONDITIONAL = replace(CIFAR10_RESNET, conditional=True)
TOY = WGANGPRecipe(batch=256, rounds=100_000, penalty=0.1, beta1=0.5, latent=2, architecture="mlp")

LEVEL = 127.5 / 128  # width of a grey level where 256 of them fill [-1, 1], over its usual one


def check(spec: Spec, kind: str, r: WGANGPRecipe) -> None:
    """Refuse data that the networks of this recipe do not work on.

    Raises:
        UserError: For such data.
    """
    if r.conditional and kind != "residual":
        raise UserError(
            "wgan_gp makes images by class with residual networks only: leave conditional out, or give images and "
            "set architecture=residual."
        )
    if r.conditional and not spec.classes:
        raise UserError("wgan_gp with conditional=true learns from labels, and these data have none: leave it out.")
    if kind == "residual":
        check_images(spec, "wgan_gp with architecture=residual")
    elif kind == "convolutional" and not 16 <= spec.shape[1] == spec.shape[2] <= 256:
        raise UserError(
            f"wgan_gp works on square images of 16 to 256 pixels, not on {spec.shape[1]}x{spec.shape[2]}: choose a "
            "side with --size."
        )


def networks(spec: Spec, kind: str, r: WGANGPRecipe) -> tuple[nn.Module, nn.Module]:
    """The generator and the critic, with their first weights."""
    output = nn.Sigmoid if r.output == "sigmoid" else nn.Tanh
    if kind == "residual":
        classes = len(spec.classes) if r.conditional else 0
        generator = ResidualGenerator(spec.shape, r.latent, r.width, classes, output)
        return generator, ResidualCritic(spec.shape, r.width, classes)
    if kind == "convolutional":
        pair = (
            Generator(spec.shape, r.latent, r.width, 5, norm=r.norm, bias=True, output=output),
            Discriminator(spec.shape, r.width, 5, norm=False, bias=True),
        )
        for layer in (layer for network in pair for layer in network.modules()):
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                glorot(layer, HE)
            elif isinstance(layer, nn.Linear):
                glorot(layer)
        return pair
    made = mlp(r.latent, r.hidden, spec.size)
    if spec.is_image:
        made.extend([output(), nn.Unflatten(1, spec.shape)])
    return made, nn.Sequential(nn.Flatten(), *mlp(spec.size, r.hidden, 1), nn.Flatten(0))


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Stack ReLU layers on vectors (B, inputs)."""
    network = perceptron((inputs, *hidden, outputs))
    *inside, last = (layer for layer in network if isinstance(layer, nn.Linear))
    for layer in inside:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    glorot(last)
    return network


class WGANGP(Game):
    """Make data by a generator that lowers a critic's estimate of the Wasserstein distance, its slope held at 1.

    The critic learns to value real data above made ones, and pays where the norm of its gradient departs
    from 1 between them: minus the sum of the terms `real` and `fake` estimates the distance.

    Reference: Ishaan Gulrajani, Faruk Ahmed, Martin Arjovsky, Vincent Dumoulin, Aaron Courville (2017),
    Improved Training of Wasserstein GANs, arXiv:1704.00028. Details are those of the authors' code,
    igul222/improved_wgan_training.

    Departures:
        A round is that of Algorithm 1, critic first. The authors' code plays the same sequence, numbered
        otherwise: its generator waits in the first round and leads in the others, so that under `decay`
        its rate runs one round behind ours, and the last turn is the critic's. Batch norm keeps running
        statistics, so that a sample does not depend on its companions. Convolutions of stride 2 are padded
        by 2 on all sides (TensorFlow: 1 and 2). Sides other than the published ones follow the same ladder
        of halvings, rounded up and cropped, never wider than 8 times the base width. The default recipe
        joins the algorithm's optimizer with the convolutional networks. Features instead of images are
        standardised, and meet multilayer perceptrons.
    """

    averages = ("generator",)

    def __init__(self, spec: Spec, recipe: WGANGPRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: WGANGPRecipe = recipe
        self.draws = recipe.critic_steps
        kind = recipe.architecture if spec.is_image else "mlp"
        check(spec, kind, recipe)
        self.generator, self.critic = networks(spec, kind, recipe)
        self.standardise = None if spec.is_image else Standardise(spec.size)
        # A residual critic looks at images in two ways, for value and for class, which begin with its blocks.
        looks = self.critic.blocks if isinstance(self.critic, ResidualCritic) else self.critic
        augment(looks, recipe.augment, spec, unit=recipe.output == "sigmoid")

    @classmethod
    def needed(cls, recipe: Recipe) -> tuple[str, ...]:
        return ("x", "label") if isinstance(recipe, WGANGPRecipe) and recipe.conditional else cls.needs

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        if isinstance(recipe, WGANGPRecipe) and recipe.architecture == "residual":
            return nearest_power(native, 16, 256)
        return min(256, max(16, native))

    def prepare(self, x: Tensor) -> None:
        if self.standardise is not None:
            self.standardise.learn(x)

    def seen(self, x: Tensor) -> Tensor:
        """Data as the networks see them: standardised features, or images in the range of the generator's output."""
        if self.standardise is not None:
            return self.standardise(x)
        if self.recipe.dequantise:  # grey level k from k/128 - 1 to the next one: noise in training, then the middle
            x = (x + 1) * LEVEL - 1 + (torch.rand_like(x) if self.training else 0.5) / 128
        return (x + 1) / 2 if self.recipe.output == "sigmoid" else x

    def latent(self, n: int) -> Tensor:
        """Draw z from N(0, I), (n, latent)."""
        return torch.randn(n, self.recipe.latent, device=next(self.parameters()).device)

    def labels(self, n: int, label: Tensor | None = None) -> Tensor | None:
        """These classes (n,), or drawn uniformly, int64; None where images are not made by class."""
        device = next(self.parameters()).device
        return labels(n, label, len(self.spec.classes), device) if self.recipe.conditional else None

    def make(self, z: Tensor, label: Tensor | None) -> Tensor:
        """Make examples as the networks see them, of latent vectors (B, latent) and classes (B,)."""
        return (self.generator(z, label) if self.recipe.conditional else self.generator(z)).float()

    def generate(self, n: int, z: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        """Make n examples (n, *spec.shape), images in [-1, 1].

        Args:
            n: How many.
            z: Latent vectors (n, latent); None draws them.
            label: Classes (n,) int64, of a conditional recipe; None draws them uniformly.

        Raises:
            UserError: For labels of another number, or of classes that there are not.
        """
        y = self.make(self.latent(n) if z is None else z, self.labels(n, label))
        if self.standardise is not None:
            return y * self.standardise.scale + self.standardise.mean
        y = y * 2 - 1 if self.recipe.output == "sigmoid" else y
        return ((y + 1 - 0.5 / 128) / LEVEL - 1).clamp(-1, 1) if self.recipe.dequantise else y

    def round(self, draw: Draw, step: int) -> Round:
        r, n = self.recipe, 0
        for _ in range(r.critic_steps):
            batch = draw()
            x, n = self.seen(batch.x), len(batch)
            with torch.no_grad():
                y = self.make(self.latent(n), batch.label)
            real, classes = self.judge(x, batch.label)
            fake, _ = self.judge(y)
            penalty = r.penalty * gradient_penalty(self.critic, x, y, one_sided=r.one_sided)
            yield Update("critic", real=-real, fake=fake, penalty=penalty, **weighted(r.class_critic, classes))
        n *= r.generator_batches
        label = self.labels(n)
        with frozen(self.critic):
            value, classes = self.judge(self.make(self.latent(n), label), label)
        yield Update("generator", fooled=-value, **weighted(r.class_generator, classes))

    def judge(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The critic's mean value of examples and, given labels by a conditional recipe, its loss on their classes."""
        if label is None or not isinstance(self.critic, ResidualCritic) or self.critic.classes is None:
            return self.critic(x).float().mean(), None
        features = self.critic.features(x)
        logits = self.critic.classes(features).float()
        return self.critic.verdict(features).float().mean(), F.cross_entropy(logits, label)

    def discriminate(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The critic's values of these examples and of as many made ones, (B,) each."""
        y = self.make(self.latent(len(x)), label)
        return self.critic(self.seen(x)).float(), self.critic(y).float()

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        optimizer = partial(adam, rate=r.rate, betas=(r.beta1, r.beta2))
        return {"critic": optimizer(self.critic), "generator": optimizer(self.generator)}

    def phases(self) -> list[Phase]:
        total = self.rounds
        fall = (lambda step: 1 - step / total) if self.recipe.decay else (lambda step: 1.0)
        return [Phase("train", total, self.round, self.players, fall)]


def weighted(weight: float, classes: Tensor | None) -> dict[str, Tensor]:
    return {} if classes is None else {"classes": weight * classes}
