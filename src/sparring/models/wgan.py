"""Wasserstein GAN, 2017: a critic with clipped weights instead of a discriminator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.nets.augment import AUGMENT, augment
from sparring.nets.dcgan import Discriminator, Generator, check_images, nearest_power
from sparring.nets.dense import perceptron
from sparring.nets.initial import dcgan_weights
from sparring.protocol import Draw, Game, Recipe, Round, Spec, Update, frozen, hyper


@dataclass(frozen=True)
class WGANRecipe(Recipe):
    batch: int = hyper(64, "m", "Algorithm 1 and authors' code", least=1)
    epochs: float = hyper(25, "", "authors' code: niter, passes of the critic over the data", above=0)
    critic_steps: int = hyper(5, "n_critic", "Algorithm 1", least=1)
    eager_steps: int = hyper(100, "", "the critic's steps in an eager round, authors' code", least=1)
    eager_first: int = hyper(25, "", "so many first rounds are eager, authors' code", least=0)
    eager_every: int = hyper(500, "", "and after them each round of a number divisible by this", least=1)
    clip: float = hyper(0.01, "c", "Algorithm 1: critic's weights are kept in [-c, c]", above=0)
    rate: float = hyper(5e-5, "alpha", "Algorithm 1: learning rate of RMSprop", above=0)
    latent: int = hyper(100, "dim z", "authors' code: nz", least=1)
    width: int = hyper(64, "", "feature maps at the largest scale, authors' code: ngf and ndf", least=1)
    generator: str = hyper(
        "dcgan", "", "section 4: DCGAN's; plain is it without batch norm, mlp has `hidden` layers instead",
        choices=("dcgan", "plain", "mlp"),
    )  # fmt: skip
    hidden: tuple[int, ...] = hyper((512, 512, 512), "", "section 4: an MLP of four layers, 512 hidden units", least=1)
    augment: str = hyper("", "T", AUGMENT)


PLAIN = WGANRecipe(generator="plain")
MLP = WGANRecipe(generator="mlp")


class WGAN(Game):
    """Make images by a generator that lowers a critic's estimate of the Wasserstein distance.

    The critic learns to value real images above made ones, under weights kept within [-c, c]: minus the
    sum of its terms estimates K times the distance, for a K that depends on c and the network.

    Reference: Martin Arjovsky, Soumith Chintala, Leon Bottou (2017), Wasserstein GAN, arXiv:1701.07875.
    Details are those of the authors' code, martinarjovsky/WassersteinGAN.

    Departures:
        Weights (and gains of batch norm) are clipped before each step of the critic, as in the authors'
        code; Algorithm 1 clips after it. The critic is high on real images, as in the paper; in the
        authors' code it is low. A turn of the critic may run over the end of an epoch, where the authors'
        code cuts it short. The variant `mlp` ends in tanh, so that images stay in range. Widths never grow
        past 8 times the base width.
    """

    averages = ("generator",)

    def __init__(self, spec: Spec, recipe: WGANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: WGANRecipe = recipe
        self.draws = recipe.critic_steps  # of most rounds; see `rounds`
        check_images(spec, "wgan")
        self.critic = Discriminator(spec.shape, recipe.width)
        dcgan_weights(self.critic)
        augment(self.critic, recipe.augment, spec)
        if recipe.generator == "mlp":
            self.generator: nn.Sequential = perceptron((recipe.latent, *recipe.hidden, spec.size))
            self.generator.extend([nn.Tanh(), nn.Unflatten(1, spec.shape)])
        else:
            self.generator = Generator(spec.shape, recipe.latent, recipe.width, norm=recipe.generator == "dcgan")
            dcgan_weights(self.generator)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return nearest_power(native, 16, 256)

    @property
    def rounds(self) -> int:
        """Rounds as the recipe says, or as many as the critic's minibatches of its epochs are enough for."""
        if self.recipe.rounds is not None:
            return self.recipe.rounds
        left = self.recipe.epochs * max(1, self.spec.count // self.recipe.batch)
        rounds = 0
        while left > 0:
            left -= self.turns(rounds)
            rounds += 1
        return rounds

    def turns(self, step: int) -> int:
        """The critic's steps in this round: many at first, and again from time to time."""
        r = self.recipe
        return r.eager_steps if step < r.eager_first or step % r.eager_every == 0 else r.critic_steps

    def latent(self, n: int) -> Tensor:
        """Draw z from N(0, I): (n, latent, 1, 1), or (n, latent) for the variant `mlp`."""
        shape = (n, self.recipe.latent) if self.recipe.generator == "mlp" else (n, self.recipe.latent, 1, 1)
        return torch.randn(shape, device=next(self.parameters()).device)

    def generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n images (n, *spec.shape) in [-1, 1]; z defaults to fresh draws."""
        return self.generator(self.latent(n) if z is None else z).float()

    def round(self, draw: Draw, step: int) -> Round:
        n = 0
        for _ in range(self.turns(step)):
            self.clip()
            x = draw().x
            n = len(x)
            with torch.no_grad():
                y = self.generate(n)
            yield Update("critic", real=-self.value(x), fake=self.value(y))
        with frozen(self.critic):
            fooled = -self.value(self.generate(n))
        yield Update("generator", fooled=fooled)

    def value(self, x: Tensor) -> Tensor:
        return self.critic(x).float().mean()

    @torch.no_grad()
    def clip(self) -> None:
        """Bring every parameter of the critic back into [-c, c]."""
        for parameter in self.critic.parameters():
            parameter.clamp_(-self.recipe.clip, self.recipe.clip)

    def discriminate(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The critic's values of these examples and of as many made ones, (B,) each."""
        return self.critic(x).float(), self.critic(self.generate(len(x))).float()

    def players(self) -> dict[str, Optimizer]:
        networks = {"critic": self.critic, "generator": self.generator}
        return {name: torch.optim.RMSprop(network.parameters(), self.recipe.rate) for name, network in networks.items()}
