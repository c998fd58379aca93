"""GANomaly, 2018: normal images survive a second encoding, strange ones do not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.losses import absolute_error, is_fake, is_real, squared_error
from sparring.nets.coder import ImageDecoder, ImageEncoder, VectorEncoder, vector_decoder
from sparring.nets.dcgan import nearest_power, power_of_two
from sparring.nets.dense import standardiser
from sparring.nets.initial import dcgan_weights
from sparring.nets.optimizers import adam
from sparring.protocol import Draw, Game, Recipe, Round, Spec, Update, hyper

COMPARED = ("code", "restored", "features")  # of an example and of what is restored of it


@dataclass(frozen=True)
class GANomalyRecipe(Recipe):
    batch: int = hyper(64, "", "authors' code", least=1)
    epochs: float | None = hyper(None, "", "empty: 5, and 350 rounds at least; authors' code: 15", above=0)
    latent: int = hyper(100, "dim z", "authors' code: nz", least=1)
    width: int = hyper(64, "", "feature maps at the largest scale, in all networks; authors' code: ngf", least=1)
    adversarial: float = hyper(1.0, "w_adv", "section 3.2 and authors' code", least=0)
    contextual: float = hyper(50.0, "w_con", "section 3.2 and authors' code", least=0)
    encoder: float = hyper(1.0, "w_enc", "section 3.2 and authors' code", least=0)
    rate: float = hyper(2e-4, "", "learning rate of Adam, authors' code", above=0)
    beta1: float = hyper(0.5, "", "momentum term of Adam, authors' code", least=0, most=0.999)
    reset_below: float = hyper(1e-5, "", "D is re-initialised where its loss falls below this; authors' code", least=0)
    norm: str = hyper(
        "l1", "A(x)", "the paper scores by l1; the authors' code by the mean square", choices=("l1", "l2")
    )
    score: str = hyper(
        "code", "", "what is compared: codes, section 3.3; images; D's features; or all, each over its usual size",
        choices=(*COMPARED, "all"),
    )  # fmt: skip
    noise: float = hyper(0.0, "", "deviation of noise on what G restores in training; the paper has none", least=0)


AUTHORS_CODE = GANomalyRecipe(epochs=15, norm="l2")
AVERAGED = GANomalyRecipe(ema=0.99)  # not in the paper: scores by weights averaged over the last hundred rounds or so


class GANomaly(Game):
    """Flag images whose code changes when they are decoded and encoded again.

    The generator encodes x to z, decodes z to an image and a second encoder reads that image; it learns
    from normal images to match the discriminator's features (adversarial), the pixels (contextual)
    and the code (encoder). The score is the distance between the two codes; the map is the residual
    |x - G(x)|, which the paper does not define.

    Reference: Samet Akcay, Amir Atapour-Abarghouei, Toby P. Breckon (2018), GANomaly: Semi-Supervised
    Anomaly Detection via Adversarial Training, arXiv:1805.06725. Details are those of the authors'
    code, samet-akcay/ganomaly.

    Departures:
        Training ends after 5 epochs instead of 15, but not before round 350: few photographs are soon passed over.
        Scores are computed in eval mode and are not rescaled by the extremes of the test set. Images
        are in [-1, 1] for every data set; the authors' MNIST reaches 2.8, which their tanh cannot make.
        Re-initialising the discriminator also forgets its running statistics.
        Features instead of images are standardised and pass through fully connected networks.
    """

    usual_epochs = 5
    least_rounds = 350
    resets: Tensor  # how often the discriminator was re-initialised
    usual: Tensor  # mean of each compared difference over recent minibatches, where the score adds them up
    averages = ("encoder", "decoder", "reencoder", "discriminator")

    def __init__(self, spec: Spec, recipe: GANomalyRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: GANomalyRecipe = recipe
        self.standardise = standardiser(spec)
        r = recipe
        if spec.is_image:
            power_of_two(spec.shape[-1], 16, 256, "ganomaly")
            self.encoder: nn.Module = ImageEncoder(spec.shape, r.width, r.latent)
            self.decoder: nn.Module = ImageDecoder(spec.shape, r.width, r.latent)
            self.reencoder: nn.Module = ImageEncoder(spec.shape, r.width, r.latent)
            self.discriminator: ImageEncoder | VectorEncoder = ImageEncoder(spec.shape, r.width, 1)
        else:
            latent = max(1, min(r.latent, spec.size // 2))  # a code as wide as the features would copy them
            self.encoder = VectorEncoder(spec.size, r.width, latent)
            self.decoder = vector_decoder(spec.size, r.width, latent)
            self.reencoder = VectorEncoder(spec.size, r.width, latent)
            self.discriminator = VectorEncoder(spec.size, r.width, 1)
        self.register_buffer("resets", torch.zeros((), dtype=torch.long))
        self.register_buffer("usual", torch.ones(len(COMPARED)))
        if spec.is_image:
            dcgan_weights(self)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return nearest_power(native, 16, 256)

    def prepare(self, x: Tensor) -> None:
        self.standardise.learn(x)

    def round(self, draw: Draw, step: int) -> Round:
        r = self.recipe
        x = self.standardise(draw().x)
        z = self.encoder(x + r.noise * torch.randn_like(x) if r.noise else x)
        y = self.decoder(z)
        again = self.reencoder(y)
        real, made = self.discriminator.features(x), self.discriminator.features(y)
        if r.score == "all":
            now = [self.size(a, b).mean() for a, b in ((z, again), (x, y), (real, made))]
            self.usual.lerp_(torch.stack(now).detach().float(), max(0.01, 1 / (step + 1)))
        # The authors build the discriminator's loss before the generator steps, so one graph serves both.
        _, loss = yield (
            Update(
                "generator",
                adversarial=r.adversarial * squared_error(made, real.detach()),
                contextual=r.contextual * absolute_error(y, x),
                encoder=r.encoder * squared_error(again, z),
            ),
            Update(
                "discriminator",
                real=is_real(self.discriminator.last(real)) / 2,
                fake=is_fake(self.discriminator.last(made)) / 2,
            ),
        )
        if loss < r.reset_below:
            self.resets += 1
            seed = torch.Generator(x.device).manual_seed(int(self.resets))  # the same on every process
            dcgan_weights(self.discriminator, seed)

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        optimizer = partial(adam, rate=r.rate, betas=(r.beta1, 0.999))
        return {
            "generator": optimizer(self.encoder, self.decoder, self.reencoder),
            "discriminator": optimizer(self.discriminator),
        }

    def size(self, a: Tensor, b: Tensor) -> Tensor:
        """How far b is from a, (B,): the l1 norm of the difference, or its mean square."""
        change = (a - b).flatten(1)
        return change.abs().sum(1) if self.recipe.norm == "l1" else change.square().mean(1)

    def score(self, x: Tensor) -> Tensor:
        """How far the code moves, (B,), or whatever else the recipe compares."""
        x = self.standardise(x)
        z = self.encoder(x)
        y = self.decoder(z)
        compare = {
            "code": lambda: self.size(z, self.reencoder(y)),
            "restored": lambda: self.size(x, y),
            "features": lambda: self.size(self.discriminator.features(x), self.discriminator.features(y)),
        }
        if self.recipe.score != "all":
            return compare[self.recipe.score]()
        return torch.stack([compare[name]() for name in COMPARED], 1).div(self.usual).sum(1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode what is encoded of x, same shape; features come back standardised."""
        return self.decoder(self.encoder(self.standardise(x)))

    def anomaly_map(self, x: Tensor) -> Tensor:
        """The reconstruction residual |x - G(x)|, mean over channels, (B, H, W)."""
        return (x - self.reconstruct(x)).abs().mean(1)
