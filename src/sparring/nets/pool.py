"""A pool of past examples, which all processes of a training hold alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

ITSELF = 0.5  # probability that a new example is shown, and not one of the past in whose place it is put


class Pool(nn.Module):
    """Show a discriminator examples of the past beside new ones.

    The pool takes in the examples of all processes in the order of their minibatch, so that they hold the same one,
    and two processes play as one does. It is kept as the bits of float32 in whole numbers: the engine averages the
    floating-point buffers of processes, of which there is nothing to average here.

    Args:
        size: Examples that the pool holds; 0 shows new ones only.
        shape: Of an example.
        lane: Pools of different lanes draw different random numbers.

    Reference: Shrivastava et al. 2016, Learning from Simulated and Unsupervised Images through Adversarial Training,
    arXiv:1612.07828; by single examples, as in junyanz/pytorch-CycleGAN-and-pix2pix.
    """

    kept: Tensor

    def __init__(self, size: int, shape: tuple[int, ...], lane: int = 0) -> None:
        super().__init__()
        self.lane = lane
        self.register_buffer("kept", torch.zeros(size, *shape, dtype=torch.int32))

    def compile(self, *args: Any, **options: Any) -> None:
        """Do nothing: every round has its own number, and would be compiled anew."""

    @torch.no_grad()
    def forward(self, x: Tensor, step: int) -> Tensor:
        """Take in the examples (B, *shape) of round `step`, one batch a round, and show as many.

        Until the pool is full, these are the new ones.
        """
        if not len(self.kept):
            return x.detach()
        everyone, mine = gathered(x.detach().float())
        past = self.kept.view(torch.float32)
        random = torch.Generator().manual_seed(2 * step + self.lane)  # drawn alike by all processes
        shown = []
        for number, example in enumerate(everyone, start=step * len(everyone)):
            if number < len(past):
                past[number] = example
            elif torch.rand((), generator=random) >= ITSELF:
                place = int(torch.randint(len(past), (), generator=random))
                example, past[place] = past[place].clone(), example
            shown.append(example)
        return torch.stack(shown[mine])


def gathered(x: Tensor) -> tuple[Tensor, slice]:
    """The examples of all processes in order, and which of them are those of this one."""
    world = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    if world == 1:
        return x, slice(None)
    x = x.contiguous()
    parts = [torch.empty_like(x) for _ in range(world)]
    distributed.all_gather(parts, x)
    start = distributed.get_rank() * len(x)
    return torch.cat(parts), slice(start, start + len(x))
