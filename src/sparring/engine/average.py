"""Exponential moving average of the networks that a game names (EMA)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Follow the named networks of a game: shadow <- decay * shadow + (1 - decay) * weight.

    Early on the decay is at most (1 + t) / (10 + t), so that the start is forgotten. Buffers are copied.

    Args:
        game: The module whose children are followed.
        networks: Names of these children; empty for none.
        decay: In [0, 1); 0 switches the average off.
    """

    def __init__(self, game: nn.Module, networks: tuple[str, ...], decay: float) -> None:
        self.decay = decay
        self.live = {
            f"{network}.{key}": tensor
            for network in (networks if decay > 0 else ())
            for key, tensor in game.get_submodule(network).state_dict(keep_vars=True).items()
        }
        self.shadow = {key: tensor.detach().clone() for key, tensor in self.live.items()}
        self.learnt = [key for key, tensor in self.live.items() if tensor.requires_grad]
        self.copied = [key for key, tensor in self.live.items() if not tensor.requires_grad]

    @torch.no_grad()
    def follow(self, t: int) -> None:
        """Take in the weights after round t."""
        if not self.live:
            return
        decay = min(self.decay, (1 + t) / (10 + t))
        weights = [self.live[key] for key in self.learnt]
        torch._foreach_lerp_([self.shadow[key] for key in self.learnt], weights, 1 - decay)
        for key in self.copied:
            self.shadow[key].copy_(self.live[key])

    def load(self, shadow: dict[str, Tensor]) -> None:
        for key, tensor in shadow.items():
            self.shadow[key].copy_(tensor)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged weights into the game for the length of the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def settle(self) -> None:
        """Leave the averaged weights in the game."""
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for key, tensor in self.live.items():
            kept = tensor.detach().clone()
            tensor.copy_(self.shadow[key])
            self.shadow[key].copy_(kept)
