"""Conditional generative adversarial nets, 2014: both players are told the class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.losses import is_fake, is_real
from sparring.nets.conditional import OneHot, join, labels, need_classes
from sparring.nets.dense import Maxout, Standardise
from sparring.nets.initial import uniform_weights
from sparring.protocol import Draw, Game, Phase, Recipe, Round, Spec, Update, hyper


@dataclass(frozen=True)
class CGANRecipe(Recipe):
    batch: int = hyper(100, "", "section 4.1: mini-batches of size 100", least=1)
    epochs: float = hyper(250, "", "not stated (the paper stops early on validation likelihood); as GAN 2014", above=0)
    latent: int = hyper(100, "dim z", "section 4.1", least=1)
    prior: str = hyper("uniform", "p_z", "variance 1, as GAN 2014; section 4.1: cube", choices=("uniform", "cube"))
    hidden: tuple[int, int, int] = hyper(
        (200, 1000, 1200), "", "section 4.1: the generator's ReLU units on z, on the label, and on both", least=1
    )
    units: tuple[int, int, int] = hyper(
        (240, 50, 240), "", "section 4.1: the discriminator's maxout units on x, on the label, and on both", least=1
    )
    pieces: tuple[int, int, int] = hyper((5, 5, 4), "", "section 4.1: linear pieces of these maxout units", least=1)
    dropout: float = hyper(0.5, "", "section 4.1: share of hidden units dropped, in both players", least=0, most=0.99)
    rate: float = hyper(0.1, "", "section 4.1: initial learning rate of SGD", above=0)
    decay: float = hyper(1.00004, "", "section 4.1: the learning rate is divided by this at every update", least=1)
    rate_floor: float = hyper(1e-6, "", "section 4.1: smallest learning rate", least=0)
    momentum: float = hyper(0.5, "", "section 4.1: at first", least=0, most=1)
    momentum_end: float = hyper(0.7, "", "section 4.1: at last", least=0, most=1)
    momentum_epochs: float = hyper(250, "", "until momentum is at its last value; not stated, as GAN 2014", above=0)


class Generator(nn.Module):
    """Make rows (B, outputs) of latent vectors (B, latent) and labels (B,); `last` is the output's range."""

    def __init__(self, classes: int, outputs: int, last: nn.Module, r: CGANRecipe) -> None:
        super().__init__()
        of_z, of_label, both = r.hidden
        self.z = nn.Sequential(nn.Linear(r.latent, of_z), nn.ReLU())
        self.label = nn.Sequential(OneHot(classes), nn.Linear(classes, of_label), nn.ReLU())
        joined = nn.Linear(of_z + of_label, both)
        output = nn.Linear(both, outputs)
        self.joint = nn.Sequential(nn.Dropout(r.dropout), joined, nn.ReLU(), nn.Dropout(r.dropout), output, last)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.joint(join(self.z(z), self.label(label)))


class Discriminator(nn.Module):
    """Say real or made: rows (B, inputs) and labels (B,) to a logit (B,)."""

    def __init__(self, classes: int, inputs: int, r: CGANRecipe) -> None:
        super().__init__()
        of_x, of_label, both = r.units
        self.x = Maxout(inputs, of_x, r.pieces[0])
        self.label = nn.Sequential(OneHot(classes), Maxout(classes, of_label, r.pieces[1]))
        joint = Maxout(of_x + of_label, both, r.pieces[2])
        self.joint = nn.Sequential(
            nn.Dropout(r.dropout), joint, nn.Dropout(r.dropout), nn.Linear(both, 1), nn.Flatten(0)
        )

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.joint(join(self.x(x), self.label(label)))


