"""StackGAN, 2017: images of a caption in two stages, a small one first and then a large one of that and the text."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.errors import UserError
from sparring.losses import is_fake, is_real
from sparring.nets.dcgan import check_images, down, nearest_power, sides, widths
from sparring.nets.initial import dcgan_weights
from sparring.nets.optimizers import adam
from sparring.nets.residual import double
from sparring.protocol import Batch, Draw, Game, Phase, Recipe, Round, Spec, Update, frozen, hyper

Three: TypeAlias = tuple[Tensor, Tensor, Tensor]

KNOWN = 256  # captions of the training that the game remembers, for samples of no caption in particular


@dataclass(frozen=True)
class StackGANRecipe(Recipe):
    batch: int = hyper(64, "", "authors' code", least=1)
    epochs: float = hyper(600, "", "of stage I, authors' code", above=0)
    epochs_second: float | None = hyper(None, "", "of stage II; empty: as many as stage I, authors' code", above=0)
    halve: tuple[float, float] = hyper(
        (100.0, 100.0), "", "epochs after which the learning rates of a stage are halved, again and again; authors' "
        "code: 50 in stage I, 100 in stage II", above=0,
    )  # fmt: skip
    stages: int = hyper(2, "", "1: stage I alone, at the full size", least=1, most=2)
    kl: float = hyper(2.0, "lambda", "weight of the divergence of the condition from N(0, I), authors' code", least=0)
    kl_over: str = hyper(
        "mean", "", "over its dimensions: mean, authors' code; sum, the divergence itself",
        choices=("mean", "sum"),
    )  # fmt: skip
    near: float = hyper(0.0, "", "share of mismatches among the 64 of the most similar captions; ours", least=0, most=1)
    captions: int = hyper(1, "", "captions of an image that are averaged in training, authors' code: 4", least=1)
    latent: int = hyper(100, "N_z", "authors' code", least=1)
    condition: int = hyper(128, "N_g", "width of the condition, authors' code: ef", least=1)
    width: int = hyper(128, "", "feature maps of G at half the size of stage I, authors' code: gf", least=4)
    discriminator_width: int = hyper(64, "", "feature maps of D at the largest scale, authors' code: df", least=4)
    blocks: int = hyper(4, "", "residual blocks of stage II, authors' code", least=1)
    rate: float = hyper(2e-4, "", "learning rate of Adam, authors' code", above=0)
    beta1: float = hyper(0.5, "beta_1", "momentum term of Adam, authors' code", least=0, most=0.999)
    quirks: bool = hyper(
        False, "", "authors' code: leaky ReLU on mu and log sigma, and none before the last halving in stage I's D"
    )


AUTHORS = StackGANRecipe(halve=(50.0, 100.0), captions=4, quirks=True)  # their configuration for birds
SMALL = StackGANRecipe(  # for machines without a GPU, at 32 or 64 pixels; ours
    epochs=40, epochs_second=15, halve=(15.0, 5.0), near=0.5, condition=64, width=32, discriminator_width=32, blocks=2
)


def conv(inputs: int, outputs: int, kernel: int = 3) -> list[nn.Module]:
    """A convolution that keeps the side, and batch norm."""
    return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)]


class Doubling(nn.Module):
    """Repeat pixels, (B, C, S, S) to (B, C, 2S, 2S)."""

    def forward(self, x: Tensor) -> Tensor:
        return double(x)


class Residual(nn.Module):
    """Add what some layers make of maps to these, and rectify: of any shape to the same."""

    def __init__(self, layers: list[nn.Module], activation: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x + self.layers(x))


def bottleneck(maps: int, rectify: Callable[[], nn.Module]) -> Residual:
    """1x1 to a quarter of the maps, 3x3, and 3x3 back to all of them."""
    few = max(1, maps // 4)
    layers = [*conv(maps, few, 1), rectify(), *conv(few, few), rectify(), *conv(few, maps)]
    return Residual(layers, rectify())


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)


def beside(maps: Tensor, code: Tensor) -> Tensor:
    """Put a code (B, K) beside maps (B, C, S, S) at every position: (B, C + K, S, S)."""
    return torch.cat([maps, code[:, :, None, None].expand(-1, -1, *maps.shape[2:])], 1)


class Augmentation(nn.Module):
    """Conditioning augmentation: captions (B, W) and noise (B, N_g) to a condition c, its mu and log sigma, (B, N_g).

    The condition is drawn from N(mu, sigma^2), which follow from the caption.
    """

    def __init__(self, words: int, r: StackGANRecipe) -> None:
        super().__init__()
        self.layer = nn.Linear(words, 2 * r.condition)
        self.activation: nn.Module = leaky() if r.quirks else nn.Identity()

    def forward(self, caption: Tensor, noise: Tensor) -> Three:
        mu, log_sigma = self.activation(self.layer(caption)).float().chunk(2, 1)
        return mu + log_sigma.exp() * noise, mu, log_sigma


def divergence(mu: Tensor, log_sigma: Tensor, over: str = "sum") -> Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)), the mean over examples of the sum or mean over dimensions, a scalar."""
    each = (torch.exp(2 * log_sigma) + mu**2 - 1) / 2 - log_sigma
    return each.sum(1).mean() if over == "sum" else each.mean()


