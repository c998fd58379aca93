"""Optimizers as the papers have them."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer


def adam(
    *networks: nn.Module, rate: float, betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.0
) -> Optimizer:
    """Adam on all parameters of these networks; a step of all of them is one call (fused)."""
    parameters = [parameter for network in networks for parameter in network.parameters()]
    return torch.optim.Adam(parameters, rate, betas, weight_decay=weight_decay, fused=True)
