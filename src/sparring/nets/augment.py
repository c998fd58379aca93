"""Differentiable augmentation: the discriminator sees real and made images through the same random changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sparring.errors import UserError, unknown

if TYPE_CHECKING:
    from sparring.protocol import Spec

AUGMENT = "empty, or names out of color,translation,cutout, by commas; Zhao et al. 2020, arXiv:2006.10738"


def augment(discriminator: nn.Module, policy: str, spec: Spec, unit: bool = False) -> None:
    """Change every image at random on its way into this network, as long as it trains.

    Real and made images are changed alike, in the turns of all players, and the gradient of the generator passes
    through the change: augmenting the real images only would teach the generator to make augmented ones.

    Args:
        discriminator: Its first argument is images (B, C, H, W); others, such as labels, stay as they are.
        policy: Names of `POLICIES`, separated by commas; the changes are made in that order. Empty for none.
        spec: What the data dictate.
        unit: The network sees images in [0, 1], which are changed as those in [-1, 1] are.

    Reference: Zhao, Liu, Lin, Zhu, Han 2020, Differentiable Augmentation for Data-Efficient GAN Training,
    arXiv:2006.10738; magnitudes are those of the authors' code, mit-han-lab/data-efficient-gans.

    Raises:
        UserError: For an unknown name, or for data that are not images.
    """
    changes = parse(policy)
    if changes and not spec.is_image:
        raise UserError(f"'augment' changes images, not vectors of {spec.size} numbers: leave it empty.")

    def change(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *others = inputs
        if module.training:
            x = 2 * x - 1 if unit else x
            for one in changes:
                x = one(x)
            x = (x + 1) / 2 if unit else x
        return x, *others

    if changes:
        discriminator.register_forward_pre_hook(change)


def parse(policy: str) -> list[Callable[[Tensor], Tensor]]:
    """The changes that a policy names, in its order.

    Raises:
        UserError: For an unknown name.
    """
    names = [name.strip() for name in policy.split(",")] if policy else []
    for name in names:
        if name not in POLICIES:
            raise unknown("augmentation", name, POLICIES)
    return [change for name in names for change in POLICIES[name]]


def brightness(x: Tensor) -> Tensor:
    """Add U(-0.5, 0.5) to an image."""
    return x + (_uniform(x) - 0.5)


def saturation(x: Tensor) -> Tensor:
    """Scale the distance of colours from grey by U(0, 2)."""
    return _spread(x, x.mean(1, keepdim=True), 2 * _uniform(x))


def contrast(x: Tensor) -> Tensor:
    """Scale the distance from the image's mean by U(0.5, 1.5)."""
    return _spread(x, x.mean((1, 2, 3), keepdim=True), _uniform(x) + 0.5)


def translation(x: Tensor) -> Tensor:
    """Shift an image by up to an eighth of its sides; what comes in is 0."""
    # Products with matrices of zeros and ones: unlike indexing, their gradient is the same at every run on a GPU.
    rows, columns = (_shifts(len(x), side, x) for side in x.shape[-2:])
    return rows @ x @ columns.mT


def cutout(x: Tensor) -> Tensor:
    """Set a rectangle of half the sides to 0; its centre lies anywhere in the image."""
    rows, columns = (_covered(len(x), side, x) for side in x.shape[-2:])
    return x * ~(rows[:, None, :, None] & columns[:, None, None, :])


POLICIES: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "color": (brightness, saturation, contrast),
    "translation": (translation,),
    "cutout": (cutout,),
}


def _uniform(x: Tensor) -> Tensor:
    """One draw of U(0, 1) for each image."""
    return torch.rand(len(x), 1, 1, 1, device=x.device)


def _spread(x: Tensor, middle: Tensor, factor: Tensor) -> Tensor:
    return (x - middle) * factor + middle


def _shifts(count: int, side: int, x: Tensor) -> Tensor:
    """Matrices (count, 1, side, side) that move row i + t to row i, with t up to an eighth of the side."""
    most = int(side / 8 + 0.5)
    t = torch.randint(-most, most + 1, (count, 1, 1, 1), device=x.device)
    i = torch.arange(side, device=x.device)
    return (i[:, None] + t == i).to(x.dtype)


def _covered(count: int, side: int, x: Tensor) -> Tensor:
    """Which of the positions along a side are cut out, (count, side)."""
    length = int(side / 2 + 0.5)
    start = torch.randint(0, side + 1 - length % 2, (count, 1), device=x.device) - length // 2
    i = torch.arange(side, device=x.device)
    return (start <= i) & (i < start + length)
