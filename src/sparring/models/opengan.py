"""OpenGAN, 2021: a discriminator between a classifier's features and made ones knows what is of no class."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim import Optimizer

from sparring.errors import UserError
from sparring.losses import is_fake, is_real
from sparring.nets.dcgan import Discriminator, Generator, check_images, nearest_power
from sparring.nets.dense import Unchanged, standardiser
from sparring.nets.initial import dcgan_weights
from sparring.nets.optimizers import adam
from sparring.nets.outliers import synthetic
from sparring.protocol import Draw, Game, Phase, Recipe, Round, Spec, Update, frozen, hyper


@dataclass(frozen=True)
class OpenGANRecipe(Recipe):
    batch: int = hyper(128, "", "authors' code, classification", least=2)
    epochs: float | None = hyper(None, "", "empty: 100 as in the authors' code, and 3,000 rounds at least", above=0)
    outlier: float = hyper(1.0, "lambda_o", "weight of known outliers, where there are some; 0: OpenGAN-0", least=0)
    fake: float = hyper(1.0, "lambda_G", "weight of made examples; 0: a plain closed/open classifier", least=0)
    synthetic: float = hyper(0.0, "", "ours: weight of outliers made of closed-set examples; 0: none", least=0)
    latent: int = hyper(100, "dim z", "authors' code: nz", least=1)
    hidden: tuple[int, ...] = hyper(
        (512, 256, 128, 256), "", "layers of the generator of features; authors' code", least=1
    )
    units: tuple[int, ...] = hyper(
        (512, 256, 128, 64), "", "layers of the discriminator of features; authors' code", least=1
    )
    width: int = hyper(64, "", "feature maps at the largest scale, where examples are images", least=1)
    bias: bool = hyper(False, "", "whether layers of features have one; authors' code: for segmentation only")
    rate: float = hyper(1e-4, "", "learning rate of Adam, generator; authors' code", above=0)
    slower: float = hyper(1.5, "", "the discriminator's rate is divided by this; authors' code", above=0)
    beta1: float = hyper(0.5, "", "momentum term of Adam, authors' code", least=0, most=0.999)
    late: int = hyper(
        0,
        "",
        "ours: epochs at the end, if there are as many, whose mean logit is the score instead of the best; 0: off",
        least=0,
    )
    norm: str = hyper(
        "batch", "", "in the discriminator; authors' code: batch norm", choices=("batch", "none", "spectral")
    )
    separate: bool = hyper(
        False, "", "real, outlying and made examples pass one after another, as in the authors' classification"
    )
    made: float = hyper(1.0, "", "made examples for each closed-set one; authors' code, segmentation: 0.5", above=0)
    alone: bool = hyper(False, "", "in its own turn, the generator's examples pass alone, as in the authors' code")
    standardise: bool = hyper(
        True, "", "shift features, and scale them by one number, by statistics of the data; authors' code: False"
    )
    output: str = hyper("linear", "", "of the generator of features; authors' code: linear", choices=("linear", "relu"))


CLOSED_OPEN = OpenGANRecipe(fake=0.0)  # the paper's ablation: outliers alone
AUTHORS_CODE = OpenGANRecipe(outlier=0.0, separate=True, standardise=False)  # their classification notebook
SEGMENTATION = OpenGANRecipe(  # the notebook on pixels of Cityscapes: features of 720 numbers, 640 + 640 + 320 a step;
    # 0.2 is the weight of each made example there, and these are half as many
    batch=640, epochs=50, fake=0.1, made=0.5, alone=True, latent=64, bias=True, standardise=False
)  # fmt: skip
SPECTRAL = OpenGANRecipe(norm="spectral")
SYNTHETIC = OpenGANRecipe(synthetic=1.0, norm="none", rate=4e-4)  # ours, for want of any open example


class Layers(nn.Sequential):
    """A perceptron on features (..., D): normalisation and a nonlinearity between linear layers.

    The paper's networks are 1x1 convolutions of D maps. These are products with the same matrix at every position,
    and computed as that: several times as fast on a CPU, and equal.

    Args:
        widths: Numbers that go in, between, and come out.
        activation: Between layers.
        normed: The first layer that batch norm follows, counted from 0; None for no batch norm.
        bias: Whether each layer has one.
        last: Whether the last layer has one.
    """

    def __init__(
        self, widths: Sequence[int], activation: nn.Module, normed: int | None, bias: bool, last: bool
    ) -> None:
        layers: list[nn.Module] = []
        for k, (inputs, outputs) in enumerate(itertools.pairwise(widths[:-1])):
            layers.append(nn.Linear(inputs, outputs, bias=bias))
            layers += [nn.BatchNorm1d(outputs)] if normed is not None and k >= normed else []
            layers.append(activation)
        super().__init__(*layers, nn.Linear(widths[-2], widths[-1], bias=last))


class FeatureDiscriminator(Layers):
    """Say closed-set or not: features (B, D) to one logit each, (B,)."""

    def __init__(self, width: int, units: Sequence[int], norm: bool, bias: bool) -> None:
        super().__init__((width, *units, 1), nn.LeakyReLU(0.2), 1 if norm else None, bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten()


class OpenGAN(Game):
    """Tell whether an example is of one of the classes that a classifier knows.

    The discriminator tells closed-set examples, which it calls real, from made ones, and from outliers where some
    are given. Examples are features of the closed-set classifier, which is never trained here (OpenGAN-fea), or
    images (OpenGAN-pix). The score is minus the discriminator's logit: higher is more open. Which round's weights
    are kept is decided by the AUROC on validation examples: a discriminator swings from epoch to epoch.

    Reference: Shu Kong, Deva Ramanan (2021), OpenGAN: Open-Set Recognition via Open Data Generation,
    arXiv:2104.02939. Details are those of the authors' code, aimerykong/OpenGAN.

    Departures:
        Scores are computed in eval mode; the authors' cross-dataset notebook scores with the statistics of test
        batches, each of which holds one data set. So that the running statistics fit, real, outlying and made
        examples pass in one batch, also in the generator's turn; `separate` and `alone` are the authors' order.
        Features are shifted by their means and divided by one common deviation, which the model stores; the authors
        take them raw. With spectral norm, or with none, the discriminator's layers have biases. 1x1 convolutions are
        computed as matrix products. On pixels the networks are those of DCGAN with 4x4 kernels, as the authors' code
        does not train any. Training lasts 3,000 rounds at least: 100 epochs of a few hundred examples are too few at
        these rates. `synthetic`, which the paper does not have, makes outliers of the closed-set examples in a
        minibatch.
    """

    wants: tuple[str, ...] = ("outlier",)
    usual_epochs = 100
    least_rounds = 3000

    def __init__(self, spec: Spec, recipe: OpenGANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: OpenGANRecipe = recipe
        r, batch_norm = recipe, recipe.norm == "batch"
        bias = r.bias or not batch_norm
        if not r.outlier:
            self.wants = ()
        self.standardise = standardiser(spec, common=True) if r.standardise else Unchanged()
        if spec.is_image:
            check_images(spec, "opengan on images")
            self.discriminator: nn.Module = Discriminator(spec.shape, r.width, norm=batch_norm, bias=bias)
        else:
            self.discriminator = FeatureDiscriminator(spec.size, r.units, batch_norm, bias)
        if r.fake:
            self.generator: nn.Module = (
                Generator(spec.shape, r.latent, r.width) if spec.is_image
                else Layers((r.latent, *r.hidden, spec.size), nn.ReLU(), 0, r.bias, True)
            )  # fmt: skip
            self.generate = self._generate  # a closed/open classifier makes nothing, and has not this face
        dcgan_weights(self)
        for layer in self.discriminator.modules() if r.norm == "spectral" else ():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                spectral_norm(layer)
        ended = (self.rounds - 1) // self.period  # epochs that end before the last one
        elders = [copy.deepcopy(self.discriminator).requires_grad_(False) for _ in range(min(r.late - 1, ended))]
        self.elders = nn.ModuleList(elders)  # the discriminator at the end of late epochs

    @classmethod
    def needed(cls, recipe: Recipe) -> tuple[str, ...]:
        assert isinstance(recipe, OpenGANRecipe)
        if not (recipe.fake or recipe.outlier or recipe.synthetic):
            raise UserError("opengan learns from outliers, from made examples, or both: one weight must be above 0.")
        return cls.needs if recipe.fake or recipe.synthetic else ("x", "outlier")

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return nearest_power(native, 16, 256)

    def prepare(self, x: Tensor) -> None:
        self.standardise.learn(x)

    def latent(self, n: int) -> Tensor:
        """Draw z ~ N(0, I), (n, latent), with two axes of length 1 for images."""
        z = torch.randn(n, self.recipe.latent, device=next(self.parameters()).device)
        return z[..., None, None] if self.spec.is_image else z

    def make(self, z: Tensor) -> Tensor:
        """What the generator makes, as the discriminator sees it: standardised."""
        y = self.generator(z)
        if self.spec.is_image or self.recipe.output == "linear":
            return y
        return self.standardise(F.relu(self.standardise.back(y)))  # never negative before, as what left a ReLU

    def _generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n examples (n, *spec.shape); z defaults to fresh draws."""
        return self.standardise.back(self.make(self.latent(n) if z is None else z)).float()

    def logits(self, *parts: Tensor) -> list[Tensor]:
        """Judge several sets of examples, one after another or in one batch, whose statistics they then share."""
        if self.recipe.separate:
            return [self.discriminator(part) for part in parts]
        return list(self.discriminator(torch.cat(parts)).split([len(part) for part in parts]))

    def round(self, draw: Draw, step: int) -> Round:
        self._remember(step)
        r, batch = self.recipe, draw()
        x, opened = self.standardise(batch.x), {}  # by the name of their weight in the recipe
        if r.outlier and batch.outlier is not None:
            opened["outlier"] = self.standardise(batch.outlier)
        if r.synthetic:  # a third of each kind
            kinds = synthetic(x, batch.label).values()
            opened["synthetic"] = torch.cat([kind[k :: len(kinds)] for k, kind in enumerate(kinds)])
        seen = [x, *opened.values()]
        y = self.make(self.latent(max(2, round(r.made * len(batch))))) if r.fake else None  # 2: for batch norm
        if y is not None:
            opened["fake"] = y.detach()
        real, *others = self.logits(x, *opened.values())
        terms = {name: getattr(r, name) * is_fake(others.pop()) for name in reversed(opened)}
        yield Update("discriminator", real=is_real(real), **terms)
        if y is not None:
            with frozen(self.discriminator):
                fooled = is_real(self.logits(*([] if r.separate or r.alone else seen), y)[-1])
            yield Update("generator", fooled=fooled)

    def _remember(self, step: int) -> None:
        """Keep the discriminator as one of the elders where an epoch ends that is late enough."""
        epochs, within = divmod(self.rounds - step, self.period)
        if within == 0 and 1 <= epochs <= len(self.elders):
            self.elders[-epochs].load_state_dict(self.discriminator.state_dict())

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        optimizer = partial(adam, betas=(r.beta1, 0.999))
        generator = {"generator": optimizer(self.generator, rate=r.rate)} if r.fake else {}
        return {"discriminator": optimizer(self.discriminator, rate=r.rate / r.slower), **generator}

    def phases(self) -> list[Phase]:
        return [Phase("train", self.rounds, self.round, self.players, keep=None if self.recipe.late else "auroc")]

    def score(self, x: Tensor) -> Tensor:
        """How open each example is, (B,): minus the logit of "closed"."""
        x = self.standardise(x)
        logits = [network(x).float() for network in (self.discriminator, *self.elders)]
        return -torch.stack(logits).mean(0)

    def score_map(self, x: Tensor) -> Tensor:
        """How open each position of feature maps (B, D, H, W) is, (B, H, W)."""
        positions = x.movedim(1, -1)
        return self.score(positions.flatten(0, -2)).view(positions.shape[:-1])
