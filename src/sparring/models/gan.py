"""Generative adversarial networks, 2014: the game itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.losses import is_fake, is_real
from sparring.nets.dense import Maxout, perceptron
from sparring.nets.initial import uniform_weights
from sparring.nets.optimizers import adam
from sparring.protocol import Draw, Game, Phase, Recipe, Round, Spec, Update, frozen, hyper

SPREAD = math.sqrt(3)  # half-width of the uniform prior, whose variance is then 1
OUTPUTS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "linear": nn.Identity}


@dataclass(frozen=True)
class GANRecipe(Recipe):
    batch: int = hyper(100, "m", "Algorithm 1; mnist.yaml of the authors", least=1)
    epochs: float = hyper(250, "", "the paper stops early on validation likelihood; momentum saturates at 250", above=0)
    discriminator_steps: int = hyper(1, "k", "Algorithm 1: k = 1 in the experiments", least=1)
    simultaneous: bool = hyper(True, "", "authors' code: both gradients are taken before either player steps")
    saturating: bool = hyper(False, "", "Algorithm 1 descends log(1 - D); the text and the code ascend log D")
    latent: int = hyper(100, "dim z", "authors' code", least=1)
    prior: str = hyper(
        "uniform", "p_z", "authors' code: U(-sqrt(3), sqrt(3)), of variance 1", choices=("uniform", "normal")
    )
    hidden: tuple[int, ...] = hyper((1200, 1200), "", "generator's ReLU layers, authors' code", least=1)
    output: str = hyper("sigmoid", "", "generator's last layer, authors' code", choices=tuple(OUTPUTS))
    units: tuple[int, ...] = hyper((240, 240), "", "discriminator's layers, authors' code", least=1)
    pieces: int = hyper(5, "", "linear pieces of a maxout unit; 1 makes it a leaky ReLU of slope 0.2", least=1)
    keep_input: float = hyper(0.8, "", "share of inputs that dropout keeps in D, authors' code", above=0, most=1)
    keep_hidden: float = hyper(0.5, "", "share of hidden units that dropout keeps in D, authors' code", above=0, most=1)
    optimizer: str = hyper("sgd", "", "SGD with momentum, section 5 and authors' code", choices=("sgd", "adam"))
    rate: float = hyper(0.1, "", "learning rate, authors' code", above=0)
    decay: float = hyper(1.000004, "", "the learning rate is divided by this at every update", least=1)
    rate_floor: float = hyper(1e-6, "", "smallest learning rate, authors' code", least=0)
    momentum: float = hyper(0.5, "", "at the first epoch, authors' code", least=0, most=1)
    momentum_end: float = hyper(0.7, "", "from epoch 250 on, authors' code", least=0, most=1)


GOODFELLOW2014_MNIST = GANRecipe()
MLP = GANRecipe(  # the small network of most tutorials; not the paper's recipe
    batch=96, epochs=200, simultaneous=False, prior="normal", hidden=(256, 256), output="tanh", units=(256, 256),
    pieces=1, keep_input=1.0, keep_hidden=1.0, optimizer="adam", rate=3e-4, decay=1.0,
)  # fmt: skip


class Discriminator(nn.Sequential):
    """Say real or made: (B, inputs) to a logit (B,). Maxout layers, with dropout before every layer."""

    def __init__(self, inputs: int, r: GANRecipe) -> None:
        layers: list[nn.Module] = []
        width, keep = inputs, r.keep_input
        for units in r.units:
            if keep < 1:
                layers.append(nn.Dropout(1 - keep))
            if r.pieces > 1:
                layers.append(Maxout(width, units, r.pieces))
            else:
                layers += [nn.Linear(width, units), nn.LeakyReLU(0.2)]
            width, keep = units, r.keep_hidden
        if keep < 1:
            layers.append(nn.Dropout(1 - keep))
        super().__init__(*layers, nn.Linear(width, 1), nn.Flatten(0))


class GAN(Game):
    """Make data by a generator that learns to fool a discriminator (fully connected networks).

    Reference: Ian Goodfellow, Jean Pouget-Abadie, Mehdi Mirza, Bing Xu, David Warde-Farley, Sherjil
    Ozair, Aaron Courville, Yoshua Bengio (2014), Generative Adversarial Networks, arXiv:1406.2661.
    Details of the experiments are those of the authors' code, goodfeli/adversarial.

    Departures:
        The discriminator's dropout masks on made data differ between its own term and the generator's.
        Networks see data in [0, 1] where the generator ends in a sigmoid, and `generate` returns [-1, 1]
        as every model here does. Features (not images) are taken as they are, and made by a linear last layer.
    """

    averages = ("generator",)
    boundary = 0.0

    def __init__(self, spec: Spec, recipe: GANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: GANRecipe = recipe
        self.draws = recipe.discriminator_steps
        self.output = recipe.output if spec.is_image else "linear"
        self.generator = perceptron((recipe.latent, *recipe.hidden, spec.size))
        self.generator.append(OUTPUTS[self.output]())
        self.discriminator = Discriminator(spec.size, recipe)
        if recipe.pieces > 1:
            uniform_weights(self.generator, 0.05)
            uniform_weights(self.discriminator, 0.005)

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Start the generator's output at the mean of the data, as the authors' code does."""
        if self.output == "sigmoid":
            mean = self.seen(x).mean(0).clamp(1e-7, 1 - 1e-7)
            output = self.generator[-2]
            assert isinstance(output, nn.Linear)
            output.bias.copy_(mean.logit())

    def seen(self, x: Tensor) -> Tensor:
        """Examples as the networks see them, rows of numbers: in [0, 1] before a sigmoid generator."""
        x = x.flatten(1)
        return (x + 1) / 2 if self.output == "sigmoid" else x

    def latent(self, n: int) -> Tensor:
        """Draw z from the prior, (n, latent)."""
        z = torch.empty(n, self.recipe.latent, device=next(self.parameters()).device)
        return z.uniform_(-SPREAD, SPREAD) if self.recipe.prior == "uniform" else z.normal_()

    def generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n examples (n, *spec.shape), images in [-1, 1]; z defaults to fresh draws."""
        y = self.generator(self.latent(n) if z is None else z).float()
        y = y * 2 - 1 if self.output == "sigmoid" else y
        return y.unflatten(1, self.spec.shape)

    def round(self, draw: Draw, step: int) -> Round:
        for _ in range(self.recipe.discriminator_steps - 1):
            x = draw().x
            yield self.judged(x, self.generate(len(x)))
        x = draw().x
        y = self.generate(len(x))
        if self.recipe.simultaneous:
            yield self.judged(x, y), self.fooling(y)  # the same y for both, as in the authors' code
        else:
            yield self.judged(x, y)
            yield self.fooling(self.generate(len(x)))

    def judged(self, x: Tensor, y: Tensor) -> Update:
        real, fake = self.discriminator(self.seen(x)), self.discriminator(self.seen(y.detach()))
        return Update("discriminator", real=is_real(real) / 2, fake=is_fake(fake) / 2)

    def fooling(self, y: Tensor) -> Update:
        with frozen(self.discriminator):
            logit = self.discriminator(self.seen(y))
        return Update("generator", fooled=-is_fake(logit) if self.recipe.saturating else is_real(logit))

    def discriminate(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits of these examples and of as many made ones, (B,) each; higher is more real."""
        y = self.generate(len(x))
        return self.discriminator(self.seen(x)).float(), self.discriminator(self.seen(y)).float()

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe

        def optimizer(network: nn.Module) -> Optimizer:
            if r.optimizer == "adam":
                return adam(network, rate=r.rate)
            return torch.optim.SGD(network.parameters(), lr=r.rate, momentum=r.momentum, fused=True)

        return {"discriminator": optimizer(self.discriminator), "generator": optimizer(self.generator)}

    def phases(self) -> list[Phase]:
        r = self.recipe
        epoch = max(1, self.spec.count // r.batch)

        def rate(step: int) -> float:
            return max(r.decay**-step, r.rate_floor / r.rate)

        def momentum(step: int) -> float:
            return r.momentum + (r.momentum_end - r.momentum) * min(step / epoch / 250, 1.0)

        return [Phase("train", self.rounds, self.round, self.players, rate, momentum if r.optimizer == "sgd" else None)]
