"""Labels as inputs of networks, for games that make examples by class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.errors import UserError
from sparring.protocol import Spec


class OneHot(nn.Module):
    """Write labels (B,) as vectors (B, classes) that are 1 at the label and 0 elsewhere."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, label: Tensor) -> Tensor:
        return F.one_hot(label, self.classes).float()


def join(x: Tensor, code: Tensor) -> Tensor:
    """Put the code (B, K) of each label beside vectors (B, D), or as constant maps beside maps (B, D, H, W)."""
    if x.ndim == 4:
        code = code[:, :, None, None].expand(-1, -1, *x.shape[2:])
    return torch.cat([x, code], 1)


class Joined(nn.Module):
    """Layers in a row, the first of which reads the code of the label beside its input; see `join`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return self.layers(join(x, code))


class Conditional(nn.Module):
    """A network that is shown the label again at every stage: (x, label (B,)) to what its last stage puts out.

    Args:
        code: Writes labels as vectors: `OneHot`, or a learnt `nn.Embedding`.
        stages: Each reads that vector beside the output of the one before.
    """

    def __init__(self, code: nn.Module, stages: Sequence[Joined]) -> None:
        super().__init__()
        self.code = code
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        code = self.code(label)
        for stage in self.stages:
            x = stage(x, code)
        return x


def need_classes(spec: Spec, model: str) -> int:
    """Count the classes.

    Raises:
        UserError: For data without any.
    """
    if not spec.classes:
        raise UserError(f"{model} makes examples by class, and these data have no labels: give one folder per class.")
    return len(spec.classes)


def labels(n: int, label: Tensor | None, classes: int, device: torch.device) -> Tensor:
    """Take these n labels, or draw them uniformly over the classes; (n,) int64 on the device.

    Raises:
        UserError: For labels of another number, or of classes that there are not.
    """
    if label is None:
        return torch.randint(classes, (n,), device=device)
    if label.shape != (n,):
        raise UserError(f"{n} examples need {n} labels; got a tensor of shape {tuple(label.shape)}.")
    label = label.to(device, torch.int64)
    if n and not 0 <= int(label.min()) <= int(label.max()) < classes:
        raise UserError(
            f"Labels are class numbers from 0 to {classes - 1}; got some from {int(label.min())} to {int(label.max())}."
        )
    return label