class First(nn.Module):
    """Stage I: latent vectors (B, N_z), noise (B, N_g), captions (B, W) to images (B, C, S, S), mu and log sigma."""

    def __init__(self, channels: int, side: int, words: int, r: StackGANRecipe) -> None:
        super().__init__()
        self.augmentation = Augmentation(words, r)
        maps = widths(len(sides(side)) - 1, r.width)
        units = 16 * maps[0]
        layers: list[nn.Module] = [nn.Linear(r.condition + r.latent, units), nn.BatchNorm1d(units)]
        layers += [nn.Unflatten(1, (maps[0], 4, 4)), bottleneck(maps[0], nn.ReLU)]
        for a, b in itertools.pairwise(maps):
            layers += [Doubling(), *conv(a, b), bottleneck(b, nn.ReLU) if a == maps[0] else nn.ReLU()]
        self.layers = nn.Sequential(*layers, Doubling(), nn.Conv2d(maps[-1], channels, 3, padding=1, bias=False))

    def forward(self, z: Tensor, noise: Tensor, caption: Tensor) -> Three:
        c, mu, log_sigma = self.augmentation(caption, noise)
        return torch.tanh(self.layers(torch.cat([c, z], 1))), mu, log_sigma


class Second(nn.Module):
    """Stage II: images (B, C, s, s), noise (B, N_g), captions (B, W) to images (B, C, S, S), mu and log sigma."""

    def __init__(self, channels: int, small: int, side: int, words: int, r: StackGANRecipe) -> None:
        super().__init__()
        self.augmentation = Augmentation(words, r)
        w = r.width
        first = nn.Conv2d(channels, w, 3, padding=1, bias=False)
        self.encoder = nn.Sequential(
            first, nn.ReLU(), *[layer for a in (w, 2 * w) for layer in (*down(a, 2 * a)[:2], nn.ReLU())]
        )
        layers: list[nn.Module] = [*conv(4 * w + r.condition, 4 * w), nn.ReLU()]
        for _ in range(r.blocks):
            layers.append(Residual([*conv(4 * w, 4 * w), nn.ReLU(), *conv(4 * w, 4 * w)], nn.ReLU()))
        maps = [4 * w // 2**k for k in range((4 * side // small).bit_length())]
        for a, b in itertools.pairwise(maps):
            layers += [Doubling(), *conv(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(maps[-1], channels, 3, padding=1, bias=False))

    def forward(self, x: Tensor, noise: Tensor, caption: Tensor) -> Three:
        c, mu, log_sigma = self.augmentation(caption, noise)
        return torch.tanh(self.layers(beside(self.encoder(x), c))), mu, log_sigma


class Discriminator(nn.Module):
    """Say whether images (B, C, S, S) are real and as their captions (B, W) say: logits (B,)."""

    def __init__(self, channels: int, side: int, words: int, r: StackGANRecipe, bare: bool = False) -> None:
        super().__init__()
        most = 8 * r.discriminator_width
        maps = [r.discriminator_width * 2**k for k in range(len(sides(side)) - 1)]
        layers = down(channels, maps[0], norm=False)
        for a, b in itertools.pairwise(maps):
            layers += down(a, b)
        while maps[-1] > most:
            maps.append(maps[-1] // 2)
            layers += [*conv(maps[-2], maps[-1], 1), leaky()]
        del layers[-1]  # the residual block rectifies
        if bare and len(maps) > 2:
            del layers[-3]
        self.image = nn.Sequential(*layers, bottleneck(maps[-1], leaky))
        self.text = nn.Sequential(nn.Linear(words, r.condition), leaky())
        joint = conv(maps[-1] + r.condition, maps[-1], 1)
        self.verdict = nn.Sequential(*joint, leaky(), nn.Conv2d(maps[-1], 1, 4, bias=False))

    def forward(self, x: Tensor, caption: Tensor) -> Tensor:
        return self.verdict(beside(self.image(x), self.text(caption))).flatten()


class StackGAN(Game):
    """Make images of what a caption says, in two stages.

    The first stage draws a small image of a caption; when it has learnt, the second makes a large one of
    that and the caption. Both discriminators also see real images with captions of others, so that an image
    must show what its caption says.

    Reference: Han Zhang, Tao Xu, Hongsheng Li, Shaoting Zhang, Xiaogang Wang, Xiaolei Huang, Dimitris
    Metaxas (2017), StackGAN: Text to Photo-realistic Image Synthesis with Stacked Generative Adversarial
    Networks, arXiv:1612.03242. Details are those of the authors' code, hanzhanggit/StackGAN.

    Departures:
        The published sides are 64 and 256; at 128 stage I is a quarter of the side too, at 32 and 64 half,
        and layers are left out by the same rule. Stage I sees the means of square blocks of pixels. Images
        are neither cropped at random nor flipped, because captions may speak of left and right. One caption
        of an image is drawn at a time (`captions`); a mismatched image is of another class where the data
        have classes, else of other captions. mu and log sigma are not rectified (`quirks`). The noise of
        the condition and the first weights are normal, not truncated normal; both players of a round see
        the same z. Embeddings are centred and scaled to a mean square of 1 over those of the training. Stage I
        is frozen in stage II with its running statistics (momentum 0.1), not with those of the minibatch. Of
        averaged weights (`ema`) there are only the last stage's.
    """

    needs = ("x", "caption", "mismatch")
    averages = ("generator_two",)
    blind_to_means = True
    known: Tensor
    centre: Tensor
    spread: Tensor
    refined: Tensor

    def __init__(self, spec: Spec, recipe: StackGANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: StackGANRecipe = recipe
        self.captions, self.near = recipe.captions, recipe.near
        self.averages = ("generator_one",) if recipe.stages == 1 else self.averages
        least = 32 if recipe.stages == 2 else 16
        check_images(spec, "stackgan", least)
        if not spec.caption:
            raise UserError("stackgan makes images of captions, and these data have none: add texts to the images.")
        channels, side, words = spec.shape[0], spec.shape[-1], spec.caption
        self.factor = 1 if recipe.stages == 1 else 2 if side < 128 else 4
        small = side // self.factor
        self.generator_one = First(channels, small, words, recipe)
        self.discriminator_one = Discriminator(channels, small, words, recipe, bare=recipe.quirks)
        alone = recipe.stages == 1
        self.generator_two: nn.Module = nn.Identity() if alone else Second(channels, small, side, words, recipe)
        self.discriminator_two: nn.Module = nn.Identity() if alone else Discriminator(channels, side, words, recipe)
        self.register_buffer("known", torch.zeros(KNOWN, words))
        self.register_buffer("centre", torch.zeros(words))  # mean of the embeddings of the training
        self.register_buffer("spread", torch.ones(()))  # and how far they lie from it in a dimension, root mean square
        self.register_buffer("refined", torch.tensor(False))  # whether stage II has begun
        dcgan_weights(self)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return nearest_power(native, 32 if getattr(recipe, "stages", 2) == 2 else 16, 256)

    def listen(self, captions: Tensor) -> None:
        self.known.copy_(captions[torch.arange(KNOWN) * len(captions) // KNOWN])
        self.centre.copy_(captions.mean(0))
        self.spread.copy_((captions - self.centre).square().mean().sqrt().clamp(min=1e-6))

    def heard(self, caption: Tensor) -> Tensor:
        """Embeddings (B, W) as the networks see them: of mean 0 and mean square 1 over the training."""
        return (caption - self.centre) / self.spread

    def told(self, batch: Batch) -> Three:
        """The images of a minibatch, those of other captions, and the captions as the networks see them."""
        assert batch.caption is not None
        assert batch.mismatch is not None
        return batch.x, batch.mismatch, self.heard(batch.caption)

    def recall(self, n: int) -> Tensor:
        """Draw the embeddings of n captions out of 256 of the training, (n, W)."""
        return self.known[torch.randint(KNOWN, (n,), device=self.known.device)]

    def latent(self, n: int) -> Tensor:
        """Draw z and the noise of both conditions from N(0, I), (n, N_z + 2 N_g)."""
        return torch.randn(n, self.recipe.latent + 2 * self.recipe.condition, device=self.known.device)

    def noises(self, z: Tensor) -> Three:
        """Tell z (n, N_z) from the noise of the first and of the second condition."""
        first, second, third = z.split([self.recipe.latent, self.recipe.condition, self.recipe.condition], 1)
        return first, second, third

    def sketch(self, n: int, z: Tensor | None = None, caption: Tensor | None = None) -> Tensor:
        """Make n images of stage I (n, C, s, s) in [-1, 1], with s a half or a quarter of the side."""
        z = self.latent(n) if z is None else z
        caption = self.recall(n) if caption is None else caption
        first, noise, _ = self.noises(z)
        return self.generator_one(first, noise, self.heard(caption))[0].float()

    def generate(self, n: int, z: Tensor | None = None, caption: Tensor | None = None) -> Tensor:
        """Make n images (n, *spec.shape) in [-1, 1]; until stage II begins, those of stage I enlarged.

        Args:
            n: How many.
            z: Latent vectors as `latent` draws them; None draws them.
            caption: Embeddings (n, W); None draws captions of the training.
        """
        z = self.latent(n) if z is None else z
        caption = self.recall(n) if caption is None else caption
        rough = self.sketch(n, z, caption)
        if not self.refined:
            return rough if self.factor == 1 else F.interpolate(rough, scale_factor=float(self.factor))
        return self.generator_two(rough, self.noises(z)[2], self.heard(caption))[0].float()

    def round(self, draw: Draw, step: int) -> Round:
        x, other, caption = self.told(draw())
        z, noise, _ = self.noises(self.latent(len(x)))
        made = self.generator_one(z, noise, caption)
        small = F.avg_pool2d(x, self.factor), F.avg_pool2d(other, self.factor)
        yield from self.duel(self.discriminator_one, (*small, caption), made)

    def refine(self, draw: Draw, step: int) -> Round:
        """A round of stage II."""
        x, other, caption = self.told(draw())
        z, first, second = self.noises(self.latent(len(x)))
        self.generator_one.eval()
        with torch.no_grad():
            rough, _, _ = self.generator_one(z, first, caption)
        made = self.generator_two(rough, second, caption)
        yield from self.duel(self.discriminator_two, (x, other, caption), made)

    def duel(self, discriminator: nn.Module, drawn: Three, made: Three) -> Round:
        """Let a generator that made images, mu and log sigma play against its discriminator."""
        (x, other, caption), (y, mu, log_sigma) = drawn, made
        real, mismatch, fake = (discriminator(images, caption) for images in (x, other, y.detach()))
        yield Update("discriminator", real=is_real(real), mismatch=is_fake(mismatch) / 2, fake=is_fake(fake) / 2)
        with frozen(discriminator):
            fooled = is_real(discriminator(y, caption))
        yield Update("generator", fooled=fooled, kl=self.recipe.kl * divergence(mu, log_sigma, self.recipe.kl_over))

    def optimizers(self, discriminator: nn.Module, generator: nn.Module) -> dict[str, Optimizer]:
        optimizer = partial(adam, rate=self.recipe.rate, betas=(self.recipe.beta1, 0.999))
        return {"discriminator": optimizer(discriminator), "generator": optimizer(generator)}

    def players(self) -> dict[str, Optimizer]:
        return self.optimizers(self.discriminator_one, self.generator_one)

    def refiners(self) -> dict[str, Optimizer]:
        """Who learns in stage II."""
        self.refined.fill_(True)
        return self.optimizers(self.discriminator_two, self.generator_two)

    def phases(self) -> list[Phase]:
        one, two = (self.rounds_in(epochs) for epochs in self.recipe.halve)
        found = [Phase("one", self.rounds, self.round, self.players, lambda step: 0.5 ** (step // one))]
        if self.recipe.stages == 2:
            r = self.recipe
            rounds = self.rounds if r.rounds or r.epochs_second is None else self.rounds_in(r.epochs_second)
            found.append(Phase("two", rounds, self.refine, self.refiners, lambda step: 0.5 ** (step // two)))
        return found
