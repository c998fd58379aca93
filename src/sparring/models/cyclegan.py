"""CycleGAN, 2017: translate images between two domains and back, judged patch by patch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.errors import UserError
from sparring.losses import absolute_error
from sparring.nets.initial import dcgan_weights
from sparring.nets.optimizers import adam
from sparring.nets.pool import Pool
from sparring.protocol import Draw, Game, Phase, Recipe, Round, Spec, Update, frozen, hyper

LEAST, MOST = 32, 1024  # pixels of a side; patches of 70 pixels are larger than the least, and see padding there


@dataclass(frozen=True)
class CycleGANRecipe(Recipe):
    batch: int = hyper(1, "", "section 4", least=1)
    epochs: float = hyper(200, "", "section 4: 100 at the full rate and 100 of decay", above=0)
    constant: float = hyper(0.5, "", "share of the rounds at the full rate, section 4", least=0, most=1)
    cycle: float = hyper(10.0, "lambda", "section 4: weight of the cycle loss", least=0)
    identity: float = hyper(0.0, "", "weight of the identity loss, over lambda; section 5.2: 0.5", least=0)
    pool: int = hyper(50, "", "section 4: made images of the past that the discriminators see", least=0)
    blocks: int = hyper(9, "", "residual blocks, section 4: 6 for 128 pixels, 9 for 256 and more", least=1)
    width: int = hyper(64, "", "feature maps at the largest scale, authors' code", least=1)
    layers: int = hyper(
        3, "", "of stride 2 in a discriminator, authors' code: 3 see patches of 70 pixels", least=1, most=3
    )
    rate: float = hyper(2e-4, "", "learning rate of Adam, section 4", above=0)
    beta1: float = hyper(0.5, "beta_1", "authors' code", least=0, most=0.999)


IDENTITY = CycleGANRecipe(identity=0.5)  # section 5.2: keeps colours, for photographs of paintings
SIX_BLOCKS = CycleGANRecipe(blocks=6)  # section 4, for 128 pixels


def norm(layer: nn.Module, maps: int, activation: Callable[[], nn.Module] | None = None) -> list[nn.Module]:
    """A layer, instance norm without gain and bias, and an activation."""
    return [layer, nn.InstanceNorm2d(maps), *([activation()] if activation else [])]


def relu() -> nn.Module:
    return nn.ReLU(inplace=True)


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)


class Block(nn.Module):
    """Add to maps (B, maps, H, W) what two 3x3 convolutions make of them."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1), *norm(nn.Conv2d(maps, maps, 3), maps, relu),
            nn.ReflectionPad2d(1), *norm(nn.Conv2d(maps, maps, 3), maps),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def generator(channels: int, r: CycleGANRecipe) -> nn.Sequential:
    """Turn images (B, C, H, W) in [-1, 1] into such images, mostly at a quarter of their sides."""
    w = [r.width, 2 * r.width, 4 * r.width]
    layers = [nn.ReflectionPad2d(3), *norm(nn.Conv2d(channels, w[0], 7), w[0], relu)]
    for a, b in itertools.pairwise(w):
        layers += norm(nn.Conv2d(a, b, 3, 2, 1), b, relu)
    layers += [Block(w[-1]) for _ in range(r.blocks)]
    for a, b in itertools.pairwise(reversed(w)):
        layers += norm(nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1), b, relu)
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(w[0], channels, 7), nn.Tanh())


def discriminator(channels: int, r: CycleGANRecipe) -> nn.Sequential:
    """Judge each patch of images (B, C, H, W): one number a patch, (B, 1, H', W')."""
    w = [r.width * 2**k for k in range(r.layers + 1)]
    layers: list[nn.Module] = [nn.Conv2d(channels, w[0], 4, 2, 1), leaky()]
    for a, b in itertools.pairwise(w):
        layers += norm(nn.Conv2d(a, b, 4, 1 if b == w[-1] else 2, 1), b, leaky)
    return nn.Sequential(*layers, nn.Conv2d(w[-1], 1, 4, 1, 1))


def called(verdict: Tensor, label: float) -> Tensor:
    """Mean squared difference between the verdicts on patches and a label: 1 is real, 0 is made."""
    return (verdict.float() - label).square().mean()


