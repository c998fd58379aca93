"""BiGAN and ALI, 2016: an encoder and a generator learn together to be each other's inverse."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.errors import UserError
from sparring.losses import is_fake, is_real
from sparring.nets.augment import AUGMENT, augment
from sparring.nets.dense import Largest, Standardise
from sparring.nets.initial import normal_weights
from sparring.nets.joint import Joint
from sparring.nets.optimizers import adam
from sparring.protocol import Draw, Game, Phase, Recipe, Round, Spec, Update, frozen, hyper

SMALL = 1e-4  # eps of batch norm in convolutional networks: the default of the library of ALI's code
TINY = 1e-8  # eps of batch norm in dense networks, authors' code; with 1e-5 the discriminator runs away within 3 epochs
SIDE = 32  # pixels, of images that the convolutional networks see
LADDER = ((5, 1, 1), (4, 2, 2), (4, 1, 4), (4, 2, 8), (4, 1, 16))  # kernel, stride, maps / width: 32, 28, 13, 10, 4, 1
UPWARD = ((4, 1, 8), (4, 2, 4), (4, 1, 2), (4, 2, 1), (5, 1, 1), (1, 1, 1))  # the generator's: 1, 4, 10, 13, 28, 32, 32


@dataclass(frozen=True)
class BiGANRecipe(Recipe):
    batch: int = hyper(128, "", "authors' code", least=1)
    epochs: float = hyper(400, "", "authors' code, MNIST: 200 at the full rate and 200 of decay", above=0)
    networks: str = hyper(
        "dense", "", "fully connected on flat examples (BiGAN), or convolutional at 32 pixels (ALI)",
        choices=("dense", "convolutional"),
    )  # fmt: skip
    stochastic: bool = hyper(False, "", "E draws z ~ N(mu(x), sigma(x)^2) as in ALI; BiGAN's E is a function")
    simultaneous: bool = hyper(True, "", "authors' code of both: all gradients are taken before any player steps")
    latent: int = hyper(50, "dim z", "authors' code, MNIST", least=1)
    prior: str = hyper("uniform", "p_z", "authors' code, MNIST: U(-1, 1)", choices=("uniform", "normal"))
    hidden: int = hyper(1024, "", "units in each of the two hidden layers of dense networks, authors' code", least=1)
    width: int = hyper(32, "", "feature maps at the largest scale of convolutional networks, ALI's tables", least=1)
    slope: float = hyper(0.2, "", "of the leaky ReLUs, authors' code", least=0, most=1)
    pieces: int = hyper(1, "", "of a maxout unit in a convolutional D; 1 makes it a leaky ReLU", least=1)
    norm: bool = hyper(False, "", "batch norm where a convolutional D looks at x, but for its first layer; ALI, SVHN")
    drop_input: float = hyper(0.0, "", "share of inputs that dropout erases in a convolutional D", least=0, most=0.99)
    drop_hidden: float = hyper(0.0, "", "share of its hidden units that dropout erases", least=0, most=0.99)
    spread: float = hyper(0.02, "", "standard deviation of the first weights, authors' code", above=0)
    rate: float = hyper(2e-4, "", "learning rate of Adam, authors' code", above=0)
    beta1: float = hyper(0.5, "beta_1", "authors' code of both", least=0, most=0.999)
    weight_decay: float = hyper(2.5e-5, "", "L2, authors' code", least=0)
    constant: float = hyper(
        0.5, "", "share of the rounds at the full rate, authors' code: 200 epochs of 400", least=0, most=1
    )
    rate_end: float = hyper(0.01, "", "what is left of the rate at the end, authors' code", above=0, most=1)
    augment: str = hyper("", "T", AUGMENT)


ALI_CIFAR10 = BiGANRecipe(  # Dumoulin et al. 2016, table of the CIFAR-10 model
    batch=100, epochs=6475, networks="convolutional", stochastic=True, latent=64, prior="normal", slope=0.1, pieces=2,
    drop_input=0.2, drop_hidden=0.5, spread=0.01, rate=1e-4, weight_decay=0.0, constant=1.0,
)  # fmt: skip
ALI_SVHN = BiGANRecipe(  # Dumoulin et al. 2016, table of the SVHN model
    batch=100, epochs=100, networks="convolutional", stochastic=True, latent=256, prior="normal", slope=0.01, norm=True,
    drop_input=0.2, drop_hidden=0.2, spread=0.01, rate=1e-4, weight_decay=0.0, constant=1.0,
)  # fmt: skip


def dense(inputs: int, outputs: int, activation: nn.Module, norm: bool = True) -> nn.Sequential:
    """A hidden layer as in the authors' code: no bias, and a batch norm without gain."""
    linear = nn.Linear(inputs, outputs, bias=False)
    return nn.Sequential(linear, *([nn.BatchNorm1d(outputs, eps=TINY, affine=False)] if norm else []), activation)


