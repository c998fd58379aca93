"""Wasserstein BiGAN: an encoder and a generator learn together from a critic of pairs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.errors import UserError
from sparring.losses import gradient_penalty
from sparring.nets.augment import AUGMENT, augment
from sparring.nets.dcgan import Generator, down, nearest_power, power_of_two, widths
from sparring.nets.joint import Joint
from sparring.nets.optimizers import adam
from sparring.protocol import Draw, Game, Recipe, Round, Spec, Update, frozen, hyper


@dataclass(frozen=True)
class WALIRecipe(Recipe):
    batch: int = hyper(64, "", "authors' code", least=1)
    rounds: int | None = hyper(
        20_000, "", "authors' README: iterations of their pictures; their code: 200,000", least=1
    )
    critic_steps: int = hyper(5, "", "authors' code: C_ITERS", least=1)
    penalty: float = hyper(10.0, "lambda", "weight of the gradient penalty, authors' code", least=0)
    latent: int = hyper(100, "dim z", "authors' code: NLAT", least=1)
    width: int = hyper(512, "", "feature maps at the smallest scale, authors' code; each doubling halves them", least=1)
    rate: float = hyper(1e-4, "", "learning rate of Adam, authors' code", above=0)
    beta1: float = hyper(0.5, "beta_1", "authors' code", least=0, most=0.999)
    beta2: float = hyper(0.9, "beta_2", "authors' code", least=0, most=0.9999)
    augment: str = hyper("", "T", AUGMENT)


SMALL = WALIRecipe(width=128)  # for a small machine; not the authors'


def encoder(channels: int, w: list[int], latent: int) -> nn.Sequential:
    """Encode images (B, C, S, S) as (B, latent, 1, 1); w are the maps from the largest scale to the smallest."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise([channels, *w]):
        layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
    layers += [nn.Conv2d(w[-1], w[-1], 4, bias=False), nn.BatchNorm2d(w[-1]), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(w[-1], latent, 1))


def critic(channels: int, w: list[int], latent: int, units: int) -> Joint:
    """Value pairs (B, C, S, S), (B, latent, 1, 1): (B,). No layer normalises: the penalty is of each example alone."""
    top = w[-1]
    of_x = [layer for a, b in itertools.pairwise([channels, *w]) for layer in down(a, b, norm=False, bias=True)]
    of_x += [nn.Conv2d(top, top, 4), nn.LeakyReLU(0.2), nn.Flatten()]
    of_z = [nn.Flatten(), nn.Linear(latent, top), nn.LeakyReLU(0.2), nn.Linear(top, top), nn.LeakyReLU(0.2)]
    both = [nn.Linear(2 * top, units), nn.LeakyReLU(0.2), nn.Linear(units, units), nn.LeakyReLU(0.2)]
    both += [nn.Linear(units, 1, bias=False), nn.Flatten(0)]
    return Joint(nn.Sequential(*of_x), nn.Sequential(*of_z), nn.Sequential(*both))


class WALI(Game):
    """Make images from codes and codes from images, by a Wasserstein critic that sees both.

    The critic's means over pairs (x, E(x)) and (G(z), z) differ by an estimate of the Wasserstein distance between
    the two; encoder and generator, one player, make it smaller.

    Reference: Jeff Donahue, Philipp Krähenbühl, Trevor Darrell (2016), Adversarial Feature Learning, arXiv:1605.09782,
    with the critic and penalty of Improved Training of Wasserstein GANs, arXiv:1704.00028. The two were joined, without
    a paper, in the code fmu2/Wasserstein-BiGAN, whose details these are.

    Departures:
        A round is five critic steps and one of encoder and generator, each on a minibatch of its own as in the
        authors' code; only the loss of the player that moves is computed. The critic's last layer has no bias: it would
        cancel in every loss, and the authors' never moves. Sides of 32 and 64 pixels are the authors'; others follow
        the same ladder, from 512 maps at 4x4 down to 64 at the largest scale, or to 256 at 16 pixels.
    """

    averages = ("encoder", "generator")

    def __init__(self, spec: Spec, recipe: WALIRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: WALIRecipe = recipe
        self.draws = recipe.critic_steps + 1
        if not spec.is_image:
            raise UserError(f"wali works on images, not on vectors of {spec.size} numbers: use bigan for these.")
        channels, side = spec.shape[0], spec.shape[-1]
        steps = power_of_two(side, 16, 256, "wali")
        base = max(1, recipe.width >> (min(steps, 4) - 1))
        w = widths(steps, base)[::-1]
        self.encoder = encoder(channels, w, recipe.latent)
        self.generator = Generator(spec.shape, recipe.latent, base)
        self.critic = critic(channels, w, recipe.latent, w[-1] * (2 if side <= 32 else 4))
        augment(self.critic, recipe.augment, spec)  # x of every pair, never its code

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return nearest_power(native, 16, 256)

    def latent(self, n: int) -> Tensor:
        """Draw z ~ N(0, 1), (n, latent, 1, 1)."""
        return torch.randn(n, self.recipe.latent, 1, 1, device=next(self.parameters()).device)

    def generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n images (n, *spec.shape) in [-1, 1]; z defaults to fresh draws."""
        return self.generator(self.latent(n) if z is None else z).float()

    def encode(self, x: Tensor) -> Tensor:
        """The code of each image, (B, latent, 1, 1)."""
        return self.encoder(x).float()

    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode what is encoded of x, same shape."""
        return self.generate(len(x), self.encode(x))

    def valued(self, x: Tensor, code: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean value of (x, E(x)) and of (G(z), z)."""
        real, fake = self.critic(torch.cat([x, y]), torch.cat([code, z])).float().chunk(2)
        return real.mean(), fake.mean()

    def round(self, draw: Draw, step: int) -> Round:
        for _ in range(self.recipe.critic_steps):
            x = draw().x
            z = self.latent(len(x))
            with torch.no_grad():
                code, y = self.encode(x), self.generate(len(x), z)
            real, fake = self.valued(x, code, y, z)
            penalty = self.recipe.penalty * gradient_penalty(self.critic, (x, code), (y, z))
            yield Update("critic", real=-real, fake=fake, penalty=penalty)
        x = draw().x
        z = self.latent(len(x))
        with frozen(self.critic):
            real, fake = self.valued(x, self.encode(x), self.generate(len(x), z), z)
        yield Update("generator", encoded=real, fooled=-fake)

    def discriminate(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The critic's values of (x, E(x)) and of as many pairs (G(z), z), (B,) each."""
        z = self.latent(len(x))
        return self.critic(x, self.encode(x)).float(), self.critic(self.generate(len(x), z), z).float()

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        optimizer = partial(adam, rate=r.rate, betas=(r.beta1, r.beta2))
        return {"critic": optimizer(self.critic), "generator": optimizer(self.encoder, self.generator)}
