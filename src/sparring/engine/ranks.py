"""Several processes that train one game: gradients and buffers are averaged by hand, no wrapper."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn


@torch.no_grad()
def average(tensors: Sequence[Tensor], fabric: Fabric) -> None:
    """Replace each tensor by its mean over all processes, in one exchange."""
    if fabric.world_size == 1 or not tensors:
        return
    flat = torch.cat([tensor.float().flatten() for tensor in tensors])
    mean = fabric.all_reduce(flat, reduce_op="mean")
    assert isinstance(mean, Tensor)
    for tensor, part in zip(tensors, mean.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def average_buffers(module: nn.Module, fabric: Fabric) -> None:
    """Average the running statistics, which each process gathers from its own shard."""
    average([buffer for buffer in module.buffers() if buffer.is_floating_point()], fabric)


def anywhere(flag: bool, fabric: Fabric) -> bool:
    """Tell every process whether the flag is up on any of them."""
    if fabric.world_size == 1:
        return flag
    total = fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum")
    assert isinstance(total, Tensor)
    return bool(total > 0)


def part(fabric: Fabric) -> None:
    """Leave the group of processes in order; gloo aborts a process that just exits."""
    if fabric.world_size > 1:
        fabric.barrier()
        gc.collect()
        torch.distributed.destroy_process_group()
