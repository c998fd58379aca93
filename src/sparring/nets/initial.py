"""Starting weights."""

from __future__ import annotations

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@torch.no_grad()
def dcgan_weights(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw every weight from N(0, 0.02) and every batch-norm gain from N(1, 0.02); biases are 0.

    Args:
        module: Changed in place, running statistics included.
        generator: Source of randomness; None uses torch's global one.

    Reference: Radford, Metz, Chintala 2015, arXiv:1511.06434, section 4 (standard deviation, not variance).
    """
    for part in module.modules():
        if isinstance(part, (*CONVOLUTIONS, nn.Linear)):
            part.weight.normal_(0.0, 0.02, generator=generator)
        elif isinstance(part, NORMS):
            part.reset_running_stats()
            if part.affine:
                part.weight.normal_(1.0, 0.02, generator=generator)
        else:
            continue
        if part.bias is not None:
            part.bias.zero_()


def tensorflow_norms(module: nn.Module) -> None:
    """Give every batch norm the defaults of TensorFlow's layer: eps 1e-3, and momentum 0.99, which is 0.01 here."""
    for part in module.modules():
        if isinstance(part, NORMS):
            part.momentum, part.eps = 0.01, 1e-3


@torch.no_grad()
def uniform_weights(module: nn.Module, half_width: float) -> None:
    """Draw every weight of the linear layers from U(-half_width, half_width); biases are 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.weight.uniform_(-half_width, half_width)
            part.bias.zero_()


def xavier_weights(module: nn.Module) -> None:
    """Draw every weight of the linear layers uniformly, of variance 2 / (fan in + fan out); biases are 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)


@torch.no_grad()
def normal_weights(module: nn.Module, spread: float) -> None:
    """Draw every weight from N(0, spread); biases are 0."""
    for part in module.modules():
        if isinstance(part, (*CONVOLUTIONS, nn.Linear)):
            part.weight.normal_(0.0, spread)
            if part.bias is not None:
                part.bias.zero_()
