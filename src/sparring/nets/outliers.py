"""Open examples made of closed-set ones, for want of real ones."""

from __future__ import annotations

import torch
from torch import Tensor

NEAR, FAR = 0.3, 0.7  # how far along the line to the other example a mixture lies
DRAWS = 10  # of another example, until it is of another class


def synthetic(x: Tensor, label: Tensor | None) -> dict[str, Tensor]:
    """Make three kinds of open examples of closed ones (N, ...), as many of each, by torch's random state.

    Args:
        x: Images in [-1, 1] or vectors.
        label: Their classes (N,); None where they are not known.

    Returns:
        "mixed": halfway (0.3 to 0.7) between two examples, of different classes where labels are known;
        "shuffled": every number taken from an example of its own, which breaks what they have to do with each other;
        "noisy": with Gaussian noise of the deviation of each number.
    """
    count, flat = len(x), x.flatten(1)
    other = torch.randperm(count, device=x.device)
    if label is not None:
        for _ in range(DRAWS):  # those that are still of the same class stay as they are
            again = torch.randint(count, (count,), device=x.device)
            other = torch.where(label[other] == label, again, other)
    share = flat.new_empty(count, 1).uniform_(NEAR, FAR)
    rows = torch.rand_like(flat).argsort(0)
    noisy = x + torch.randn_like(x) * x.std(0, correction=0)
    return {
        "mixed": flat.lerp(flat[other], share).view_as(x),
        "shuffled": flat.gather(0, rows).view_as(x),
        "noisy": noisy.clamp(-1, 1) if x.ndim == 4 else noisy,
    }
