"""Residual blocks before whose convolutions normalisation and ReLU stand, and the networks made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
Shape: TypeAlias = tuple[int, ...]
Output: TypeAlias = type[nn.Module]
HE = math.sqrt(2)  # gain of a layer that feeds or follows a ReLU


@torch.no_grad()
def glorot(layer: Layer, gain: float = 1.0) -> Layer:
    """Draw weights uniformly, of variance 2 gain^2 / (fan in + fan out); the bias is 0. Return the layer.

    A stride leaves each pixel of the smaller image fewer taps a weight, so that its fan is divided by stride^2.
    """
    near, far, *window = layer.weight.shape
    stride = 1 if isinstance(layer, nn.Linear) else layer.stride[0]
    fans = (near / stride**2 + far) * math.prod(window)  # of a transposed convolution the first axis is the input
    bound = gain * math.sqrt(6 / fans)
    layer.weight.uniform_(-bound, bound)
    if layer.bias is not None:
        layer.bias.zero_()
    return layer


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose gain and bias belong to a class: (B, C, H, W) and labels (B,) to (B, C, H, W).

    Reference: Dumoulin, Shlens, Kudlur 2016, A Learned Representation for Artistic Style, arXiv:1610.07629.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Parameter(torch.ones(classes, channels))
        self.bias = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        gain, bias = (F.embedding(label, table)[:, :, None, None] for table in (self.gain, self.bias))
        return torch.addcmul(bias, gain, self.norm(x))


def halve(x: Tensor) -> Tensor:
    """Mean of 2x2 pixels: (B, C, S, S) to (B, C, S/2, S/2)."""
    return F.avg_pool2d(x, 2)


def double(x: Tensor) -> Tensor:
    """Repeat pixels: (B, C, S, S) to (B, C, 2S, 2S)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class ResidualBlock(nn.Module):
    """Add to a shortcut what two 3x3 convolutions make of the same maps: (B, inputs, S, S) to (B, outputs, S', S').

    Args:
        inputs: Maps that come in.
        outputs: Maps that go out.
        resample: "up" doubles the side before the first convolution, "down" halves it after the second.
        norm: Makes the normalisation of so many maps; None leaves it out.
        first: Whether this block sees an image: no ReLU stands before its first convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        resample: str = "",
        norm: Callable[[int], nn.Module] | None = None,
        first: bool = False,
    ) -> None:
        super().__init__()
        hidden = inputs if resample == "down" and not first else outputs
        self.resample, self.first = resample, first
        self.relu = nn.ReLU()
        self.norm1 = norm(inputs) if norm else nn.Identity()
        self.norm2 = norm(hidden) if norm else nn.Identity()
        self.conv1 = glorot(nn.Conv2d(inputs, hidden, 3, padding=1), HE)
        self.conv2 = glorot(nn.Conv2d(hidden, outputs, 3, padding=1), HE)
        same = inputs == outputs and not resample
        self.shortcut: nn.Module = nn.Identity() if same else glorot(nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        y = x if self.first else self.relu(normalised(self.norm1, x, label))
        y = self.conv1(double(y) if self.resample == "up" else y)
        y = self.conv2(self.relu(normalised(self.norm2, y, label)))
        # A 1x1 convolution commutes with repeating and averaging pixels: it goes where there are fewer.
        if self.resample == "down":
            return halve(y) + self.shortcut(halve(x))
        return y + (double(self.shortcut(x)) if self.resample == "up" else self.shortcut(x))


def normalised(norm: nn.Module, x: Tensor, label: Tensor | None) -> Tensor:
    return norm(x, label) if isinstance(norm, ConditionalBatchNorm) else norm(x)


class ResidualGenerator(nn.Module):
    """Make images (B, C, S, S) of latent vectors (B, latent), by blocks that double the side from 4.

    Args:
        shape: (C, S, S); S is 4 times a power of two.
        latent: Width of the latent vector.
        width: Feature maps of every block.
        classes: How many classes have a gain and a bias of their own in the blocks; 0 for none.
        output: Last nonlinearity.
    """

    def __init__(self, shape: Shape, latent: int, width: int, classes: int = 0, output: Output = nn.Tanh) -> None:
        super().__init__()

        def norm(channels: int) -> nn.Module:
            return ConditionalBatchNorm(channels, classes) if classes else nn.BatchNorm2d(channels)

        self.width = width
        self.input = glorot(nn.Linear(latent, width * 16))
        steps = int(math.log2(shape[-1])) - 2
        self.blocks = nn.ModuleList(ResidualBlock(width, width, "up", norm) for _ in range(steps))
        self.norm = nn.BatchNorm2d(width)
        self.output = nn.Sequential(glorot(nn.Conv2d(width, shape[0], 3, padding=1)), output())

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        y = self.input(z).view(-1, self.width, 4, 4)
        for block in self.blocks:
            y = block(y, label)
        return self.output(F.relu(self.norm(y)))


class ResidualCritic(nn.Module):
    """Value images (B, C, S, S) by one number each, (B,); blocks halve the side to 8, and two follow that keep it.

    Args:
        shape: (C, S, S); S is 8 times a power of two, and at least 16.
        width: Feature maps of every block.
        classes: Outputs of a second head, `classes`, on the same features; 0 for none.
    """

    def __init__(self, shape: Shape, width: int, classes: int = 0) -> None:
        super().__init__()
        steps = int(math.log2(shape[-1])) - 3
        blocks = [ResidualBlock(shape[0], width, "down", first=True)]
        blocks += [ResidualBlock(width, width, "down") for _ in range(steps - 1)]
        self.blocks = nn.Sequential(*blocks, ResidualBlock(width, width), ResidualBlock(width, width))
        self.relu = nn.ReLU()
        self.verdict = glorot(nn.Linear(width, 1))
        self.classes = glorot(nn.Linear(width, classes)) if classes else None

    def features(self, x: Tensor) -> Tensor:
        """Mean of each map, (B, width)."""
        return self.relu(self.blocks(x)).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.verdict(self.features(x)).flatten()
