"""A small convolutional classifier, and what its last hidden layer tells of images."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

WIDTHS = (32, 64, 128)  # channels of the stages, the last repeated for larger images


class Classifier(nn.Module):
    """Halve images (B, channels, H, W) until at most 4 pixels are left on a side, then name their classes.

    Each stage is a convolution of stride 2 and one of stride 1, with batch norm and ReLU. The features are
    means over the last positions.
    """

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        stages = max(len(WIDTHS), math.ceil(math.log2(side / 4)))
        widths = (*WIDTHS, *[WIDTHS[-1]] * (stages - len(WIDTHS)))
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((channels, *widths)):
            layers += [*layer(inputs, outputs, 2), *layer(outputs, outputs, 1)]
        self.body = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, 128) and logits (B, classes)."""
        features = self.body(x).mean((2, 3))
        return features, self.last(features)


def layer(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class Views(nn.Module):
    """Features of a trained classifier and of an untrained one, side by side.

    The trained one knows the classes and little else: noise and blur look to it like some class. The untrained
    one sees these, and no classes. Each is divided by the spread of its features over some training images.
    """

    spread: Tensor

    def __init__(self, trained: Classifier, untrained: Classifier) -> None:
        super().__init__()
        self.trained, self.untrained = trained, untrained
        self.register_buffer("spread", torch.ones(2))

    @torch.no_grad()
    def learn(self, x: Tensor) -> None:
        """Take the spread from images x (N, channels, H, W): the root mean variance of the features."""
        views = (self.trained(x)[0], self.untrained(x)[0])
        self.spread.copy_(torch.stack([view.var(0).mean().sqrt().clamp(min=1e-6) for view in views]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, 256) and class probabilities (B, classes)."""
        known, logits = self.trained(x)
        unknown, _ = self.untrained(x)
        return torch.cat([known / self.spread[0], unknown / self.spread[1]], 1), logits.softmax(1)
