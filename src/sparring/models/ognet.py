"""OGNet, "Old is Gold", 2020: a discriminator that tells good reconstructions from bad ones."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.errors import UserError
from sparring.losses import is_fake, is_real, squared_error
from sparring.nets.coder import ImageDecoder, ImageEncoder, VectorEncoder, vector_decoder
from sparring.nets.dcgan import nearest_power, power_of_two
from sparring.nets.dense import standardiser
from sparring.nets.optimizers import adam
from sparring.protocol import Draw, Game, Phase, Recipe, Round, Spec, Update, frozen, hyper

LEAST, SIDE, MOST = 32, 45, 256  # pixels: the smallest side, the authors', the largest
DIGIT = 28  # side of the smallest images that the authors bring to theirs

# In this game D is 1 where it says bad and 0 where it says good, as in the authors' code; elsewhere in this library
# it is 1 where it says real. The two losses on its logit are the same, and change their names.
is_good, is_bad = is_fake, is_real


@dataclass(frozen=True)
class OGNetRecipe(Recipe):
    batch: int = hyper(64, "", "authors' code", least=1)
    epochs: float | None = hyper(
        None, "", "of phase one; empty: 4, the authors' first high epoch has number 3, and 300 rounds at least", above=0
    )
    elder: float = hyper(
        0.25, "", "share of phase one after which G_old is kept; authors' code: after the first of four epochs",
        least=0, most=1,
    )  # fmt: skip
    second: int = hyper(75, "", "rounds of phase two, authors' code", least=1)
    sigma: float = hyper(
        0.81, "sigma", "deviation of the noise in phase one; authors' code: the square of its option, 0.9", least=0
    )
    adversarial: float = hyper(
        0.5, "", "weight of fooling D against restoring x, which has the rest; authors' code", least=0, most=1
    )
    alpha: float = hyper(0.1, "alpha", "weight of real images against rebuilt ones, authors' code", least=0, most=1)
    beta: float = hyper(
        0.001, "beta", "weight of what G_old rebuilds against pseudo-anomalies, authors' code", least=0, most=1
    )
    rate: float = hyper(1e-3, "", "learning rate of G, Adam, authors' code", above=0)
    rate_discriminator: float = hyper(1e-4, "", "learning rate of D in phase one, Adam, authors' code", above=0)
    rate_second: float = hyper(5e-5, "", "learning rate of D in phase two, Adam, authors' code", above=0)
    networks: str = hyper(
        "unpadded", "", "of images: unpadded 5x5 without any bottleneck, authors' code; or a strided autoencoder",
        choices=("unpadded", "strided"),
    )  # fmt: skip
    width: int = hyper(64, "", "feature maps at the largest scale, authors' code", least=1)
    latent: int = hyper(64, "", "numbers in the code of a strided autoencoder, a choice of ours", least=1)


LIGHT = OGNetRecipe(networks="strided", width=32)


def unpadded_generator(channels: int, width: int) -> nn.Sequential:
    """Rebuild images (B, C, S, S) in [-1, 1]: four 5x5 convolutions that take off 4 pixels each, and four back."""
    maps = [channels, width, 2 * width, 4 * width, 8 * width]
    layers: list[nn.Module] = []
    for k, (a, b) in enumerate(itertools.pairwise(maps)):
        after: list[nn.Module] = [nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(a, b, 5), *(after if k < 2 else after[::-1])]
    for a, b in itertools.pairwise(maps[:0:-1]):
        layers += [nn.ConvTranspose2d(a, b, 5), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, channels, 5), nn.Tanh())


def strided_discriminator(shape: tuple[int, ...], width: int) -> nn.Sequential:
    """Judge images (B, C, S, S): logits (B,). Four halvings, as the authors' at 45 pixels, or down to 4 pixels."""
    side, maps = shape[-1], shape[0]
    layers: list[nn.Module] = []
    for k in itertools.count():
        side, wide = (side + 1) // 2, width << min(k, 3)
        last = k >= 3 and side <= 4
        layers += [nn.Conv2d(maps, wide, 5, 2, 2), *([] if last else [nn.BatchNorm2d(wide)]), nn.ReLU(inplace=True)]
        maps = wide
        if last:
            break
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(maps * side**2, 1), nn.Flatten(0))


