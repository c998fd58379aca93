"""Fully connected blocks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparring.protocol import Spec


class Maxout(nn.Module):
    """The largest of several linear pieces: (B, inputs) to (B, units).

    Reference: Goodfellow et al. 2013, Maxout Networks, arXiv:1302.4389.
    """

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(inputs, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(1, (-1, self.pieces)).amax(2)


class Largest(nn.Module):
    """Maxout of maps: the largest of each `pieces` neighbouring ones: (B, pieces * C, ...) to (B, C, ...)."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, self.pieces)).amax(2)


class Standardise(nn.Module):
    """Shift and scale features to mean 0 and deviation 1 by statistics learnt once, (B, D) to (B, D).

    Args:
        width: Numbers in one example, D.
        common: Divide all features by one number, their root mean square deviation, so that distances keep their order.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, common: bool = False) -> None:
        super().__init__()
        self.common = common
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    @torch.no_grad()
    def learn(self, x: Tensor) -> None:
        """Take the statistics of x (N, D); a constant feature keeps scale 1."""
        self.mean.copy_(x.mean(0))
        deviation, size = x.std(0, correction=0), self.mean.abs()
        if self.common:
            deviation, size = (values.square().mean().sqrt() for values in (deviation, size))
        self.scale.copy_(torch.where(deviation > 1e-6 * (1 + size), deviation, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale

    def back(self, y: Tensor) -> Tensor:
        """Undo it."""
        return y * self.scale + self.mean


class Unchanged(nn.Identity):
    """What `Standardise` is to features, for images: nothing is learnt, and nothing changes."""

    def learn(self, x: Tensor) -> None:
        pass

    def back(self, y: Tensor) -> Tensor:
        return y


def standardiser(spec: Spec, common: bool = False) -> Standardise | Unchanged:
    """Standardise features, each on its own or by a common scale; leave images as they are."""
    return Unchanged() if spec.is_image else Standardise(spec.size, common)


def perceptron(widths: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Stack linear layers of these widths, with the activation between them and none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])
