"""Minibatches without end: shuffled, seeded, one shard per process, resumable at any position."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from sparring.data.captions import Told
from sparring.data.source import Source
from sparring.errors import UserError
from sparring.protocol import Batch

WORDS = 0xCA9  # marks the randomness that captions are drawn by


class Stream:
    """Draw minibatches of one process.

    Each epoch is a fresh permutation, of which the incomplete last batch is dropped. Process r takes the
    r-th slice of each global batch. What is drawn follows from (seed, rank, world, position) alone. When
    there are fewer examples than one batch, permutations follow each other until the batch is full.

    Args:
        source: What to draw from.
        batch: Examples in a minibatch of all processes together.
        seed: Of the permutations; the same for all processes.
        rank: Number of this process, among `world`.
        device: Where minibatches go.
        beside: Further sources by the field of the minibatch that they fill, such as "partner"; each is shuffled on
            its own, and may be of another length.
        told: Embeddings of the captions of `source`, of which one is drawn for each example.
        mismatched: Whether images that these captions do not describe are drawn too.

    Attributes:
        position: Minibatches drawn so far; set it to resume.
        waited: Seconds spent on drawing so far.

    Raises:
        UserError: When the batch cannot be shared out among the processes.
    """

    def __init__(
        self,
        source: Source,
        batch: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        device: str | torch.device = "cpu",
        beside: Mapping[str, Source] | None = None,
        told: Told | None = None,
        mismatched: bool = False,
    ) -> None:
        if batch < 1 or batch % world:
            raise UserError(
                f"A batch of {batch} cannot be shared out among {world} processes: use a multiple of {world}."
            )
        self.source = source
        self.batch = batch
        self.seed = seed
        self.rank = rank
        self.world = world
        self.device = torch.device(device)
        self.position = 0
        self.waited = 0.0
        self.told, self.mismatched = told, mismatched
        self.beside = {
            name: Stream(other, batch, seed=seed ^ zlib.crc32(name.encode()), rank=rank, world=world, device=device)
            for name, other in (beside or {}).items()
        }
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def __call__(self) -> Batch:
        """Draw the next minibatch of this process."""
        start = time.perf_counter()
        indices = self.indices(self.position)
        label = None
        if self.source.labels is not None:
            label = moved(torch.from_numpy(self.source.labels[indices]), self.device)
        others = {name: stream.seen(stream.indices(self.position)) for name, stream in self.beside.items()}
        batch = Batch(x=self.seen(indices), label=label, **others, **self.words(indices))
        self.position += 1
        self.waited += time.perf_counter() - start
        return batch

    def seen(self, indices: np.ndarray) -> Tensor:
        """Examples as a model sees them, on the device."""
        return to_tensor(self.source.read(indices), self.device)

    def words(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Captions of the examples that this process draws now, and images that these do not describe."""
        if self.told is None:
            return {}
        random = np.random.default_rng([self.seed % 2**63, self.position, self.rank, WORDS])
        drawn = {"caption": moved(torch.from_numpy(self.told.caption(indices, random)), self.device)}
        if self.mismatched:
            others = self.told.mismatch(indices, random)
            drawn["mismatch"] = self.seen(others)
        return drawn

    def indices(self, position: int) -> np.ndarray:
        """Numbers of the examples that this process draws at a position."""
        epoch, within = divmod(position, max(1, len(self.source) // self.batch))
        own = self.batch // self.world
        start = within * self.batch + self.rank * own
        return self.order(epoch)[start : start + own]

    def order(self, epoch: int) -> np.ndarray:
        """The permutation of an epoch, or several of them where one does not fill a batch."""
        if self._order[0] != epoch:
            random = np.random.default_rng([self.seed % 2**63, epoch])
            count = len(self.source)
            repeats = -(-self.batch // count) if count < self.batch else 1
            self._order = (epoch, np.concatenate([random.permutation(count) for _ in range(repeats)]))
        return self._order[1]


def to_tensor(rows: np.ndarray, device: str | torch.device = "cpu") -> Tensor:
    """Turn stored rows into what a model sees.

    Images (B, H, W, C) uint8 become (B, C, H, W) float32 in [-1, 1], channels last in memory, as they were
    stored; features (B, D) become float32. Images travel to the device as bytes.
    """
    device = torch.device(device)
    if rows.dtype != np.uint8:
        return moved(torch.from_numpy(rows), device).float()
    if device.type != "cpu":
        return moved(torch.from_numpy(rows), device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
    x = np.divide(rows, np.float32(127.5), dtype=np.float32)  # numpy, as torch would wake its threads for so little
    x -= 1
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def moved(x: Tensor, device: torch.device) -> Tensor:
    """Move to the device; to a GPU without waiting for it."""
    if device.type == "cuda":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def batches(source: Source, size: int) -> Iterator[Tensor]:
    """All examples in order, as models see them, `size` at a time."""
    for start in range(0, len(source), size):
        yield to_tensor(source.read(slice(start, start + size)))
