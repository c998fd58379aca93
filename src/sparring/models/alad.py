"""ALAD, 2018: a BiGAN whose cycles are held by two more discriminators, one of which scores."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim import Optimizer

from sparring.losses import is_fake, is_real
from sparring.nets.dcgan import Generator, down, nearest_power, power_of_two, widths
from sparring.nets.dense import perceptron, standardiser
from sparring.nets.initial import normal_weights, tensorflow_norms, xavier_weights
from sparring.nets.joint import Joint, PairDiscriminator
from sparring.nets.optimizers import adam
from sparring.protocol import Draw, Game, Recipe, Round, Spec, Update, frozen, hyper


@dataclass(frozen=True)
class ALADRecipe(Recipe):
    batch: int = hyper(32, "", "authors' code, CIFAR-10; 50 for KDD", least=1)
    epochs: float | None = hyper(
        None, "", "empty: 100, and 2,000 rounds at least, a choice of ours: the authors' code has no default", above=0
    )
    ema: float = hyper(0.999, "", "of all networks, which score by their averages; authors' code", least=0, most=0.9999)
    latent: int = hyper(100, "dim z", "authors' code, CIFAR-10; 32 for KDD", least=1)
    width: int = hyper(128, "", "feature maps at the largest scale, authors' code, CIFAR-10", least=1)
    units: int = hyper(1024, "", "of the layer where D has read x and z, authors' code, CIFAR-10", least=2)
    hidden: int = hyper(64, "", "units of the first hidden layers on features; others have twice as many; KDD", least=2)
    spectral: bool = hyper(True, "", "spectral norm on images, in E and the discriminators; the authors' --sn")
    cycle_z: bool = hyper(True, "D_zz", "a discriminator of (z, z) and (z, E(G(z))); the authors' --enable_dzz")
    drop: float = hyper(0.2, "", "share of units that dropout erases, authors' code", least=0, most=0.99)
    rate: float = hyper(2e-4, "", "learning rate of Adam, authors' code, CIFAR-10; 1e-5 for KDD", above=0)
    beta1: float = hyper(0.5, "beta_1", "authors' code", least=0, most=0.999)


KDD = ALADRecipe(batch=50, latent=32, rate=1e-5)


def read(inputs: int, units: int, drop: float) -> list[nn.Module]:
    return [nn.Linear(inputs, units), nn.LeakyReLU(0.2), nn.Dropout(drop)]


def image_encoder(shape: tuple[int, ...], w: list[int], latent: int) -> nn.Sequential:
    """Encode images (B, C, S, S) as (B, latent, 1, 1); w are the maps from the largest scale to the smallest."""
    layers = [layer for a, b in itertools.pairwise([shape[0], *w]) for layer in down(a, b, bias=True)]
    return nn.Sequential(*layers, nn.Conv2d(w[-1], latent, 4))


def of_image_and_code(shape: tuple[int, ...], w: list[int], r: ALADRecipe) -> PairDiscriminator:
    """Judge (x, E(x)) and (G(z), z)."""
    pairs = list(itertools.pairwise([shape[0], *w]))
    of_x = [layer for k, (a, b) in enumerate(pairs) for layer in down(a, b, norm=k > 0, bias=True)]
    half = r.units // 2
    of_z = [nn.Flatten(), *read(r.latent, half, r.drop), *read(half, half, r.drop)]
    both = read(16 * w[-1] + half, r.units, r.drop)
    joint = Joint(nn.Sequential(*of_x, nn.Flatten()), nn.Sequential(*of_z), nn.Sequential(*both))
    return PairDiscriminator(joint, r.units)


def of_images(shape: tuple[int, ...], r: ALADRecipe) -> PairDiscriminator:
    """Judge (x, x) and (x, G(E(x))), one image above the other as in the authors' code."""
    narrow = max(1, r.width // 2)
    layers: list[nn.Module] = []
    for a, b in ((shape[0], narrow), (narrow, r.width)):
        layers += [nn.Conv2d(a, b, 5, 2, 2), nn.LeakyReLU(0.2), nn.Dropout(r.drop)]
    joint = Joint(nn.Identity(), nn.Identity(), nn.Sequential(*layers, nn.Flatten()), dim=2)
    return PairDiscriminator(joint, r.width * (shape[1] // 2) * (shape[2] // 4))


def of_vectors(size: int, units: tuple[int, ...], drop: float) -> PairDiscriminator:
    """Judge pairs of vectors (B, size) or (B, size, 1, 1), the one beside the other."""
    layers = [layer for a, b in itertools.pairwise((2 * size, *units)) for layer in read(a, b, drop)]
    return PairDiscriminator(Joint(nn.Flatten(), nn.Flatten(), nn.Sequential(*layers)), units[-1])


def of_features_and_code(size: int, latent: int, r: ALADRecipe) -> PairDiscriminator:
    """Judge (x, E(x)) and (G(z), z) where x are features; dropout is .5 here, as in the authors' code."""
    wide = 2 * r.hidden
    of_x = nn.Sequential(nn.Linear(size, wide), nn.BatchNorm1d(wide), nn.LeakyReLU(0.2))
    joint = Joint(of_x, nn.Sequential(*read(latent, wide, 0.5)), nn.Sequential(*read(2 * wide, wide, 0.5)))
    return PairDiscriminator(joint, wide)


def constrain(network: nn.Module, spare: nn.Module | None) -> None:
    """Divide every layer but `spare` by its largest singular value."""
    for layer in list(network.modules()):
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer is not spare:
            spectral_norm(layer)


class ALAD(Game):
    """Flag what changes, in the eyes of a discriminator, when it is encoded and made again.

    Encoder E and generator G play against three discriminators: of (x, E(x)) and (G(z), z) as in BiGAN, of (x, x) and
    (x, G(E(x))), and of (z, z) and (z, E(G(z))). The score is the l1 distance between the last features of the second
    one for (x, x) and for (x, G(E(x))). The map is the residual |x - G(E(x))|, which the paper does not define.

    Reference: Houssam Zenati, Manon Romain, Chuan Sheng Foo, Bruno Lecouat, Vijay Ramaseshan Chandrasekhar (2018),
    Adversarially Learned Anomaly Detection, arXiv:1812.02288. Details are those of the authors' code,
    houssamzenati/Adversarially-Learned-Anomaly-Detection.

    Departures:
        E and G are one player, and so are the three discriminators: Adam does not tell this from one optimizer each.
        Terms of E and G that neither of them can change, on (x, x) and (z, z), are left out. Batch norm also follows
        the minibatches of the discriminators' turn. 5x5 convolutions of stride 2 are padded by 2 on all sides
        (TensorFlow: 1 and 2). In eval mode a layer under spectral norm is divided by the singular value that training
        has followed. Sides other than 32 pixels follow the same ladder, never wider than 8 times its first layer.
        Features are standardised; their code is at most half as wide as they are.
    """

    blind_to_means = True
    scores_late = True  # until G(E(x)) is close to x, the second discriminator is keenest on normal examples
    averages = ("encoder", "generator", "of_xx")
    draws = passes = 2
    usual_epochs = 100
    least_rounds = 2000

    def __init__(self, spec: Spec, recipe: ALADRecipe) -> None:
        super().__init__(spec, recipe)
        self.recipe: ALADRecipe = recipe
        self.standardise = standardiser(spec)
        self.build(spec, recipe)
        tensorflow_norms(self)
        self.judges = [network for network in (self.of_xz, self.of_xx, self.of_zz) if network is not None]

    def build(self, spec: Spec, r: ALADRecipe) -> None:
        """Make the networks."""
        if not spec.is_image:
            latent, size, wide = max(1, min(r.latent, spec.size // 2)), spec.size, 2 * r.hidden
            self.encoder = nn.Sequential(nn.Linear(size, r.hidden), nn.LeakyReLU(0.2), nn.Linear(r.hidden, latent))
            self.generator: nn.Module = perceptron((latent, r.hidden, wide, size))
            self.of_xz = of_features_and_code(size, latent, r)
            self.of_xx = of_vectors(size, (wide,), r.drop)
            self.of_zz = of_vectors(latent, (r.hidden // 2,), r.drop) if r.cycle_z else None
            self.shape: tuple[int, ...] = (latent,)
            xavier_weights(self)
            return
        w = widths(power_of_two(spec.shape[-1], 16, 256, "alad"), r.width)[::-1]
        self.encoder = image_encoder(spec.shape, w, r.latent)
        self.generator = Generator(spec.shape, r.latent, r.width, bias=True)
        self.of_xz = of_image_and_code(spec.shape, w, r)
        self.of_xx = of_images(spec.shape, r)
        self.of_zz = of_vectors(r.latent, (64, 32), r.drop) if r.cycle_z else None
        self.shape = (r.latent, 1, 1)
        normal_weights(self, 0.01)
        if r.spectral:  # after the first weights are drawn: it looks at them
            constrain(self.encoder, self.encoder[-1])
            constrain(self.of_xz, self.of_xz.verdict)
            constrain(self.of_xx, self.of_xx.verdict)
            if self.of_zz is not None:
                constrain(self.of_zz, None)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        return nearest_power(native, 16, 256)

    def prepare(self, x: Tensor) -> None:
        self.standardise.learn(x)

    def latent(self, n: int) -> Tensor:
        """Draw z ~ N(0, I), (n, latent), or (n, latent, 1, 1) for images."""
        return torch.randn(n, *self.shape, device=next(self.parameters()).device)

    def generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n examples (n, *spec.shape), images in [-1, 1]; z defaults to fresh draws."""
        return self.standardise.back(self.generator(self.latent(n) if z is None else z).float())

    def encode(self, x: Tensor) -> Tensor:
        """The code of each example, of the shape of `latent`."""
        return self.encoder(self.standardise(x)).float()

    def reconstruct(self, x: Tensor) -> Tensor:
        """G(E(x)), same shape; features come back standardised."""
        return self.generator(self.encoder(self.standardise(x)))

    def round(self, draw: Draw, step: int) -> Round:
        x = self.standardise(draw().x)
        z = self.latent(len(x))
        with torch.no_grad():
            code, y = self.encoder(x), self.generator(z)
            again, z_again = self.generator(code), self.encoder(y)
        terms = {"real": is_real(self.of_xz(x, code)), "fake": is_fake(self.of_xz(y, z))}
        terms |= {"real_xx": is_real(self.of_xx(x, x)), "fake_xx": is_fake(self.of_xx(x, again))}
        if self.of_zz is not None:
            terms |= {"real_zz": is_real(self.of_zz(z, z)), "fake_zz": is_fake(self.of_zz(z, z_again))}
        yield Update("discriminators", **terms)

        x = self.standardise(draw().x)
        z = self.latent(len(x))
        with frozen(*self.judges):
            code, y = self.encoder(x), self.generator(z)
            terms = {"encoded": is_fake(self.of_xz(x, code)), "fooled": is_real(self.of_xz(y, z))}
            terms["fooled_xx"] = is_real(self.of_xx(x, self.generator(code)))
            if self.of_zz is not None:
                terms["fooled_zz"] = is_real(self.of_zz(z, self.encoder(y)))
        yield Update("generator", **terms)

    def players(self) -> dict[str, Optimizer]:
        r = self.recipe
        optimizer = partial(adam, rate=r.rate, betas=(r.beta1, 0.999))
        return {"discriminators": optimizer(*self.judges), "generator": optimizer(self.encoder, self.generator)}

    def score(self, x: Tensor) -> Tensor:
        """The l1 distance between D_xx's last features of (x, x) and of (x, G(E(x))), (B,)."""
        x = self.standardise(x)
        y = self.generator(self.encoder(x))
        return (self.of_xx.features(x, x) - self.of_xx.features(x, y)).abs().sum(1)

    def anomaly_map(self, x: Tensor) -> Tensor:
        """The reconstruction residual |x - G(E(x))|, mean over channels, (B, H, W)."""
        return (x - self.reconstruct(x)).abs().mean(1)
