"""Layers as PyTorch has them, whose gradient is cheap to differentiate once more: for penalties on gradients.

PyTorch differentiates the gradient of a convolution by another whose kernel is as large as the image and whose
minibatch are the feature maps, which is slow everywhere, and it sends zeros back through the whole network because
the slope of a rectifier might depend on its input. Here the gradient of a convolution is a transposed convolution, a
layer as any other, and the slope of a rectifier is a constant. Results are the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

Sides: TypeAlias = "int | tuple[int, ...]"
Gradients: TypeAlias = "tuple[Tensor | None, ...]"


class TwiceDifferentiable(TorchFunctionMode):
    """Within this block F.conv2d, F.relu and F.leaky_relu, and the modules that call them, are such layers.

    In a pass with `create_graph=True` a convolution gives the gradient of its input only, and none of its weights: that
    is for `torch.autograd.grad` towards the examples. Passes without it are complete.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        layer = LAYERS.get(function, function)
        return layer(*args, **(kwargs or {}))


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sides = 1,
    padding: str | Sides = 0,
    dilation: Sides = 1,
    groups: int = 1,
) -> Tensor:
    if isinstance(padding, str) or input.ndim != 4:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    return Convolution.apply(input, weight, bias, pair(stride), pair(padding), pair(dilation), groups)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return Rectifier.apply(input, negative_slope) if negative_slope >= 0 else F.leaky_relu(input, negative_slope)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    return Rectifier.apply(input, 0.0)


LAYERS: dict[Callable[..., Any], Callable[..., Any]] = {F.conv2d: conv2d, F.leaky_relu: leaky_relu, F.relu: relu}


def pair(sides: Sides) -> tuple[int, ...]:
    return (sides, sides) if isinstance(sides, int) else tuple(sides)


class Convolution(Function):
    """F.conv2d: (B, C, H, W) to (B, C', H', W')."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.outputs = how, None if bias is None else [len(bias)]
        return F.conv2d(x, weight, bias, *how)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Gradients:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.how
        rest = (None,) * 4
        if torch.is_grad_enabled():  # create_graph=True
            sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
            left = [(n + 2 * p - d * (k - 1) - 1) % s for n, k, s, p, d in sizes]  # rows that no stride reached
            towards = F.conv_transpose2d(slope, weight, None, stride, padding, left, groups, dilation)
            return towards, None, None, *rest
        wanted = list(ctx.needs_input_grad[:3])
        found = torch.ops.aten.convolution_backward(
            slope, x, weight, ctx.outputs, stride, padding, dilation, False, [0, 0], groups, wanted
        )
        return *found, *rest


class Rectifier(Function):
    """F.leaky_relu with a slope of 0 or more; F.relu with one of 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        y = F.leaky_relu(x, slope)
        ctx.save_for_backward(y)
        ctx.slope = slope
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Gradients:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.leaky_relu_backward(slope, y.detach(), ctx.slope, True), None
