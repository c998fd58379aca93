"""Residual classifiers whose nonlinearity follows the sum: images to features, features to logits.

Reference: He, Zhang, Ren, Sun 2015, Deep Residual Learning for Image Recognition, arXiv:1512.03385.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

STAGES = (64, 128, 256, 512)  # channels of ResNet-18


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps or divides the side, and batch norm."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, inputs, S, S) to (B, outputs, S / stride, S / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, 3, stride)
        self.second = convolution(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut: nn.Module = nn.Identity() if same else convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class Residual(nn.Module):
    """A stack of layers that ends in `width` maps, and a linear layer on their means.

    Args:
        body: Images (B, C, H, W) to maps (B, width, H', W').
        width: Numbers in a feature vector.
        classes: Numbers in a vector of logits.
    """

    def __init__(self, body: nn.Sequential, width: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.last = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """The means of the last maps, (B, width)."""
        return self.body(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


def resnet18(channels: int, classes: int) -> Residual:
    """ResNet-18 as OpenGAN's authors train it on 64x64 pixels: a 7x7 stem of stride 2, and no pooling after it."""
    layers: list[nn.Module] = [convolution(channels, STAGES[0], 7, 2), nn.ReLU(inplace=True)]
    for k, (inputs, outputs) in enumerate(pairwise((STAGES[0], *STAGES))):
        layers += [Block(inputs, outputs, 1 if k == 0 else 2), Block(outputs, outputs)]
    return Residual(nn.Sequential(*layers), STAGES[-1], classes)


def small_resnet(channels: int, classes: int, width: int) -> Residual:
    """A fast one for about 32x32 pixels: three times the side is halved, the width doubled, and a block follows.

    At 32x32 pixels in colour and width 32, 72 million multiplications an image.
    """
    layers: list[nn.Module] = [convolution(channels, width, 3), nn.ReLU(inplace=True)]
    for inputs in (width, 2 * width, 4 * width):
        layers += [convolution(inputs, 2 * inputs, 3, 2), nn.ReLU(inplace=True), Block(2 * inputs, 2 * inputs)]
    return Residual(nn.Sequential(*layers), 8 * width, classes)