class CycleGAN(Game):
    """Translate images between two domains of which no pairs are known, and back to where they came from.

    Terms are named after the domain that they look at: what a translation costs by the discriminator there (`fooled`),
    the error of images after the way there and back (`cycle`), and, where `identity` is above 0, of images that a
    generator should leave alone since they are of its own domain (`identity`).

    Reference: Jun-Yan Zhu, Taesung Park, Phillip Isola, Alexei A. Efros (2017), Unpaired Image-to-Image Translation
    using Cycle-Consistent Adversarial Networks, arXiv:1703.10593. Details are those of the authors' code,
    junyanz/pytorch-CycleGAN-and-pix2pix.

    Departures:
        The generators move before the discriminators, as in the authors' code. That code enlarges images, cuts a
        random part out and mirrors it; here the discriminators see the data as they are. Its default for `identity`
        is 0.5, here as in most of the paper 0. An epoch is a pass over domain A, where the code's is one over the
        larger domain, and the learning rate falls at every round, not at every epoch. Which past images are shown
        follows from the round alone.
    """

    needs = ("x", "partner")
    averages = ("generator_ab", "generator_ba")

    def __init__(self, spec: Spec, recipe: CycleGANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: CycleGANRecipe = recipe
        if not spec.is_image:
            raise UserError(f"cyclegan works on images, not on vectors of {spec.size} numbers: use discogan for these.")
        channels, side, other = spec.shape
        if side != other or side % 4 or not LEAST <= side <= MOST:
            raise UserError(
                f"cyclegan works on square images whose side is a multiple of 4 from {LEAST} to {MOST}, not on "
                f"{side}x{other} pixels: choose one with --size."
            )
        self.generator_ab, self.generator_ba = generator(channels, recipe), generator(channels, recipe)
        self.discriminator_a, self.discriminator_b = discriminator(channels, recipe), discriminator(channels, recipe)
        self.pool_a, self.pool_b = (Pool(recipe.pool, spec.shape, lane) for lane in range(2))
        dcgan_weights(self)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return min(MOST, max(LEAST, -(-native // 4) * 4))

    def translate(self, x: Tensor, to: str) -> Tensor:
        """What x (B, C, H, W), of the other domain, is in domain `to`, "a" or "b"; both in [-1, 1]."""
        return {"a": self.generator_ba, "b": self.generator_ab}[to](x).float()

    def round(self, draw: Draw, step: int) -> Round:
        r, batch = self.recipe, draw()
        a, b = batch.x, batch.partner
        assert b is not None
        to_b, to_a = self.generator_ab, self.generator_ba
        made_b, made_a = to_b(a), to_a(b)
        with frozen(self.discriminator_a, self.discriminator_b):
            terms = {
                "fooled_b": called(self.discriminator_b(made_b), 1),
                "fooled_a": called(self.discriminator_a(made_a), 1),
            }
        terms["cycle_a"] = r.cycle * absolute_error(to_a(made_b), a)
        terms["cycle_b"] = r.cycle * absolute_error(to_b(made_a), b)
        if r.identity:
            terms["identity_b"] = r.identity * r.cycle * absolute_error(to_b(b), b)
            terms["identity_a"] = r.identity * r.cycle * absolute_error(to_a(a), a)
        yield Update("generators", **terms)
        shown_b, shown_a = self.pool_b(made_b, step), self.pool_a(made_a, step)
        yield Update(
            "discriminators",
            real_b=called(self.discriminator_b(b), 1) / 2, fake_b=called(self.discriminator_b(shown_b), 0) / 2,
            real_a=called(self.discriminator_a(a), 1) / 2, fake_a=called(self.discriminator_a(shown_a), 0) / 2,
        )  # fmt: skip

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        optimizer = partial(adam, rate=r.rate, betas=(r.beta1, 0.999))
        return {
            "generators": optimizer(self.generator_ab, self.generator_ba),
            "discriminators": optimizer(self.discriminator_a, self.discriminator_b),
        }

    def phases(self) -> list[Phase]:
        falling = max(1.0, (1 - self.recipe.constant) * self.rounds)  # rounds
        return [
            Phase("train", self.rounds, self.round, self.players, lambda step: min(1.0, (self.rounds - step) / falling))
        ]
