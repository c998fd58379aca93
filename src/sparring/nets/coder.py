"""Encoders and decoders with a code between them: strided convolutions on images, linear layers on features."""

from __future__ import annotations

import math

from torch import Tensor, nn

from sparring.nets.dcgan import down, up, upward


def doublings(side: int) -> int:
    """How often 4 pixels are doubled on the way to this side, a power of two."""
    return int(math.log2(side)) - 2


class ImageEncoder(nn.Module):
    """Encode images (B, C, S, S) as vectors (B, outputs, 1, 1); `features` is all but the last layer."""

    def __init__(self, shape: tuple[int, ...], width: int, outputs: int) -> None:
        super().__init__()
        steps = doublings(shape[-1])
        layers = down(shape[0], width, norm=False)
        for k in range(steps - 1):
            layers += down(width << k, width << (k + 1))
        self.features = nn.Sequential(*layers)
        self.last = nn.Conv2d(width << (steps - 1), outputs, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


class ImageDecoder(nn.Sequential):
    """Decode vectors (B, latent, 1, 1) to images (B, C, S, S) in [-1, 1]."""

    def __init__(self, shape: tuple[int, ...], width: int, latent: int) -> None:
        steps = doublings(shape[-1])
        top = width << (steps - 1)
        first = nn.ConvTranspose2d(latent, top, 4, bias=False)
        middle = [layer for k in reversed(range(1, steps)) for layer in up(width << k, width << (k - 1))]
        last = upward(width, shape[0])
        super().__init__(first, nn.BatchNorm2d(top), nn.ReLU(inplace=True), *middle, last, nn.Tanh())


class VectorEncoder(nn.Module):
    """Encode features (B, D) as vectors (B, outputs), by two layers instead of convolutions."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(inputs, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Linear(2 * width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.LeakyReLU(0.2),
        )
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


def vector_decoder(outputs: int, width: int, latent: int) -> nn.Sequential:
    """Decode vectors (B, latent) to features (B, outputs)."""
    hidden = nn.Linear(latent, width, bias=False)
    wide = nn.Linear(width, 2 * width)
    return nn.Sequential(hidden, nn.BatchNorm1d(width), nn.ReLU(), wide, nn.ReLU(), nn.Linear(2 * width, outputs))
