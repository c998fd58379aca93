"""The memory that StackGAN takes to train: the published networks at 256 pixels, batch 8, both stages.

    python benchmarks/memory.py [--size 256] [--batch 8] [--rounds 2] [--caption 1024] [--precision 32-true]

Plays some rounds of each stage on noise with captions of noise, and prints the peak of the process after each.
"""

from __future__ import annotations

import argparse
import resource

import torch
from lightning_fabric import Fabric

from sparring.engine import Engine
from sparring.models.stackgan import StackGAN, StackGANRecipe
from sparring.protocol import Batch, Spec


class Noise:
    """Minibatches of noise."""

    position, waited = 0, 0.0

    def __init__(self, spec: Spec, batch: int) -> None:
        self.spec, self.batch = spec, batch

    def __call__(self) -> Batch:
        self.position += 1
        x, other = (
            (torch.rand(self.batch, *self.spec.shape) * 2 - 1).to(memory_format=torch.channels_last) for _ in range(2)
        )
        return Batch(x, caption=torch.randn(self.batch, self.spec.caption), mismatch=other)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--caption", type=int, default=1024)
    parser.add_argument("--precision", default="32-true")
    arguments = parser.parse_args()
    spec = Spec((3, arguments.size, arguments.size), arguments.batch, caption=arguments.caption)
    game = StackGAN(spec, StackGANRecipe(batch=arguments.batch, rounds=arguments.rounds))
    game.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fabric = Fabric(accelerator="cpu", devices=1, precision=arguments.precision)
    engine = Engine(game, Noise(spec, arguments.batch), fabric)
    phases = list(engine.phases)
    for count, phase in enumerate(phases, 1):
        engine.phases = phases[:count]
        engine.play()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"stage {phase.name}: {peak:.2f} GiB at most so far, {arguments.rounds} rounds of batch {arguments.batch}"
        )


if __name__ == "__main__":
    main()
