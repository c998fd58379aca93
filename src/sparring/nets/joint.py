"""Two inputs that meet: a discriminator or critic of pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Joint(nn.Module):
    """Read x and z apart, and then what was read of both together.

    Args:
        of_x: Maps x to rows (B, A), or maps.
        of_z: Maps z to rows (B, C), or maps.
        together: Maps rows (B, A + C) to the output.
        dim: Where the two are joined.
    """

    def __init__(self, of_x: nn.Module, of_z: nn.Module, together: nn.Module, dim: int = 1) -> None:
        super().__init__()
        self.of_x = of_x
        self.of_z = of_z
        self.together = together
        self.dim = dim

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.together(torch.cat([self.of_x(x), self.of_z(z)], self.dim))


class PairDiscriminator(nn.Module):
    """Judge pairs by a last linear layer on what was read of both: logits (B,).

    Args:
        features: Maps x and z to rows (B, units).
        units: Width of these rows.
    """

    def __init__(self, features: Joint, units: int) -> None:
        super().__init__()
        self.features = features
        self.verdict = nn.Linear(units, 1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.verdict(self.features(x, z)).flatten()
