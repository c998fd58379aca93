"""DiscoGAN, 2017: two generators learn to undo each other, and so find what relates two domains."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.losses import is_fake, is_real, squared_error
from sparring.nets.dcgan import check_images, down, nearest_power, power_of_two, up, upward, widths
from sparring.nets.dense import perceptron
from sparring.nets.optimizers import adam
from sparring.protocol import Batch, Draw, Game, Recipe, Round, Spec, Update, frozen, hyper

MOST = 256  # pixels of a side; 16 at least


@dataclass(frozen=True)
class DiscoGANRecipe(Recipe):
    batch: int = hyper(64, "", "authors' code", least=1)
    rounds: int | None = hyper(
        50_000, "", "ours: authors' code stops after 5,000 epochs, an upper bound; empty: as epochs say", least=1
    )
    coupling: str = hyper(
        "both", "", "section 3: ways on which an example is restored; 'one' (A, B, A, without D_A) and 'none' (plain "
        "GANs) are the paper's ablations", choices=("both", "one", "none"),
    )  # fmt: skip
    extra: bool = hyper(False, "", "two more layers in the middle of the generators, authors' code: not for edges")
    interval: int = hyper(3, "", "the discriminators move in every third round, authors' code", least=2)
    matching: float = hyper(
        0.9, "", "share of feature matching in the adversarial loss, authors' code", least=0, most=1
    )
    restored_first: float = hyper(0.01, "", "share of L_CONST in the loss at first, authors' code", least=0, most=1)
    restored: float = hyper(0.5, "", "share of L_CONST in the loss from then on, authors' code", least=0, most=1)
    curriculum: int = hyper(10_000, "", "rounds before the share changes, authors' code", least=0)
    width: int = hyper(64, "", "feature maps at the largest scale, authors' code", least=1)
    code: int = hyper(100, "", "maps between the extra layers, authors' code", least=1)
    hidden: int = hyper(128, "", "units in a layer of the networks that see vectors; ours", least=1)
    rate: float = hyper(2e-4, "", "learning rate of Adam, authors' code", above=0)
    beta1: float = hyper(0.5, "beta_1", "authors' code", least=0, most=0.999)
    weight_decay: float = hyper(1e-5, "", "L2, authors' code", least=0)


EXTRA_LAYERS = DiscoGANRecipe(extra=True)
SMALL = DiscoGANRecipe(  # for machines without a GPU, at 32 or 64 pixels; the shares as for angles in authors' code
    rounds=10_000, restored_first=0.9, restored=0.9, curriculum=0, width=32
)  # fmt: skip
FORMULA = DiscoGANRecipe(matching=0.0, curriculum=0)  # all terms weigh the same, as in the paper's equations
ONE_WAY = DiscoGANRecipe(coupling="one")
PLAIN = DiscoGANRecipe(coupling="none")
TOY = replace(FORMULA, rounds=4_000, interval=2, hidden=64, rate=1e-3)  # points in the plane; these four are ours

Way: TypeAlias = "tuple[str, Tensor, Tensor, nn.Module, nn.Module, Discriminator]"


class Discriminator(nn.Module):
    """Say real or made, and by what: (B, ...) to logits (B,), and what the stages but the first put out."""

    def __init__(self, stages: list[nn.Module], verdict: nn.Module) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.verdict = nn.Sequential(verdict, nn.Flatten(0))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return self.verdict(x), found[1:]


def discriminator(spec: Spec, r: DiscoGANRecipe) -> Discriminator:
    """Halve images down to 4 pixels, or pass vectors through five layers."""
    if not spec.is_image:
        sizes = itertools.pairwise((spec.size, *[r.hidden] * 4))
        return Discriminator(
            [nn.Sequential(nn.Linear(a, b), nn.LeakyReLU(0.2)) for a, b in sizes], nn.Linear(r.hidden, 1)
        )
    w = scales(spec, r)
    stages = [down(a, b, norm=a != spec.shape[0]) for a, b in itertools.pairwise((spec.shape[0], *w))]
    return Discriminator([nn.Sequential(*stage) for stage in stages], nn.Conv2d(w[-1], 1, 4, bias=False))


def generator(spec: Spec, r: DiscoGANRecipe) -> nn.Sequential:
    """Turn images in [0, 1] into such images, by way of 4x4 pixels or of a vector; vectors by three layers."""
    if not spec.is_image:
        return perceptron((spec.size, r.hidden, r.hidden, spec.size))
    w = scales(spec, r)
    layers = down(spec.shape[0], w[0], norm=False)
    for a, b in itertools.pairwise(w):
        layers += down(a, b)
    if r.extra:
        layers += [nn.Conv2d(w[-1], r.code, 4, bias=False), nn.BatchNorm2d(r.code), nn.LeakyReLU(0.2, inplace=True)]
        layers += [nn.ConvTranspose2d(r.code, w[-1], 4, bias=False), nn.BatchNorm2d(w[-1]), nn.ReLU(inplace=True)]
    for a, b in itertools.pairwise(reversed(w)):
        layers += up(a, b)
    return nn.Sequential(*layers, upward(w[0], spec.shape[0]), nn.Sigmoid())


def scales(spec: Spec, r: DiscoGANRecipe) -> list[int]:
    """Feature maps from half the side down to 4 pixels: 64, 128, 256, 512 for 64."""
    return widths(power_of_two(spec.shape[-1], 16, MOST, "discogan"), r.width)[::-1]


def feature_matching(real: list[Tensor], made: list[Tensor]) -> Tensor:
    """Sum over layers of the mean squared difference between what a feature is on average in either minibatch."""
    return torch.stack(
        [squared_error(x.float().mean(0), y.float().mean(0)) for x, y in zip(real, made, strict=True)]
    ).sum()


class DiscoGAN(Game):
    """Translate between two domains of which no pairs are known, each way by a generator that the other undoes.

    Each discriminator knows one domain. A generator lowers what its translation costs by the discriminator of the
    other domain (`fooled`), the distance of mean features there (`matched`), and the error after the way back
    (`restored`); terms are named after the domain that they look at.

    Reference: Taeksoo Kim, Moonsu Cha, Hyunsoo Kim, Jung Kwon Lee, Jiwon Kim (2017), Learning to Discover
    Cross-Domain Relations with Generative Adversarial Networks, arXiv:1703.05192. Details are those of the authors'
    code, SKTBrain/DiscoGAN.

    Departures:
        The paper's equations know neither feature matching nor weights: the variant `formula` follows them, the
        default the code. A round computes only what its player learns from, by the same weights; the code takes all
        losses on one graph and throws the idle player's gradients away. The ablation without reconstruction plays
        both ways, each a GAN of its own; the code plays A to B alone. Batch norm keeps running statistics, by which a
        trained model translates: the code translates by the statistics of the test batch. Running statistics are of all
        that a generator is given in training, real examples and translations that it brings back; in use it is given
        real ones only. Means in feature matching are those of each process's share of a minibatch. Images are red,
        green, blue, the code's blue, green, red, which no layer can tell; `translate` takes and gives [-1, 1], the
        networks see [0, 1]. The training ends after 50,000 rounds; the code's 5,000 epochs are an upper bound. The
        published networks are for 64 pixels; other sides, powers of two, follow the same rule down to 4 pixels, and
        feature maps double up to 8 times. Vectors, as they are, pass through as many fully connected layers as the
        paper's toy problem has, three in a generator and five in a discriminator, of a width of our own.
    """

    needs = ("x", "partner")
    averages = ("generator_ab", "generator_ba")

    def __init__(self, spec: Spec, recipe: DiscoGANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: DiscoGANRecipe = recipe
        if spec.is_image:
            check_images(spec, "discogan", most=MOST)
        self.generator_ab, self.generator_ba = generator(spec, recipe), generator(spec, recipe)
        self.discriminator_b = discriminator(spec, recipe)
        if recipe.coupling != "one":
            self.discriminator_a = discriminator(spec, recipe)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return nearest_power(native, 16, MOST)

    def seen(self, x: Tensor) -> Tensor:
        """Examples as the networks see them: images in [0, 1]."""
        return (x + 1) / 2 if self.spec.is_image else x

    def translate(self, x: Tensor, to: str) -> Tensor:
        """What x (B, *spec.shape), of the other domain, is in `to`, "a" or "b"; of that shape, images in [-1, 1]."""
        y = {"a": self.generator_ba, "b": self.generator_ab}[to](self.seen(x)).float()
        return y * 2 - 1 if self.spec.is_image else y

    def ways(self, batch: Batch) -> Iterator[Way]:
        """Name, examples, those of the domain they go to, generators there and back, and the discriminator there."""
        assert batch.partner is not None
        a, b = self.seen(batch.x), self.seen(batch.partner)
        yield "b", a, b, self.generator_ab, self.generator_ba, self.discriminator_b
        if self.recipe.coupling != "one":
            yield "a", b, a, self.generator_ba, self.generator_ab, self.discriminator_a

    def round(self, draw: Draw, step: int) -> Round:
        batch, r = draw(), self.recipe
        terms = {}
        if step % r.interval == 0:
            for to, x, real, there, _, judge in self.ways(batch):
                with torch.no_grad():
                    made = there(x)
                terms[f"real_{to}"] = is_real(judge(real)[0]) / 2
                terms[f"fake_{to}"] = is_fake(judge(made)[0]) / 2
            yield Update("discriminators", **terms)
            return
        share = 0.0 if r.coupling == "none" else r.restored_first if step < r.curriculum else r.restored
        for to, x, real, there, back, judge in self.ways(batch):
            made = there(x)
            with frozen(judge):
                logit, found = judge(made)
            terms[f"fooled_{to}"] = (1 - share) * (1 - r.matching) * is_real(logit)
            if r.matching:
                with torch.no_grad():
                    _, wanted = judge(real)
                terms[f"matched_{to}"] = (1 - share) * r.matching * feature_matching(wanted, found)
            if r.coupling != "none":
                home = "a" if to == "b" else "b"
                terms[f"restored_{home}"] = share * squared_error(back(made), x)
        yield Update("generators", **terms)

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        judges = [self.discriminator_b] if r.coupling == "one" else [self.discriminator_a, self.discriminator_b]
        optimizer = partial(adam, rate=r.rate, betas=(r.beta1, 0.999), weight_decay=r.weight_decay)
        return {"discriminators": optimizer(*judges), "generators": optimizer(self.generator_ab, self.generator_ba)}
