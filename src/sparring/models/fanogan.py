"""f-AnoGAN, 2019: an encoder, learnt after the GAN, replaces the search of AnoGAN."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.losses import gradient_penalty, squared_error
from sparring.nets.dcgan import nearest_power, power_of_two, widths
from sparring.nets.dense import perceptron, standardiser
from sparring.nets.initial import tensorflow_norms
from sparring.nets.optimizers import adam
from sparring.nets.residual import ResidualBlock, glorot
from sparring.protocol import Draw, Game, Phase, Recipe, Round, Spec, Update, frozen, hyper


@dataclass(frozen=True)
class FAnoGANRecipe(Recipe):
    batch: int = hyper(64, "", "authors' code", least=1)
    epochs: float | None = hyper(
        None, "", "of the GAN; empty: 7 as in the authors' code, and 500 rounds at least", above=0
    )
    encode_rounds: int | None = hyper(
        None, "", "of the encoder; empty: as many as the critic has steps; authors' code: 50,000", least=1
    )
    critic_steps: int = hyper(5, "n_critic", "authors' code", least=1)
    penalty: float = hyper(10.0, "lambda", "weight of the gradient penalty, authors' code", least=0)
    latent: int = hyper(128, "dim z", "authors' code", least=1)
    width: int = hyper(64, "", "feature maps at the largest scale, authors' code", least=1)
    hidden: int = hyper(64, "", "units of the hidden layers on features, a choice of ours", least=1)
    kappa: float = hyper(1.0, "kappa", "weight of the critic's features, authors' code", least=0)
    rate: float = hyper(1e-4, "alpha", "learning rate of Adam, of the GAN; authors' code", above=0)
    beta1: float = hyper(0.0, "beta_1", "authors' code", least=0, most=0.999)
    beta2: float = hyper(0.9, "beta_2", "authors' code", least=0, most=0.9999)
    rate_encoder: float = hyper(5e-5, "", "learning rate of RMSprop, of the encoder; authors' code", above=0)


AUTHORS_CODE = FAnoGANRecipe(epochs=7, encode_rounds=50_000)


def image_generator(shape: tuple[int, ...], latent: int, width: int) -> nn.Sequential:
    """Make images (B, C, S, S) in [-1, 1] of latent vectors (B, latent), by residual blocks."""
    w = widths(power_of_two(shape[-1], 16, 256, "fanogan"), width)
    first = [glorot(nn.Linear(latent, w[0] * 16)), nn.Unflatten(1, (w[0], 4, 4))]
    blocks = [ResidualBlock(a, b, "up", nn.BatchNorm2d) for a, b in itertools.pairwise([w[0], *w])]
    last = [nn.BatchNorm2d(width), nn.ReLU(), glorot(nn.Conv2d(width, shape[0], 3, padding=1)), nn.Tanh()]
    return nn.Sequential(*first, *blocks, *last)


def image_features(shape: tuple[int, ...], width: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """Read images (B, C, S, S) as rows, by residual blocks that halve the side to 4."""
    w = widths(power_of_two(shape[-1], 16, 256, "fanogan"), width)[::-1]
    first = glorot(nn.Conv2d(shape[0], width, 3, padding=1))
    blocks = [ResidualBlock(a, b, "down", norm) for a, b in itertools.pairwise([*w, w[-1]])]
    return nn.Sequential(first, *blocks, nn.Flatten())


class FAnoGAN(Game):
    """Flag what an encoder, learnt to invert a GAN of normal examples, does not bring back.

    Phase one trains a WGAN-GP; phase two fixes it and trains an encoder E so that G(E(x)) is x, in pixels and in the
    features f of the critic (the authors' izi_f). That loss, |x - G(E(x))|^2 + kappa |f(x) - f(G(E(x)))|^2 as means
    over the numbers of x and of f, is the score. The map is the residual |x - G(E(x))|.

    Reference: Thomas Schlegl, Philipp Seeböck, Sebastian M. Waldstein, Georg Langs, Ursula Schmidt-Erfurth (2019),
    f-AnoGAN: Fast Unsupervised Anomaly Detection with Generative Adversarial Networks, Medical Image Analysis 54; its
    GAN is that of arXiv:1704.00028. Details are those of the authors' code, tSchlegl/f-AnoGAN.

    Departures:
        A round is that of WGAN-GP's Algorithm 1, critic first. An epoch is one pass of the critic over the data. Phase
        one has 500 rounds at least, and phase two as many as the critic has steps; the authors' has 50,000 (variant
        `authors_code`). Batch norm keeps running statistics, by which scores are computed. Sides other than 64 pixels
        have more or fewer blocks, never wider than 8 times the first. The first convolution of a block has a bias.
        Features instead of images are standardised and meet perceptrons.
    """

    averages = ("generator", "features", "encoder")
    usual_epochs = 7
    least_rounds = 500

    def __init__(self, spec: Spec, recipe: FAnoGANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: FAnoGANRecipe = recipe
        self.standardise = standardiser(spec)
        self.draws = recipe.critic_steps
        r, shape = recipe, spec.shape
        self.width = r.latent if spec.is_image else max(1, min(r.latent, spec.size // 2))
        if spec.is_image:
            self.generator = image_generator(shape, r.latent, r.width)
            self.features: nn.Module = image_features(shape, r.width, partial(nn.GroupNorm, 1))  # layer norm
            encoder: nn.Module = image_features(shape, r.width, nn.BatchNorm2d)
            units = 16 * widths(power_of_two(shape[-1], 16, 256, "fanogan"), r.width)[0]
        else:
            self.generator = perceptron((self.width, r.hidden, r.hidden, spec.size))
            self.features = nn.Sequential(perceptron((spec.size, r.hidden, r.hidden)), nn.ReLU())
            encoder, units = nn.Sequential(perceptron((spec.size, r.hidden, r.hidden)), nn.ReLU()), r.hidden
        self.verdict = glorot(nn.Linear(units, 1))
        self.encoder = nn.Sequential(encoder, glorot(nn.Linear(units, self.width)))
        tensorflow_norms(self)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return nearest_power(native, 16, 256)

    def prepare(self, x: Tensor) -> None:
        self.standardise.learn(x)

    def latent(self, n: int) -> Tensor:
        """Draw z ~ N(0, I), (n, latent)."""
        return torch.randn(n, self.width, device=self.verdict.weight.device)

    def generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n examples (n, *spec.shape), images in [-1, 1]; z defaults to fresh draws."""
        return self.standardise.back(self.generator(self.latent(n) if z is None else z).float())

    def encode(self, x: Tensor) -> Tensor:
        """The code of each example, (B, latent)."""
        return self.encoder(self.standardise(x)).float()

    def reconstruct(self, x: Tensor) -> Tensor:
        """G(E(x)), same shape; features come back standardised."""
        return self.generator(self.encoder(self.standardise(x)))

    def critic(self, x: Tensor) -> Tensor:
        """Value examples as the networks see them, (B,)."""
        return self.verdict(self.features(x)).flatten().float()

    def round(self, draw: Draw, step: int) -> Round:
        r = self.recipe
        for _ in range(r.critic_steps):
            x = self.standardise(draw().x)
            with torch.no_grad():
                y = self.generator(self.latent(len(x)))
            penalty = r.penalty * gradient_penalty(self.critic, x, y)
            yield Update("critic", real=-self.critic(x).mean(), fake=self.critic(y).mean(), penalty=penalty)
        with frozen(self.features, self.verdict):
            value = self.critic(self.generator(self.latent(len(x)))).mean()
        yield Update("generator", fooled=-value)

    def encode_round(self, draw: Draw, step: int) -> Round:
        """A step of the encoder; the GAN is fixed, batch norm of G included."""
        self.generator.eval()
        x = self.standardise(draw().x)
        with torch.no_grad():
            real = self.features(x)
        with frozen(self.generator, self.features):
            y = self.generator(self.encoder(x))
            made = self.features(y)
        yield Update("encoder", restored=squared_error(y, x), features=self.recipe.kappa * squared_error(made, real))

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        optimizer = partial(adam, rate=r.rate, betas=(r.beta1, r.beta2))
        return {"critic": optimizer(self.features, self.verdict), "generator": optimizer(self.generator)}

    def encoding(self) -> dict[str, Optimizer]:
        """Who learns in the second phase."""
        return {"encoder": torch.optim.RMSprop(self.encoder.parameters(), self.recipe.rate_encoder, alpha=0.9)}

    def phases(self) -> list[Phase]:
        r = self.recipe
        later = r.encode_rounds if r.encode_rounds is not None else self.rounds * r.critic_steps
        return [
            Phase("gan", self.rounds, self.round, self.players),
            Phase("encode", later, self.encode_round, self.encoding, draws=1),
        ]

    def score(self, x: Tensor) -> Tensor:
        """Mean squares of x - G(E(x)) and, times kappa, of f(x) - f(G(E(x))), (B,)."""
        x = self.standardise(x)
        y = self.generator(self.encoder(x))
        pixels = (x - y).flatten(1).square().mean(1)
        return pixels + self.recipe.kappa * (self.features(x) - self.features(y)).square().mean(1)

    def anomaly_map(self, x: Tensor) -> Tensor:
        """The reconstruction residual |x - G(E(x))|, mean over channels, (B, H, W)."""
        return (x - self.reconstruct(x)).abs().mean(1)
