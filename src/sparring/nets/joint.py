"""Two inputs that meet: a discriminator or critic of pairs (x, z)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Joint(nn.Module):
    """Read x and z apart, and then what was read of both together.

    Args:
        of_x: Maps x to rows (B, A).
        of_z: Maps z to rows (B, C).
        together: Maps rows (B, A + C) to the output.
    """

    def __init__(self, of_x: nn.Module, of_z: nn.Module, together: nn.Module) -> None:
        super().__init__()
        self.of_x = of_x
        self.of_z = of_z
        self.together = together

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.together(torch.cat([self.of_x(x), self.of_z(z)], 1))
