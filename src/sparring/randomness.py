"""Randomness that follows from numbers alone, and leaves the state outside as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def number_of(*entropy: int) -> int:
    """A seed, below 2^63, that follows from these numbers, and is unlike those of numbers near to them."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def seeded(number: int = 0) -> Iterator[None]:
    """Draw in this block, on the processor, what follows from this seed.

    No device is touched: `torch.random.fork_rng()` and `torch.manual_seed` would open every GPU there is.
    """
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(number)
        yield
