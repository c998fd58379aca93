"""The convolutional blocks of DCGAN: halve or double the side at every layer."""

from __future__ import annotations

import math

from torch import nn

from sparring.errors import UserError


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


def down(inputs: int, outputs: int, kernel: int = 4, *, norm: bool = True) -> list[nn.Module]:
    """Halve the side: (B, inputs, S, S) to (B, outputs, S/2, S/2); convolution, batch norm, leaky ReLU 0.2."""
    convolution = nn.Conv2d(inputs, outputs, kernel, 2, (kernel - 1) // 2, bias=False)
    return [convolution, *([nn.BatchNorm2d(outputs)] if norm else []), nn.LeakyReLU(0.2, inplace=True)]


def upward(inputs: int, outputs: int, kernel: int = 4) -> nn.ConvTranspose2d:
    """Double the side: (B, inputs, S, S) to (B, outputs, 2S, 2S)."""
    return nn.ConvTranspose2d(inputs, outputs, kernel, 2, (kernel - 1) // 2, output_padding=kernel % 2, bias=False)


def up(inputs: int, outputs: int, kernel: int = 4) -> list[nn.Module]:
    """Double the side, then batch norm and ReLU."""
    return [upward(inputs, outputs, kernel), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
