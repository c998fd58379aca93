"""Loss terms that more than one paper uses, on logits and in float32 under any autocast."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


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
