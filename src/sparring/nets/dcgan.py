"""The networks of DCGAN and their blocks: halve or double the side at every layer.

`Generator` and `Discriminator` are what DCGAN and the papers after it train on, by other losses;
`check_images` refuses data that they do not work on.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

from sparring.errors import UserError

if TYPE_CHECKING:
    from sparring.protocol import Spec


def check_images(spec: Spec, model: str, least: int = 16, most: int = 256) -> None:
    """Refuse vectors, and images that are not square or whose side is no power of two in [least, most].

    Raises:
        UserError: For such data.
    """
    if not spec.is_image:
        raise UserError(f"{model} works on images, not on vectors of {spec.size} numbers: use gan for these.")
    if spec.shape[1] != spec.shape[2]:
        raise UserError(f"{model} works on square images, not on {spec.shape[1]}x{spec.shape[2]}: choose a side.")
    power_of_two(spec.shape[-1], least, most, model)


def power_of_two(side: int, least: int, most: int, model: str) -> int:
    """Count the doublings from 4 pixels to this side.

    Raises:
        UserError: For a side that is no power of two in [least, most].
    """
    if side & (side - 1) or not least <= side <= most:
        raise UserError(
            f"{model} works on square images whose side is a power of two from {least} to {most}, not on "
            f"{side} pixels: choose one of these with --size."
        )
    return int(math.log2(side)) - 2


def nearest_power(native: int, least: int, most: int) -> int:
    """The smallest power of two in [least, most] that is at least as large as `native`, or `most`."""
    return min(most, max(least, 1 << (native - 1).bit_length()))


def sides(side: int) -> list[int]:
    """Sides from at most 4 pixels up to this one, each half of the next, rounded up: 4, 7, 14, 28."""
    ladder = [side]
    while ladder[0] > 4:
        ladder.insert(0, (ladder[0] + 1) // 2)
    return ladder


def widths(steps: int, base: int) -> list[int]:
    """Feature maps from the smallest scale up to the largest: base times 8, ..., 2, 1 (never more than 8)."""
    return [base * min(8, 2**k) for k in reversed(range(steps))]


def down(inputs: int, outputs: int, kernel: int = 4, *, norm: bool = True, bias: bool = False) -> list[nn.Module]:
    """Halve the side: (B, inputs, S, S) to (B, outputs, S/2, S/2); convolution, batch norm, leaky ReLU 0.2."""
    convolution = nn.Conv2d(inputs, outputs, kernel, 2, (kernel - 1) // 2, bias=bias)
    return [convolution, *([nn.BatchNorm2d(outputs)] if norm else []), nn.LeakyReLU(0.2, inplace=True)]


def upward(inputs: int, outputs: int, kernel: int = 4, *, bias: bool = False) -> nn.ConvTranspose2d:
    """Double the side: (B, inputs, S, S) to (B, outputs, 2S, 2S)."""
    return nn.ConvTranspose2d(inputs, outputs, kernel, 2, (kernel - 1) // 2, output_padding=kernel % 2, bias=bias)


def up(inputs: int, outputs: int, kernel: int = 4, *, norm: bool = True, bias: bool = False) -> list[nn.Module]:
    """Double the side, then batch norm and ReLU."""
    convolution = upward(inputs, outputs, kernel, bias=bias)
    return [convolution, *([nn.BatchNorm2d(outputs)] if norm else []), nn.ReLU(inplace=True)]


class Crop(nn.Module):
    """Keep the upper left corner of this side: 8x8 to 7x7 on the way to 28x28."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.side, : self.side]


class Generator(nn.Sequential):
    """Make images (B, C, S, S), in [-1, 1] where the output is tanh, of latent vectors (B, latent, 1, 1).

    Args:
        shape: (C, S, S). A side that is no power of two is reached by cropping, with kernel 5.
        latent: Width of the latent vector.
        width: Feature maps at the largest scale; they double with every halving of the side, up to 8 times.
        kernel: 4, or 5: then the first layer is linear.
        norm: Whether batch norm follows every layer but the last.
        bias: Whether layers have one.
        output: Last nonlinearity.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int,
        width: int,
        kernel: int = 4,
        *,
        norm: bool = True,
        bias: bool = False,
        output: type[nn.Module] = nn.Tanh,
    ) -> None:
        ladder = sides(shape[-1])
        w, base = widths(len(ladder) - 1, width), ladder[0]
        maps = [*w, shape[0]]
        if kernel == 5:
            units = w[0] * base**2
            layers: list[nn.Module] = [nn.Flatten(), nn.Linear(latent, units, bias=bias)]
            layers += [nn.BatchNorm1d(units)] if norm else []
            layers += [nn.ReLU(inplace=True), nn.Unflatten(1, (w[0], base, base))]
        else:
            layers = [nn.ConvTranspose2d(latent, w[0], base, bias=bias)]
            layers += [*([nn.BatchNorm2d(w[0])] if norm else []), nn.ReLU(inplace=True)]
        for (a, b), (small, large) in zip(itertools.pairwise(maps), itertools.pairwise(ladder), strict=True):
            last = large == shape[-1]
            layers += [upward(a, b, kernel, bias=bias)] if last else up(a, b, kernel, norm=norm, bias=bias)
            layers += [Crop(large)] if 2 * small > large else []
        super().__init__(*layers, output())


class Discriminator(nn.Module):
    """Say real or made: images (B, C, S, S) to one number each, a logit or a critic's value, (B,).

    Args:
        shape: (C, S, S).
        width: Feature maps at the largest scale; they double with every halving of the side, up to 8 times.
        kernel: 4, or 5: then the last layer is linear.
        norm: Whether batch norm follows every layer but the first and the last.
        bias: Whether layers have one.
    """

    def __init__(
        self, shape: tuple[int, ...], width: int, kernel: int = 4, *, norm: bool = True, bias: bool = False
    ) -> None:
        super().__init__()
        ladder = sides(shape[-1])
        w, base = widths(len(ladder) - 1, width)[::-1], ladder[0]
        layers = down(shape[0], w[0], kernel, norm=False, bias=bias)
        for a, b in itertools.pairwise(w):
            layers += down(a, b, kernel, norm=norm, bias=bias)
        self.features = nn.Sequential(*layers)
        self.verdict = (
            nn.Sequential(nn.Flatten(), nn.Linear(w[-1] * base**2, 1, bias=bias))
            if kernel == 5
            else nn.Conv2d(w[-1], 1, base, bias=bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.verdict(self.features(x)).flatten()
