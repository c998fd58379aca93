"""What a layer within a network gives, taken out on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from sparring.errors import UserError, enough_memory, unknown

HEADS = (nn.Linear, nn.Conv2d)

Network: TypeAlias = Callable[[Tensor], "tuple[Tensor, Tensor | None]"]  # images to features and logits


def pooled(value: Tensor) -> Tensor:
    """One vector an example, (B, D): the mean over positions of maps (B, D, H, W) or of tokens (B, T, D)."""
    return value.mean((2, 3)) if value.ndim == 4 else value.mean(1) if value.ndim == 3 else value.flatten(1)


def sorted_out(found: Any) -> tuple[Tensor, Tensor | None]:
    """See what a network gives as features, or as features and logits."""
    features, *others = found if isinstance(found, (tuple, list)) else (found,)
    return pooled(features), others[0] if others else None


@contextmanager
def taking(x: Tensor, remedy: str = "") -> Iterator[None]:
    """Turn what PyTorch says of images that a network does not take into one sentence.

    Raises:
        UserError: For images of another size, of other channels, or too many or few of them.
    """
    try:
        with enough_memory():
            yield
    except (RuntimeError, AssertionError) as error:
        said = str(error).partition("RuntimeError: ")  # TorchScript puts what failed at the end
        reason = (said[2] or said[0]).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise UserError(
            f"This network does not take {len(x)} images of shape {tuple(x.shape[1:])} ({reason}): {remedy}open images "
            "of its own with --size and --channels."
        ) from None


class Plain:
    """What a network gives: features (B, ...), or a pair with logits (B, K)."""

    def __init__(self, network: Callable[[Tensor], Any]) -> None:
        self.network = network

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        with taking(x):
            return sorted_out(self.network(x))


class Tapped:
    """What a layer of a module gives; by default what the last that runs is given, and the output as logits."""

    def __init__(
        self, module: nn.Module, layer: str | None, forward: Callable[[Tensor], Any] | None = None, logits: bool = True
    ) -> None:
        self.forward: Callable[[Tensor], Any] = forward or module
        layers = {name: part for name, part in module.named_modules() if name}
        if layer is not None and layer not in layers:
            raise unknown("layer", layer, layers)
        heads = [part for part in layers.values() if isinstance(part, HEADS)]
        if layer is None and not heads:
            raise UserError("This network has no linear layer at its end: name the layer to take with --layer.")
        self.layer, self.heads, self.logits = layers[layer] if layer is not None else None, heads, logits

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        heard: Tensor | None = None

        def hear(value: Tensor) -> None:
            nonlocal heard
            heard = value

        if self.layer is not None:
            handles = [self.layer.register_forward_hook(lambda layer, given, made: hear(made))]
        else:
            handles = [head.register_forward_pre_hook(lambda layer, given: hear(given[0])) for head in self.heads]
        try:
            with taking(x):
                output = self.forward(x)
        finally:
            for handle in handles:
                handle.remove()
        if heard is None:
            raise UserError("This layer takes no part in what the network makes of images: name another with --layer.")
        is_logits = self.logits and isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] > 1
        return pooled(heard), output if is_logits else None


class Recorder:
    """The same of a program of torch.export, whose layers are the nodes of its graph."""

    def __init__(self, program: Any, layer: str | None) -> None:
        nodes = {node.name: node for node in program.graph.nodes if node.op == "call_function"}
        if layer is not None and layer not in nodes:
            raise unknown("layer", layer, nodes)
        linear = [node for node in nodes.values() if str(node.target).startswith(("aten.linear", "aten.conv"))]
        self.node = nodes[layer] if layer is not None else linear[-1].args[0] if linear else None
        self.program, self.named = program, layer is not None

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        heard: list[Tensor] = []
        wanted = self.node

        class Listening(torch.fx.Interpreter):
            def run_node(self, node: torch.fx.Node) -> Any:
                value = super().run_node(node)
                heard.extend([value] if node is wanted else [])
                return value

        with taking(x, "export it with a dynamic batch, and "):
            output = Listening(self.program).run(x)
        if isinstance(output, (tuple, list)) or not heard:
            return sorted_out(output)
        return pooled(heard[-1]), output if output.ndim == 2 and not self.named else None
