"""AnoGAN, 2017: search the latent space of a GAN of normal examples for the one that is most like x."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.losses import is_fake, is_real
from sparring.nets.dcgan import Discriminator, Generator, nearest_power, power_of_two
from sparring.nets.dense import perceptron, standardiser
from sparring.nets.initial import dcgan_weights
from sparring.nets.optimizers import adam
from sparring.protocol import Draw, Game, Recipe, Round, Spec, Update, frozen, hyper

FALL = {200: 0.1, 300: 0.05}  # of the rate of the search, from these steps on


@dataclass(frozen=True)
class AnoGANRecipe(Recipe):
    batch: int = hyper(64, "", "a choice of ours, that of our DCGAN", least=1)
    epochs: float | None = hyper(None, "", "empty: 20, and 500 rounds at least; a choice of ours", above=0)
    latent: int = hyper(100, "dim z", "DCGAN", least=1)
    width: int = hyper(64, "", "feature maps at the largest scale, DCGAN's code", least=1)
    hidden: int = hyper(64, "", "units of the hidden layers on features, a choice of ours", least=1)
    rate: float = hyper(2e-4, "", "learning rate of Adam, DCGAN", above=0)
    beta1: float = hyper(0.5, "beta_1", "DCGAN", least=0, most=0.999)
    weight: float = hyper(
        0.1, "lambda", "of the discriminator's part of the score; as the authors of EGBAD quote it", least=0, most=1
    )
    search_steps: int = hyper(500, "Gamma", "of the search for z; code of the authors of EGBAD", least=1)
    search_rate: float = hyper(
        0.01, "", "of Adam in the search, a tenth after 200 steps and a twentieth after 300; code of EGBAD", above=0
    )


class AnoGAN(Game):
    """Flag what a GAN of normal examples cannot make, by searching the z that comes closest.

    A DCGAN learns from normal examples. For each x, gradient descent on z lowers the distance from x to G(z): the l1
    norm of their difference and, at a small weight, of that of D's last features. What is left is the score; the map is
    the residual |x - G(z)|. All searches start from one z, which is drawn once and kept, and each goes its own way: a
    score is a function of x alone. It takes as many passes through both networks, there and back, as there are steps.

    Reference: Thomas Schlegl, Philipp Seeböck, Sebastian M. Waldstein, Ursula Schmidt-Erfurth, Georg Langs (2017),
    Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker Discovery, arXiv:1703.05921.
    Details of the search are those of the code of EGBAD's authors, houssamzenati/Efficient-GAN-Anomaly-Detection.

    Departures:
        The networks and their training are our DCGAN's, discriminator first; the paper's own code is not known to us.
        In that of EGBAD's authors each search starts from a z of its own, so that scores change from run to run.
        Features instead of images are standardised and meet perceptrons; their z is at most half as wide as they are.
    """

    averages = ("generator", "features")
    usual_epochs = 20
    least_rounds = 500
    exportable = False
    start: Tensor  # where every search begins

    def __init__(self, spec: Spec, recipe: AnoGANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: AnoGANRecipe = recipe
        self.standardise = standardiser(spec)
        r = recipe
        if spec.is_image:
            power_of_two(spec.shape[-1], 16, 256, "anogan")
            self.generator: nn.Module = Generator(spec.shape, r.latent, r.width)
            judge = Discriminator(spec.shape, r.width)
            self.features: nn.Module = judge.features
            self.verdict: nn.Module = judge.verdict
            self.shape: tuple[int, ...] = (r.latent, 1, 1)
            dcgan_weights(self)
        else:
            self.shape = (max(1, min(r.latent, spec.size // 2)),)
            self.generator = perceptron((*self.shape, r.hidden, r.hidden, spec.size))
            self.features = nn.Sequential(*perceptron((spec.size, r.hidden, r.hidden), nn.LeakyReLU), nn.LeakyReLU())
            self.verdict = nn.Linear(r.hidden, 1)
        self.register_buffer("start", torch.randn(1, *self.shape))

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return nearest_power(native, 16, 256)

    def prepare(self, x: Tensor) -> None:
        self.standardise.learn(x)

    def latent(self, n: int) -> Tensor:
        """Draw z ~ N(0, I), (n, latent), or (n, latent, 1, 1) for images."""
        return torch.randn(n, *self.shape, device=self.start.device)

    def generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n examples (n, *spec.shape), images in [-1, 1]; z defaults to fresh draws."""
        return self.standardise.back(self.generator(self.latent(n) if z is None else z).float())

    def round(self, draw: Draw, step: int) -> Round:
        x = self.standardise(draw().x)
        y = self.generator(self.latent(len(x)))
        yield Update("discriminator", real=is_real(self.judged(x)), fake=is_fake(self.judged(y.detach())))
        with frozen(self.features, self.verdict):
            fooled = is_real(self.judged(y))
        yield Update("generator", fooled=fooled)

    def judged(self, x: Tensor) -> Tensor:
        """D's logit, (B,), of examples as the networks see them."""
        return self.verdict(self.features(x)).flatten()

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        optimizer = partial(adam, rate=r.rate, betas=(r.beta1, 0.999))
        return {"discriminator": optimizer(self.features, self.verdict), "generator": optimizer(self.generator)}

    def distance(self, x: Tensor, read: Tensor, z: Tensor) -> Tensor:
        """How far G(z) is from x, of which D's last features are `read`, (B,)."""
        w, y = self.recipe.weight, self.generator(z)
        features = (read - self.features(y)).abs().flatten(1).sum(1)
        return (1 - w) * (x - y).abs().flatten(1).sum(1) + w * features

    def search(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The z that the search ends at, of the shape of `latent`, and its distance from x (B,)."""
        r = self.recipe
        with torch.no_grad():
            read = self.features(x)
        with torch.enable_grad(), frozen(self):
            z = self.start.repeat(len(x), *[1] * len(self.shape)).requires_grad_()
            adam = torch.optim.Adam([z], r.search_rate)
            for step in range(r.search_steps):
                if step in FALL:
                    adam.param_groups[0]["lr"] = r.search_rate * FALL[step]
                (z.grad,) = torch.autograd.grad(self.distance(x, read, z).sum(), z)
                adam.step()
        with torch.no_grad():
            return z.detach(), self.distance(x, read, z)

    def encode(self, x: Tensor) -> Tensor:
        """The z whose G(z) comes closest to each example, of the shape of `latent`."""
        return self.search(self.standardise(x))[0].float()

    def score(self, x: Tensor) -> Tensor:
        """(1 - lambda) |x - G(z)|_1 + lambda |f(x) - f(G(z))|_1 at the end of the search, (B,)."""
        return self.search(self.standardise(x))[1]

    def reconstruct(self, x: Tensor) -> Tensor:
        """G(z) at the end of the search, same shape; features come back standardised."""
        return self.generator(self.search(self.standardise(x))[0])

    def anomaly_map(self, x: Tensor) -> Tensor:
        """The residual |x - G(z)|, mean over channels, (B, H, W)."""
        return (x - self.reconstruct(x)).abs().mean(1)
