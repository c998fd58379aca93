"""Inception v3 as the published FID takes it: its layers, and how images are brought to them.

Reference: Szegedy et al. (2015), Rethinking the Inception Architecture for Computer Vision, arXiv:1512.00567. The
network of the FID differs: 1,008 classes, averages that leave padding out, and a maximum where the last block
would average. Layers bear the names of the weights in circulation (pt_inception-2015-12-05).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299
FEATURES = 2048
CLASSES = 1008

Kernel: TypeAlias = "int | tuple[int, int]"
Layer: TypeAlias = "tuple[int, Kernel] | tuple[int, Kernel, int]"  # outputs, kernel, stride
Step: TypeAlias = "Layer | list[Layer]"  # a list is applied side by side
Paths: TypeAlias = "Mapping[str, Sequence[Step]]"

mean = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
largest = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
halve = partial(F.max_pool2d, kernel_size=3, stride=2)


def convolution(inputs: int, outputs: int, kernel: Kernel, stride: int = 1, pad: bool = True) -> nn.Sequential:
    """Convolution, batch norm and ReLU; padded to keep the side where the stride is 1."""
    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    padding = (sides[0] // 2, sides[1] // 2) if pad and stride == 1 else (0, 0)
    conv = nn.Conv2d(inputs, outputs, sides, stride, padding, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs, eps=0.001), relu=nn.ReLU(inplace=True)))


class Block(nn.Module):
    """Paths of convolutions side by side, and a pooled one, joined along the channels.

    Args:
        inputs: Channels that come in.
        paths: Layers of each path; one of a single layer bears the path's name, others are numbered from 1.
        pool: What the last path begins with.
        pooled: Channels of the convolution after it; None passes the pooled channels on.
    """

    def __init__(self, inputs: int, paths: Paths, pool: partial[Tensor], pooled: int | None = None) -> None:
        super().__init__()
        self.paths: list[list[list[str]]] = []
        self.pool = pool
        self.outputs = pooled or inputs
        for path, steps in paths.items():
            names: list[list[str]] = []
            width = inputs
            for number, step in enumerate(steps, 1):
                layers = step if isinstance(step, list) else [step]
                stem = path if len(steps) == 1 else f"{path}_{number}"
                names.append([stem + ("ab"[k] if len(layers) > 1 else "") for k in range(len(layers))])
                for name, layer in zip(names[-1], layers, strict=True):
                    self.add_module(name, convolution(width, *layer))
                width = sum(layer[0] for layer in layers)
            self.paths.append(names)
            self.outputs += width
        if pooled:
            self.branch_pool = convolution(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for path in self.paths:
            y = x
            for names in path:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            found.append(y)
        y = self.pool(x)
        found.append(self.branch_pool(y) if hasattr(self, "branch_pool") else y)
        return torch.cat(found, 1)


def fives(pooled: int) -> tuple[Paths, partial[Tensor], int]:
    paths: Paths = {
        "branch1x1": [(64, 1)],
        "branch5x5": [(48, 1), (64, 5)],
        "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
    }
    return paths, mean, pooled


def sevens(c: int) -> tuple[Paths, partial[Tensor], int]:
    wide, high = (1, 7), (7, 1)
    paths: Paths = {
        "branch1x1": [(192, 1)],
        "branch7x7": [(c, 1), (c, wide), (192, high)],
        "branch7x7dbl": [(c, 1), (c, high), (c, wide), (c, high), (192, wide)],
    }
    return paths, mean, 192


def forks(pool: partial[Tensor]) -> tuple[Paths, partial[Tensor], int]:
    fork: list[Layer] = [(384, (1, 3)), (384, (3, 1))]
    paths: Paths = {
        "branch1x1": [(320, 1)],
        "branch3x3": [(384, 1), fork],
        "branch3x3dbl": [(448, 1), (384, 3), fork],
    }
    return paths, pool, 192


NARROWER: Paths = {"branch3x3": [(384, 3, 2)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3, 2)]}
NARROWEST: Paths = {
    "branch3x3": [(192, 1), (320, 3, 2)],
    "branch7x7x3": [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)],
}

BLOCKS: dict[str, tuple[Paths, partial[Tensor], int] | tuple[Paths, partial[Tensor]]] = {
    "Mixed_5b": fives(32),
    "Mixed_5c": fives(64),
    "Mixed_5d": fives(64),
    "Mixed_6a": (NARROWER, halve),
    "Mixed_6b": sevens(128),
    "Mixed_6c": sevens(160),
    "Mixed_6d": sevens(160),
    "Mixed_6e": sevens(192),
    "Mixed_7a": (NARROWEST, halve),
    "Mixed_7b": forks(mean),
    "Mixed_7c": forks(largest),
}


class Inception(nn.Module):
    """Features and class probabilities of images, uint8 (B, 3, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = convolution(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = convolution(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = convolution(80, 192, 3, pad=False)
        width = 192
        for name, plan in BLOCKS.items():
            block = Block(width, *plan)
            self.add_module(name, block)
            width = block.outputs
        self.fc = nn.Linear(width, CLASSES)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, 2048) and probabilities (B, 1008); images are brought to 299 x 299 bilinearly."""
        x = F.interpolate(images.float() / 255, (SIDE, SIDE), mode="bilinear", align_corners=False) * 2 - 1
        x = halve(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name in BLOCKS:
            x = self.get_submodule(name)(x)
        features = x.mean((2, 3))
        return features, (features @ self.fc.weight.T).softmax(1)  # the published score leaves the biases out