class OGNet(Game):
    """Flag what the discriminator takes for a bad reconstruction, after it has been shown bad ones.

    Phase one trains a denoising autoencoder G against a discriminator D, and keeps an early G as G_old. Phase two
    trains D alone, for a few rounds: real images and what G rebuilds of them are good; what G_old rebuilds is bad, and
    so are pseudo-anomalies, which G rebuilds of the mean of what G_old rebuilds of two other images. D is 1 where it
    says bad, so that D(G(x)) is the score in both phases: here it is the logit, which orders examples as the
    probability does and does not saturate. The map is the residual |x - G(x)|, which the paper does not define.

    Reference: Muhammad Zaigham Zaheer, Jin-ha Lee, Marcella Astrid, Seung-Ik Lee (2020), Old is Gold: Redefining the
    Adversarially Learned One-Class Classifier Training Paradigm, arXiv:2004.07657. Details are those of the authors'
    training code, as found in lavender9527/OGNet.

    Departures:
        D's verdict on G(x + noise) is computed anew, with D fixed, after D has stepped; the authors' G steps on the
        verdict from before, whose graph the step has invalidated. Their D's loss also has gradients for G, which are
        thrown away.
        Phase two comes once, after phase one; the authors' script starts it anew after every minibatch of late epochs,
        and reports on the test set each time. It has 75 rounds, however few minibatches an epoch has; the authors'
        counter lets 76 through, or ends early and saves nothing. Phase one ends after 4 epochs, but not before round
        300: few photographs are soon passed over. G_old is kept after a quarter of phase one, which is one epoch of
        four. Images smaller than 28 pixels are brought to 32 instead of 45; other sides, where they are asked for, pass
        through the same ladders, and D halves until 4 pixels are left.
        The variant `light` has the strided networks of DCGAN with a bottleneck instead. Features instead of images are
        standardised, pass through fully connected networks with a bottleneck, and their noise is not clipped.
    """

    scores_late = True  # G without a bottleneck has learnt to take noise away, and rebuilds it as something normal
    usual_epochs = 4
    least_rounds = 300

    def __init__(self, spec: Spec, recipe: OGNetRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: OGNetRecipe = recipe
        self.standardise = standardiser(spec)
        r, shape = recipe, spec.shape
        if not spec.is_image:
            latent = max(1, min(r.latent, spec.size // 2))  # a code as wide as the features would copy them
            encoder = VectorEncoder(spec.size, r.width, latent)
            self.generator = nn.Sequential(encoder, vector_decoder(spec.size, r.width, latent))
            self.discriminator: nn.Module = nn.Sequential(VectorEncoder(spec.size, r.width, 1), nn.Flatten(0))
        elif r.networks == "strided":
            power_of_two(shape[-1], LEAST, MOST, "ognet, variant light,")
            decoder = ImageDecoder(shape, r.width, r.latent)
            self.generator = nn.Sequential(ImageEncoder(shape, r.width, r.latent), decoder)
            self.discriminator = nn.Sequential(ImageEncoder(shape, r.width, 1), nn.Flatten(0))
        else:
            if not LEAST <= shape[1] == shape[2] <= MOST:
                raise UserError(
                    f"ognet works on square images of {LEAST} to {MOST} pixels, not on {shape[1]}x{shape[2]}: choose "
                    "a side with --size."
                )
            self.generator = unpadded_generator(shape[0], r.width)
            self.discriminator = strided_discriminator(shape, r.width)
        self.elder = copy.deepcopy(self.generator).requires_grad_(False)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        if isinstance(recipe, OGNetRecipe) and recipe.networks == "strided":
            return nearest_power(native, LEAST, MOST)
        return LEAST if native < DIGIT else SIDE

    def prepare(self, x: Tensor) -> None:
        self.standardise.learn(x)

    def noisy(self, x: Tensor) -> Tensor:
        """Add noise; images stay within [-1, 1]."""
        x = x + self.recipe.sigma * torch.randn_like(x)
        return x.clamp(-1, 1) if self.spec.is_image else x

    def round(self, draw: Draw, step: int) -> Round:
        r = self.recipe
        if step == min(round(r.elder * self.rounds), self.rounds - 1):
            self.elder.load_state_dict(self.generator.state_dict())
        x = self.standardise(draw().x)
        y = self.generator(self.noisy(x))
        real, fake = is_good(self.discriminator(x)) / 2, is_bad(self.discriminator(y.detach())) / 2
        yield Update("discriminator", real=real, fake=fake)
        with frozen(self.discriminator):
            fooled = is_good(self.discriminator(y))
        restored = (1 - r.adversarial) * squared_error(y, x)
        yield Update("generator", restored=restored, fooled=r.adversarial * fooled)

    def second(self, draw: Draw, step: int) -> Round:
        """Phase two: D alone learns good reconstructions from bad ones, on three minibatches a round."""
        r, judged = self.recipe, self.discriminator
        self.generator.eval()
        self.elder.eval()
        x, one, other = (self.standardise(draw().x) for _ in range(3))
        with torch.no_grad():
            rebuilt, old = self.generator(x), self.elder(x)
            pseudo = self.generator((self.elder(one) + self.elder(other)) / 2)
        yield Update(
            "discriminator",
            real=r.alpha * is_good(judged(x)),
            rebuilt=(1 - r.alpha) * is_good(judged(rebuilt)),
            old=r.beta * is_bad(judged(old)),
            pseudo=(1 - r.beta) * is_bad(judged(pseudo)),
        )

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        return {
            "discriminator": adam(self.discriminator, rate=r.rate_discriminator),
            "generator": adam(self.generator, rate=r.rate),
        }

    def judges(self) -> dict[str, Optimizer]:
        """Who learns in phase two: D, by an optimizer without memory of phase one."""
        return {"discriminator": adam(self.discriminator, rate=self.recipe.rate_second)}

    def phases(self) -> list[Phase]:
        return [
            Phase("one", self.rounds, self.round, self.players),
            Phase("two", self.recipe.second, self.second, self.judges, draws=3),
        ]

    def score(self, x: Tensor) -> Tensor:
        """D(G(x)) before the sigmoid, (B,): high where the reconstruction is bad."""
        return self.discriminator(self.generator(self.standardise(x)))

    def reconstruct(self, x: Tensor) -> Tensor:
        """G(x), same shape; features come back standardised."""
        return self.generator(self.standardise(x))

    def anomaly_map(self, x: Tensor) -> Tensor:
        """The reconstruction residual |x - G(x)|, mean over channels, (B, H, W)."""
        return (x - self.reconstruct(x)).abs().mean(1)