class CGAN(Game):
    """Make examples of a class that one names (fully connected networks).

    Reference: Mehdi Mirza, Simon Osindero (2014), Conditional Generative Adversarial Nets,
    arXiv:1411.1784, section 4.1. What it leaves open (first weights, the generator's first output bias,
    simultaneous updates, half weights of the discriminator's terms, epochs) is as in the code of GAN 2014.

    Departures:
        The prior has mean 0 and variance 1, as in that code; section 4.1 draws z from the unit cube
        (`prior="cube"`), under which examples at first hardly depend on z. The discriminator's layer that
        reads the label, one input of which is 1 at a time, has PyTorch's first weights, which are larger.
        Training does not stop early on the validation likelihood. The paper does not say where
        dropout stands: here it is on hidden units, not on x, z or the label. `generate` drops nothing in
        eval mode and returns images in [-1, 1]; the networks see [0, 1]. Features instead of images are
        standardised, and their generator ends in a linear layer.
    """

    needs = ("x", "label")
    averages = ("generator",)
    boundary = 0.0

    def __init__(self, spec: Spec, recipe: CGANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: CGANRecipe = recipe
        self.classes = need_classes(spec, "cgan")
        self.standardise = Standardise(spec.size)
        if spec.is_image:  # from [-1, 1] to the sigmoid's [0, 1]
            self.standardise.mean.fill_(-1.0)
            self.standardise.scale.fill_(2.0)
        self.generator = Generator(self.classes, spec.size, nn.Sigmoid() if spec.is_image else nn.Identity(), recipe)
        self.discriminator = Discriminator(self.classes, spec.size, recipe)
        uniform_weights(self.generator, 0.05)
        uniform_weights(self.discriminator.x, 0.005)
        uniform_weights(self.discriminator.joint, 0.005)

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Start the generator's output at the mean of the data."""
        if self.spec.is_image:
            mean = self.standardise(x.flatten(1)).mean(0).clamp(1e-7, 1 - 1e-7)
            output = self.generator.joint[-2]
            assert isinstance(output, nn.Linear)
            output.bias.copy_(mean.logit())
        else:
            self.standardise.learn(x)

    def latent(self, n: int) -> Tensor:
        """Draw z from the prior, (n, latent): uniform with mean 0 and variance 1, or in the unit cube [0, 1]."""
        z = torch.rand(n, self.recipe.latent, device=next(self.parameters()).device)
        return (2 * z - 1) * math.sqrt(3) if self.recipe.prior == "uniform" else z

    def generate(self, n: int, z: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        """Make n examples (n, *spec.shape), images in [-1, 1], of these latent vectors and labels or of fresh draws."""
        z = self.latent(n) if z is None else z
        y = self.generator(z, labels(n, label, self.classes, z.device)).float()
        return (y * self.standardise.scale + self.standardise.mean).unflatten(1, self.spec.shape)

    def round(self, draw: Draw, step: int) -> Round:
        batch = draw()
        assert batch.label is not None
        y = self.generator(self.latent(len(batch)), batch.label)
        real = self.discriminator(self.standardise(batch.x.flatten(1)), batch.label)
        made = self.discriminator(y, batch.label)
        # Both gradients are taken before either player steps, so one look at y serves both.
        yield (
            Update("discriminator", real=is_real(real) / 2, fake=is_fake(made) / 2),
            Update("generator", fooled=is_real(made)),
        )

    def discriminate(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits of these examples and of as many made ones, (B,) each; higher is more real."""
        assert label is not None
        y = self.generator(self.latent(len(x)), label)
        real = self.discriminator(self.standardise(x.flatten(1)), label)
        return real.float(), self.discriminator(y, label).float()

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        networks = {"discriminator": self.discriminator, "generator": self.generator}
        return {
            name: torch.optim.SGD(network.parameters(), r.rate, r.momentum, fused=True)
            for name, network in networks.items()
        }

    def phases(self) -> list[Phase]:
        r = self.recipe
        rising = r.momentum_epochs * max(1, self.spec.count // r.batch)  # rounds
        return [
            Phase(
                "train", self.rounds, self.round, self.players,
                rate=lambda step: max(r.decay**-step, r.rate_floor / r.rate),
                momentum=lambda step: r.momentum + (r.momentum_end - r.momentum) * min(step / rising, 1.0),
            )
        ]  # fmt: skip