class DenseGenerator(Joint):
    """Make flat examples (B, outputs) of z (B, latent), which enters both hidden layers."""

    def __init__(self, outputs: int, r: BiGANRecipe) -> None:
        second = dense(r.hidden + r.latent, r.hidden, nn.ReLU())
        last = nn.Linear(r.hidden, outputs, bias=False)
        super().__init__(dense(r.latent, r.hidden, nn.ReLU()), nn.Identity(), nn.Sequential(*second, last))

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:  # x is z
        return super().forward(x, x if z is None else z)


def dense_encoder(inputs: int, outputs: int, r: BiGANRecipe) -> nn.Sequential:
    """Encode flat examples (B, inputs) as (B, outputs)."""
    first = dense(inputs, r.hidden, nn.LeakyReLU(r.slope), norm=False)
    second = dense(r.hidden, r.hidden, nn.LeakyReLU(r.slope))
    return nn.Sequential(*first, *second, nn.Linear(r.hidden, outputs, bias=False))


def dense_discriminator(inputs: int, r: BiGANRecipe) -> Joint:
    """Judge pairs (B, inputs), (B, latent): logits (B,). z enters the second hidden layer."""
    first = dense(inputs, r.hidden, nn.LeakyReLU(r.slope), norm=False)
    second = dense(r.hidden + r.latent, r.hidden, nn.LeakyReLU(r.slope))
    return Joint(first, nn.Identity(), nn.Sequential(*second, nn.Linear(r.hidden, 1, bias=False), nn.Flatten(0)))


