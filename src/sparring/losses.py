"""Loss terms that more than one paper uses, on logits and in float32 under any autocast."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from sparring.derivatives import TwiceDifferentiable

Examples: TypeAlias = "Tensor | tuple[Tensor, ...]"  # (B, ...), or several of them where a critic sees pairs (x, z)


def is_real(logit: Tensor) -> Tensor:
    """-E log D: small where the discriminator says real. `logit` is D before the sigmoid, any shape."""
    return F.softplus(-logit.float()).mean()


def is_fake(logit: Tensor) -> Tensor:
    """-E log(1 - D): small where the discriminator says fake. `logit` is D before the sigmoid, any shape."""
    return F.softplus(logit.float()).mean()


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean of (x - y)^2 over all elements."""
    return F.mse_loss(x.float(), y.float())


def absolute_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean of |x - y| over all elements."""
    return F.l1_loss(x.float(), y.float())


def gradient_penalty(
    critic: Callable[..., Tensor], real: Examples, fake: Examples, target: float = 1.0, one_sided: bool = False
) -> Tensor:
    """E (|gradient of the critic| - target)^2 on the lines between real and made examples, a scalar.

    Each example has one epsilon ~ U[0, 1], which all of its parts share; the norm is that of the gradients
    with respect to all parts, concatenated. The critic must treat each example on its own (no batch norm).

    Args:
        critic: Maps (B, ...), or as many of them as there are parts, to one number an example.
        real: Examples (B, ...), or a tuple of their parts.
        fake: Made examples of the same shapes; no gradient reaches them.
        target: Norm that costs nothing.
        one_sided: Let smaller norms cost nothing either.

    Reference: Gulrajani et al. 2017, Improved Training of Wasserstein GANs, arXiv:1704.00028, section 4.
    """
    pairs = list(zip(_parts(real), _parts(fake), strict=True))
    first = pairs[0][0]
    epsilon = torch.rand(len(first), device=first.device)
    shares = [epsilon.view(-1, *[1] * (x.ndim - 1)) for x, _ in pairs]
    points = [torch.lerp(y.detach().float(), x.detach().float(), e) for (x, y), e in zip(pairs, shares, strict=True)]
    excess = _slopes(critic, points).norm(dim=1) - target  # the norm's own gradient is 0 where the norm is
    return (excess.clamp(min=0) if one_sided else excess).square().mean()


def zero_penalty(discriminator: Callable[..., Tensor], x: Examples) -> Tensor:
    """E |gradient of the discriminator|^2 / 2 at these examples, a scalar: R1 at real ones, R2 at made ones.

    Args:
        discriminator: Maps (B, ...), or as many of them as there are parts, to one logit an example.
        x: Examples (B, ...), or a tuple of their parts; no gradient reaches them.

    Reference: Mescheder, Geiger, Nowozin 2018, Which Training Methods for GANs do actually Converge?,
    arXiv:1801.04406, section 4.1.
    """
    return _slopes(discriminator, [part.detach().float() for part in _parts(x)]).square().sum(1).mean() / 2


def _parts(x: Examples) -> tuple[Tensor, ...]:
    return (x,) if isinstance(x, Tensor) else x


def _slopes(critic: Callable[..., Tensor], points: list[Tensor]) -> Tensor:
    """Gradient of each example's own number, (B, D) over all parts, in float32: in bfloat16 its square underflows."""
    with torch.enable_grad(), torch.autocast(points[0].device.type, enabled=False):
        leaves = [point.requires_grad_() for point in points]
        with TwiceDifferentiable():
            value = critic(*leaves)
        gradients = torch.autograd.grad(value.sum(), leaves, create_graph=True)
    return torch.cat([gradient.flatten(1) for gradient in gradients], 1)
