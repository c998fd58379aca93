"""EGBAD, 2018: a BiGAN learns what is normal, and its encoder replaces the search of AnoGAN."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.errors import UserError
from sparring.losses import is_fake, is_real
from sparring.nets.dcgan import nearest_power, up, upward
from sparring.nets.dense import perceptron, standardiser
from sparring.nets.initial import dcgan_weights, tensorflow_norms, xavier_weights
from sparring.nets.joint import Joint, PairDiscriminator
from sparring.nets.optimizers import adam
from sparring.protocol import Draw, Game, Recipe, Round, Spec, Update, frozen, hyper

SLOPE = 0.1  # of the leaky ReLUs, authors' code


@dataclass(frozen=True)
class EGBADRecipe(Recipe):
    batch: int = hyper(100, "", "authors' code, MNIST; 50 for KDD", least=1)
    epochs: float | None = hyper(
        None, "", "empty: 100, and 5,000 rounds at least, a choice of ours: the authors' code has no default", above=0
    )
    ema: float = hyper(0.999, "", "of all networks, which score by their averages; authors' code", least=0, most=0.9999)
    latent: int = hyper(200, "dim z", "authors' code, MNIST; 32 for KDD", least=1)
    width: int = hyper(64, "", "feature maps at half the side, authors' code, MNIST", least=1)
    units: int = hyper(1024, "", "of the layer where D has read both, and of G's first; authors' code, MNIST", least=1)
    hidden: int = hyper(64, "", "units of the first hidden layers on features; others have twice as many; KDD", least=1)
    drop: float = hyper(0.5, "", "share of D's units that dropout erases; 0.2 for KDD", least=0, most=0.99)
    rate: float = hyper(1e-5, "", "learning rate of Adam, authors' code", above=0)
    beta1: float = hyper(0.5, "beta_1", "authors' code", least=0, most=0.999)
    weight: float = hyper(0.1, "w", "of the discriminator's part of the score, authors' code", least=0, most=1)
    compare: str = hyper(
        "features", "L_D", "D's last features of x and of G(E(x)), or its cross-entropy on (x, E(x))",
        choices=("features", "cross_entropy"),
    )  # fmt: skip


KDD = EGBADRecipe(batch=50, latent=32, drop=0.2)


def halvings(side: int) -> int:
    """How often a side is halved on the way to 8 pixels or fewer; twice at least, so that 28 ends at 7.

    Raises:
        UserError: For a side that such halvings do not reach.
    """
    steps = 2
    while side >> steps > 8:
        steps += 1
    if side >> steps << steps != side or not 16 <= side <= 256:
        raise UserError(
            f"egbad works on square images of 28 pixels, or of a power of two from 16 to 256, not of {side}: choose a "
            "side with --size."
        )
    return steps


def half(inputs: int, outputs: int, norm: bool = True, kernel: int = 4) -> list[nn.Module]:
    """Halve the side."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, 2, 1)]
    return [*layers, *([nn.BatchNorm2d(outputs)] if norm else []), nn.LeakyReLU(SLOPE)]


