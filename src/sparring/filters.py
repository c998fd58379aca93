"""What the filters of a discriminator look for, shown by guided backpropagation.

Reference: Radford, Metz, Chintala 2015, arXiv:1511.06434, section 6.3; guided backpropagation is from Springenberg,
Dosovitskiy, Brox, Riedmiller (2014), Striving for Simplicity: The All Convolutional Net, arXiv:1412.6806.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.data import Source, batches, to_tensor
from sparring.errors import UserError
from sparring.probe import RECTIFIERS, judge_of, listening, untrained
from sparring.run import Run

FEATURES, IMAGES = 6, 5  # rows and columns of the picture: filters, and images that excite each most
EXAMPLES = 2000  # images that are looked through


class _Rectified(torch.autograd.Function):
    """A ReLU through which gradients pass only where both they and its input are positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(x)
        return F.leaky_relu(x, slope)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,), (gradient,) = ctx.saved_tensors, gradients
        return gradient.clamp(min=0) * (x > 0), None


class Guided(nn.Module):
    """Stands in for a ReLU, or a leaky one of this slope."""

    def __init__(self, slope: float = 0.0) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return _Rectified.apply(x, self.slope)


def guided(network: nn.Module) -> nn.Module:
    """Copy a network, with guided nonlinearities in place of its own."""
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if isinstance(child, RECTIFIERS):
                setattr(parent, name, Guided(getattr(child, "negative_slope", 0.0)))
    return copied


def last_maps(network: nn.Module, x: Tensor, kinds: tuple[type[nn.Module], ...] = RECTIFIERS) -> Tensor:
    """What the last nonlinearity after a convolution gives for images: maps (B, C, H, W).

    Raises:
        UserError: Where there is no such nonlinearity.
    """
    heard: list[Tensor] = []
    with listening(network, heard, kinds):
        network(x)
    if not heard:
        raise UserError("No ReLU follows a convolution in this discriminator, to go back through: use dcgan.")
    return heard[-1]


@torch.no_grad()
def most_excited(
    network: nn.Module, source: Source, seen: Callable[[Tensor], Tensor] = lambda x: x
) -> tuple[list[int], Tensor]:
    """The filters of the last convolution that respond most, and the numbers of the images that excite each most.

    Args:
        network: A discriminator.
        source: Images.
        seen: Images as the network sees them.

    Returns:
        The filters, and (filters, images) numbers into the source.
    """
    response = torch.cat([last_maps(network, seen(x)).amax((2, 3)) for x in batches(source, 64)])
    best = response.topk(min(IMAGES, len(response)), dim=0)
    chosen = best.values.mean(0).topk(min(FEATURES, response.shape[1])).indices
    return chosen.tolist(), best.indices[:, chosen].T


def traced(network: nn.Module, x: Tensor, feature: int) -> Tensor:
    """The part of each image (B, C, H, W) that excites a filter: a guided gradient of its strongest response."""
    x = x.clone().requires_grad_()
    maps = last_maps(network, x, (Guided,))
    return torch.autograd.grad(maps[:, feature].amax((1, 2)).sum(), x)[0]


def scaled(gradient: Tensor) -> Tensor:
    """Gradients as pictures: 0 is mid-grey, the strongest of each image reaches -1 or 1."""
    return gradient / gradient.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)


def filters(run: Run, data: Any = None, *, split: str = "train", seed: int = 0) -> Tensor:
    """Show what the last convolutional layer looks for, beside the same for weights that no training has touched.

    Args:
        data: Images, as for `sparring.train`; None is the run's own data.
        split: The part that is looked through.
        seed: Of the untrained weights.

    Returns:
        Pictures (N, C, H, W) in [-1, 1] for a grid of 2 * IMAGES columns, two rows a filter: the images that excite it
        most, and below them their guided gradients; the trained network on the left, random weights on the right.

    Raises:
        UserError: For a model without a convolutional discriminator.
    """
    source = run.open(data, split=split).limited(EXAMPLES)
    if len(source) < IMAGES:
        raise UserError(f"A filter is shown by {IMAGES} images, and '{source.name}' holds {len(source)}: give more.")
    halves = []
    for game in (run.game, untrained(run, seed)):
        network = judge_of(game, run.job.model)
        chosen, numbers = most_excited(network, source, game.seen)
        tracing = guided(network)
        shown = [(k, to_tensor(source.read(row.numpy()))) for k, row in zip(chosen, numbers, strict=True)]
        halves.append([row for k, x in shown for row in (x, scaled(traced(tracing, game.seen(x), k)))])
    return torch.cat([row for pair in zip(*halves, strict=True) for row in pair])
