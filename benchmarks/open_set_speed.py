"""How fast OpenGAN learns from and scores features, beside the forward pass of a backbone.

    python benchmarks/open_set_speed.py [--width 512] [--batch 128,1024] [--seconds 2]

A step of the discriminator is forward and backward over as many real and made features, and Adam; its products of
matrices alone, timed by themselves, are the bound. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparring.models.opengan import OpenGAN, OpenGANRecipe
from sparring.nets.resnet import resnet18, small_resnet
from sparring.protocol import Batch, Spec


def seconds_of(action: Callable[[], object], least: float) -> float:
    """The median time of an action, which is repeated for so many seconds."""
    action()
    times: list[float] = []
    while sum(times) < least or len(times) < 5:
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def step(game: OpenGAN, batch: Batch, moves: int) -> Callable[[], None]:
    """One round as the engine plays it, up to the first `moves` updates."""
    players = game.players()

    def act() -> None:
        play = game.round(lambda: batch, 0)
        update = next(play)
        for k in range(moves):
            update.loss.backward(inputs=[p for group in players[update.player].param_groups for p in group["params"]])  # type: ignore[union-attr]
            players[update.player].step()
            players[update.player].zero_grad(set_to_none=True)
            if k + 1 < moves:
                update = play.send(torch.zeros(()))

    return act


def products(network: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """The products of matrices that a step cannot do without: of forward, and twice of backward, on both sets."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    rows = [torch.randn(len(x) + len(y), layer.in_features) for layer in layers]
    outs = [torch.randn(len(x) + len(y), layer.out_features) for layer in layers]

    @torch.no_grad()
    def act() -> None:
        for k, (layer, a, b) in enumerate(zip(layers, rows, outs, strict=True)):
            a @ layer.weight.T
            b.T @ a
            if k:  # nothing flows back into features
                b @ layer.weight

    return act


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", default="128,1024")
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, {arguments.width} features")
    print("| | batch | ms | vectors or images a second |\n|---|---|---|---|")

    def line(name: str, batch: int, action: Callable[[], object]) -> None:
        seconds = seconds_of(action, arguments.seconds)
        print(f"| {name} | {batch} | {1000 * seconds:.3f} | {batch / seconds:,.0f} |", flush=True)

    for size in map(int, arguments.batch.split(",")):
        game = OpenGAN(Spec((arguments.width,), 10 * size), OpenGANRecipe(batch=size)).train()
        x = torch.randn(size, arguments.width)
        line("discriminator step", size, step(game, Batch(x), 1))
        line("its matrix products", size, products(game.discriminator, x, x))
        line("whole round", size, step(game, Batch(x), 2))
    with torch.no_grad():
        game.eval()
        for size in (1, 1024):
            x = torch.randn(size, arguments.width)
            line("score", size, lambda x=x: game.score(x))  # type: ignore[misc]
        backbones = {"small, 32x32": (small_resnet(3, 6, 32), 32), "resnet18, 64x64": (resnet18(3, 6), 64)}
        for name, (network, side) in backbones.items():
            network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            for size in (1, 64):
                x = torch.randn(size, 3, side, side).to(memory_format=torch.channels_last)
                line(f"forward pass, {name}", size, lambda x=x, network=network: network(x))  # type: ignore[misc]


if __name__ == "__main__":
    main()