def image_networks(spec: Spec, r: EGBADRecipe) -> tuple[nn.Module, nn.Module, PairDiscriminator]:
    """Encoder, generator and discriminator of images (B, C, S, S)."""
    channels, side = spec.shape[0], spec.shape[-1]
    steps = halvings(side)
    base, top = side >> steps, 2 * r.width
    narrow = max(1, r.width // 2)
    encoder: list[nn.Module] = [nn.Conv2d(channels, narrow, 3, padding=1)]
    for k in range(steps):
        encoder += half(narrow if k == 0 else r.width if k == 1 else top, r.width if k == 0 else top, kernel=3)
    encoder += [nn.Flatten(), nn.Linear(top * base**2, r.latent)]

    generator: list[nn.Module] = []
    for inputs, outputs in ((r.latent, r.units), (r.units, top * base**2)):
        generator += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    generator += [nn.Unflatten(1, (top, base, base))]
    for k in range(steps - 1):
        generator += up(top if k == 0 else r.width, r.width, bias=True)
    generator += [upward(r.width, channels, bias=True), nn.Tanh()]

    of_x: list[nn.Module] = []
    for k in range(steps):
        of_x += [*half(r.width if k else channels, r.width, norm=k > 0), nn.Dropout(r.drop)]
    of_z = read(r.latent, max(1, r.units // 2), r.drop)
    both = read(r.width * base**2 + max(1, r.units // 2), r.units, r.drop)
    judge = PairDiscriminator(Joint(nn.Sequential(*of_x, nn.Flatten()), of_z, both), r.units)
    return nn.Sequential(*encoder), nn.Sequential(*generator), judge


def read(inputs: int, units: int, drop: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, units), nn.LeakyReLU(SLOPE), nn.Dropout(drop))


def feature_networks(size: int, latent: int, r: EGBADRecipe) -> tuple[nn.Module, nn.Module, PairDiscriminator]:
    """Encoder, generator and discriminator of features (B, D), as for KDD."""
    wide = 2 * r.hidden
    encoder = nn.Sequential(nn.Linear(size, r.hidden), nn.LeakyReLU(SLOPE), nn.Linear(r.hidden, latent))
    generator = perceptron((latent, r.hidden, wide, size))
    judge = Joint(read(size, wide, r.drop), read(latent, wide, r.drop), read(2 * wide, wide, r.drop))
    return encoder, generator, PairDiscriminator(judge, wide)


class EGBAD(Game):
    """Flag what an encoder and a generator, learnt against a discriminator of pairs, do not bring back.

    Encoder E and generator G learn as in BiGAN, from normal examples. The score adds the l1 distance from x to G(E(x))
    and, at a small weight, what the discriminator sees in it. The map is the residual |x - G(E(x))|, which the paper
    does not define.

    Reference: Houssam Zenati, Chuan Sheng Foo, Bruno Lecouat, Gaurav Manek, Vijay Ramaseshan Chandrasekhar (2018),
    Efficient GAN-Based Anomaly Detection, arXiv:1802.06222. Details are those of the authors' code,
    houssamzenati/Efficient-GAN-Anomaly-Detection.

    Departures:
        E and G are one player: no term of either reaches the other, so that the two optimizers of the authors' code
        take the same steps. Batch norm also follows the minibatches of D's turn. The cross-entropy is that of
        (x, E(x)); the authors' code judges (G(E(x)), E(x)). Convolutions of kernel 3 and stride 2 are padded on all
        sides (TensorFlow: below and right). Sides other than 28 pixels are halved to 4 or 8. Features are standardised;
        their code is at most half as wide as they are.
    """

    blind_to_means = True
    averages = ("encoder", "generator", "discriminator")
    draws = passes = 2
    usual_epochs = 100
    least_rounds = 5000

    def __init__(self, spec: Spec, recipe: EGBADRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: EGBADRecipe = recipe
        self.standardise = standardiser(spec)
        self.width = recipe.latent if spec.is_image else max(1, min(recipe.latent, spec.size // 2))
        if spec.is_image:
            self.encoder, self.generator, self.discriminator = image_networks(spec, recipe)
            dcgan_weights(self)
            tensorflow_norms(self)
        else:
            self.encoder, self.generator, self.discriminator = feature_networks(spec.size, self.width, recipe)
            xavier_weights(self)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return 28 if native == 28 else nearest_power(native, 16, 256)

    def prepare(self, x: Tensor) -> None:
        self.standardise.learn(x)

    def latent(self, n: int) -> Tensor:
        """Draw z ~ N(0, I), (n, latent)."""
        return torch.randn(n, self.width, device=next(self.parameters()).device)

    def generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n examples (n, *spec.shape), images in [-1, 1]; z defaults to fresh draws."""
        return self.standardise.back(self.generator(self.latent(n) if z is None else z).float())

    def encode(self, x: Tensor) -> Tensor:
        """The code of each example, (B, latent)."""
        return self.encoder(self.standardise(x)).float()

    def reconstruct(self, x: Tensor) -> Tensor:
        """G(E(x)), same shape; features come back standardised."""
        return self.generator(self.encoder(self.standardise(x)))

    def round(self, draw: Draw, step: int) -> Round:
        judged = self.discriminator
        x = self.standardise(draw().x)
        z = self.latent(len(x))
        with torch.no_grad():
            code, y = self.encoder(x), self.generator(z)
        yield Update("discriminator", real=is_real(judged(x, code)), fake=is_fake(judged(y, z)))
        x = self.standardise(draw().x)
        z = self.latent(len(x))
        with frozen(judged):  # labels exchanged in both: without `encoded` E would learn nothing
            encoded, fooled = is_fake(judged(x, self.encoder(x))), is_real(judged(self.generator(z), z))
        yield Update("generator", encoded=encoded, fooled=fooled)

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        optimizer = partial(adam, rate=r.rate, betas=(r.beta1, 0.999))
        return {"discriminator": optimizer(self.discriminator), "generator": optimizer(self.encoder, self.generator)}

    def score(self, x: Tensor) -> Tensor:
        """(1 - w) |x - G(E(x))|_1 + w L_D, (B,)."""
        x, w = self.standardise(x), self.recipe.weight
        code = self.encoder(x)
        y = self.generator(code)
        features = self.discriminator.features
        if self.recipe.compare == "features":
            strange = (features(x, code) - features(y, code)).abs().sum(1)
        else:
            strange = F.softplus(-self.discriminator(x, code))
        return (1 - w) * (x - y).abs().flatten(1).sum(1) + w * strange

    def anomaly_map(self, x: Tensor) -> Tensor:
        """The reconstruction residual |x - G(E(x))|, mean over channels, (B, H, W)."""
        return (x - self.reconstruct(x)).abs().mean(1)