class PixelBias(nn.Module):
    """Add a bias of its own to every number of an example."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


def conv_stack(
    layer: type[nn.Module], inputs: int, ladder: tuple[tuple[int, int, int], ...], r: BiGANRecipe
) -> list[nn.Module]:
    """Layers of these (kernel, stride, maps / width), each with batch norm and a leaky ReLU."""
    layers: list[nn.Module] = []
    widths = [inputs, *(wide * r.width for _, _, wide in ladder)]
    for (a, b), (kernel, stride, _) in zip(itertools.pairwise(widths), ladder, strict=True):
        layers += [layer(a, b, kernel, stride, bias=False), nn.BatchNorm2d(b, eps=SMALL, momentum=0.05)]
        layers += [nn.LeakyReLU(r.slope, inplace=True)]
    return layers


def conv_encoder(channels: int, outputs: int, r: BiGANRecipe) -> nn.Sequential:
    """Encode images (B, C, 32, 32) as (B, outputs, 1, 1)."""
    return nn.Sequential(
        *conv_stack(nn.Conv2d, channels, (*LADDER, (1, 1, 16)), r), nn.Conv2d(16 * r.width, outputs, 1)
    )


def conv_generator(channels: int, r: BiGANRecipe) -> nn.Sequential:
    """Make images (B, C, 32, 32), before their sigmoid, of z (B, latent, 1, 1)."""
    stack = conv_stack(nn.ConvTranspose2d, r.latent, UPWARD, r)
    return nn.Sequential(*stack, nn.Conv2d(r.width, channels, 1, bias=False))


def conv_discriminator(channels: int, r: BiGANRecipe) -> Joint:
    """Judge pairs (B, C, 32, 32), (B, latent, 1, 1): logits (B,)."""

    def activation() -> nn.Module:
        return Largest(r.pieces) if r.pieces > 1 else nn.LeakyReLU(r.slope)

    of_x: list[nn.Module] = []
    maps = channels
    for kernel, stride, wide in LADDER:
        first = not of_x
        of_x += [nn.Dropout(r.drop_input if first else r.drop_hidden)]
        of_x += [nn.Conv2d(maps, wide * r.width, kernel, stride, bias=first)]
        of_x += [nn.BatchNorm2d(wide * r.width, eps=SMALL, momentum=0.05)] if r.norm and not first else []
        of_x += [activation()]
        maps = wide * r.width // r.pieces
    top = 16 * r.width
    of_z = [nn.Flatten(), nn.Dropout(r.drop_input), nn.Linear(r.latent, top, bias=False), activation()]
    of_z += [nn.Dropout(r.drop_hidden), nn.Linear(maps, top, bias=False), activation()]
    both = [nn.Dropout(r.drop_hidden), nn.Linear(2 * maps, 2 * top), activation()]
    both += [nn.Dropout(r.drop_hidden), nn.Linear(2 * maps, 2 * top), activation()]
    both += [nn.Dropout(r.drop_hidden), nn.Linear(2 * maps, 1), nn.Flatten(0)]
    return Joint(nn.Sequential(*of_x, nn.Flatten()), nn.Sequential(*of_z), nn.Sequential(*both))


class BiGAN(Game):
    """Make data from codes and codes from data, by a discriminator that sees both.

    The discriminator tells pairs (x, E(x)) from pairs (G(z), z); where it cannot, E and G are inverse. Encoder and
    generator are one player, and both of its terms have the labels exchanged.

    Reference: Jeff Donahue, Philipp Krähenbühl, Trevor Darrell (2016), Adversarial Feature Learning,
    arXiv:1605.09782; details are those of the authors' code, jeffdonahue/bigan. The variants `ali_*` are Vincent
    Dumoulin, Ishmael Belghazi, Ben Poole, Olivier Mastropietro, Alex Lamb, Martin Arjovsky, Aaron Courville (2016),
    Adversarially Learned Inference, arXiv:1606.00704, and IshmaelBelghazi/ALI.

    Departures:
        The rate of the dense recipe falls by the round, not by the epoch. Batch norm keeps running statistics, which
        BiGAN's code gathers before it evaluates. The losses are means of their two terms as in BiGAN's code, where
        ALI's are sums; Adam does not tell these apart. Maxout halves the maps in ALI's D as its code does: the widths
        in its table are those before it. Dropout precedes each of D's layers, as in that table. `encode` gives the
        mean of a stochastic encoder, so `reconstruct` does not draw. Features instead of images are standardised, and
        pass through dense networks with a linear output.
    """

    blind_to_means = True
    averages = ("encoder", "generator")
    boundary = 0.0

    def __init__(self, spec: Spec, recipe: BiGANRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: BiGANRecipe = recipe
        r, codes = recipe, recipe.latent * (2 if recipe.stochastic else 1)
        self.convolutional = r.networks == "convolutional"
        self.standardise: nn.Module = nn.Identity() if spec.is_image else Standardise(spec.size)
        if self.convolutional:
            self.check()
            self.encoder: nn.Module = conv_encoder(spec.shape[0], codes, r)
            made: list[nn.Module] = [conv_generator(spec.shape[0], r), PixelBias(spec.shape)]
            self.discriminator = conv_discriminator(spec.shape[0], r)
            augment(self.discriminator, r.augment, spec, unit=True)  # x of every pair, never its code
        elif r.augment:
            raise UserError(
                "The 'augment' of BiGANRecipe changes images, and dense networks see rows of numbers: leave it empty, "
                "or set networks=convolutional."
            )
        else:
            self.encoder = dense_encoder(spec.size, codes, r)
            made = [DenseGenerator(spec.size, r)]
            self.discriminator = dense_discriminator(spec.size, r)
        self.generator = nn.Sequential(*made, nn.Sigmoid() if spec.is_image else nn.Identity())
        normal_weights(self, r.spread)
        if not self.convolutional:  # BiGAN's D starts undecided: every logit is 0
            nn.init.zeros_(self.discriminator.get_parameter("together.3.weight"))

    def check(self) -> None:
        """Refuse data that convolutional networks do not work on."""
        shape = self.spec.shape
        if not self.spec.is_image:
            raise UserError(
                f"bigan's convolutional networks work on images, not on vectors of {self.spec.size} numbers: "
                "use the default variant for these."
            )
        if shape[1:] != (SIDE, SIDE):
            raise UserError(
                f"bigan's convolutional networks work on images of {SIDE}x{SIDE} pixels, not of {shape[1]}x{shape[2]}: "
                f"add --size {SIDE}."
            )
        if self.recipe.width % self.recipe.pieces:
            raise UserError(
                f"The 'width' of BiGANRecipe must be a multiple of its 'pieces'; got {self.recipe.width} and "
                f"{self.recipe.pieces} instead."
            )

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        assert isinstance(recipe, BiGANRecipe)
        return SIDE if recipe.networks == "convolutional" else native

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Start ALI's output at the mean of the data, or learn the scale of features."""
        if isinstance(self.standardise, Standardise):
            self.standardise.learn(x)
        elif self.convolutional:
            mean = self.seen(x).mean(0).clamp(1e-7, 1 - 1e-7)
            self.generator.get_parameter("1.bias").copy_(mean.logit())

    def seen(self, x: Tensor) -> Tensor:
        """Examples as the networks see them: images in [0, 1], flat where networks are dense."""
        x = (x + 1) / 2 if self.spec.is_image else self.standardise(x)
        return x if self.convolutional else x.flatten(1)

    def shown(self, y: Tensor) -> Tensor:
        """What the generator made, as the data are."""
        if isinstance(self.standardise, Standardise):
            return y.float() * self.standardise.scale + self.standardise.mean
        return (y.float() * 2 - 1).view(-1, *self.spec.shape)

    def latent(self, n: int) -> Tensor:
        """Draw z from the prior, (n, latent), or (n, latent, 1, 1) for convolutional networks."""
        shape = (n, self.recipe.latent, 1, 1) if self.convolutional else (n, self.recipe.latent)
        z = torch.empty(shape, device=next(self.parameters()).device)
        return z.uniform_(-1, 1) if self.recipe.prior == "uniform" else z.normal_()

    def inferred(self, x: Tensor, draw: bool) -> Tensor:
        """The code of examples as the networks see them; a stochastic encoder draws it, or gives its mean."""
        z = self.encoder(x).float()
        if self.recipe.stochastic:
            mean, log_sigma = z.chunk(2, 1)
            z = mean + log_sigma.exp() * torch.randn_like(mean) if draw else mean
        return torch.tanh(z / 2) if self.recipe.prior == "uniform" else z  # the authors' 2 sigmoid(z) - 1

    def generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n examples (n, *spec.shape), images in [-1, 1]; z defaults to fresh draws."""
        return self.shown(self.generator(self.latent(n) if z is None else z))

    def encode(self, x: Tensor) -> Tensor:
        """The code of each example, of the shape of `latent`; of a stochastic encoder the mean."""
        return self.inferred(self.seen(x), draw=False)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode what is encoded of x, same shape."""
        return self.generate(len(x), self.encode(x))

    def judged(self, x: Tensor, code: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of (x, E(x)) and of (G(z), z), (B,) each: in one batch as ALI's code does, in two as BiGAN's."""
        if self.convolutional:
            real, fake = self.discriminator(torch.cat([x, y]), torch.cat([code, z])).chunk(2)
            return real, fake
        return self.discriminator(x, code), self.discriminator(y, z)

    def round(self, draw: Draw, step: int) -> Round:
        x = self.seen(draw().x)
        z = self.latent(len(x))
        code, y = self.inferred(x, draw=True), self.generator(z)
        if self.recipe.simultaneous:
            real, fake = self.judged(x, code, y, z)
            yield judging(real, fake), fooling(real, fake)  # one pass through D serves both
        else:
            yield judging(*self.judged(x, code.detach(), y.detach(), z))
            with frozen(self.discriminator):
                real, fake = self.judged(x, code, y, z)
            yield fooling(real, fake)

    def discriminate(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits of (x, E(x)) and of as many pairs (G(z), z), (B,) each; higher is more real."""
        x, z = self.seen(x), self.latent(len(x))
        real, fake = self.judged(x, self.inferred(x, draw=True), self.generator(z), z)
        return real.float(), fake.float()

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        optimizer = partial(adam, rate=r.rate, betas=(r.beta1, 0.999), weight_decay=r.weight_decay)
        return {"discriminator": optimizer(self.discriminator), "generator": optimizer(self.encoder, self.generator)}

    def phases(self) -> list[Phase]:
        r, rounds = self.recipe, self.rounds

        def rate(step: int) -> float:
            late = max(0.0, step / rounds - r.constant) / (1 - r.constant) if r.constant < 1 else 0.0
            return r.rate_end ** min(1.0, late)

        return [Phase("train", rounds, self.round, self.players, rate)]


def judging(real: Tensor, fake: Tensor) -> Update:
    return Update("discriminator", real=is_real(real) / 2, fake=is_fake(fake) / 2)


def fooling(real: Tensor, fake: Tensor) -> Update:
    """Both terms with their labels exchanged: without `encoded` the encoder would learn nothing."""
    return Update("generator", encoded=is_fake(real) / 2, fooled=is_real(fake) / 2)
