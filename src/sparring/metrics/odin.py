"""ODIN: a step on the image towards what the classifier believes, then its softmax at a high temperature."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def odin(
    network: Callable[[Tensor], Tensor], x: Tensor, temperature: float = 1000.0, epsilon: float = 0.0014
) -> Tensor:
    """Minus the largest probability after the step, (B,) float32 in [-1, -1/K]; higher is stranger.

    Args:
        network: Maps x to logits (B, K), each example on its own.
        x: (B, ...), on the scale that the network takes.
        temperature: T, which divides the logits; the paper's value.
        epsilon: Length of the step in each number of x, in its units; the paper chooses it by open examples.

    Reference: Liang, Li, Srikant (2018), Enhancing the Reliability of Out-of-distribution Image Detection in Neural
    Networks, arXiv:1706.02690.
    """
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        belief = (network(leaf) / temperature).log_softmax(1).amax(1).sum()
        (gradient,) = torch.autograd.grad(belief, leaf)
    with torch.no_grad():
        return -(network(x + epsilon * gradient.sign()) / temperature).softmax(1).amax(1).float()
