"""Networks that read texts letter by letter, by convolutions alone or with a recurrent layer behind them."""

from __future__ import annotations

import unicodedata

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+=<>()[]{} "
LONGEST = 201  # letters of a text that are read, as in the authors' code
WINDOWS = ((7, 4, 128),)  # kernel, pooling and maps of each convolution
DEEP = ((5, 3, 128), (5, 3, 192), (5, 3, 256))  # before the recurrence; the authors' have 384, 512 and 256 maps


class CharacterNetwork(nn.Module):
    """Read the letters of texts, (B, L) int64 as `spelt` has them, as vectors (B, width).

    Convolutions over the letters, each with ReLU and pooling; if recurrent, a GRU over what is left of their order;
    and a linear layer of the mean over the text. Without a recurrence there is one convolution, of windows of seven
    letters, so that what two words say is the sum of what each says: pairs of words that training lacks are understood.
    """

    def __init__(self, width: int, recurrent: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = len(ALPHABET)
        for kernel, pool, outputs in DEEP if recurrent else WINDOWS:
            convolution = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
            layers += [convolution, nn.ReLU(), nn.MaxPool1d(pool, pool, ceil_mode=True)]
            inputs = outputs
        self.convolutions = nn.Sequential(*layers)
        self.recurrence = nn.GRU(inputs, inputs, batch_first=True) if recurrent else None
        self.last = nn.Linear(inputs, width)

    def forward(self, letters: Tensor) -> Tensor:
        maps = self.convolutions(F.one_hot(letters, len(ALPHABET) + 1)[..., 1:].float().mT).mT
        if self.recurrence is not None:
            maps = self.recurrence(maps)[0]
        return self.last(maps.mean(1))


def plain(text: str) -> str:
    """A text in small letters and without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))


def known(text: str) -> str:
    """The letters of a text that have a place in the alphabet."""
    return "".join(letter for letter in plain(text) if letter in ALPHABET)


def spelt(text: str, length: int) -> Tensor:
    """The letters of a text by their place in the alphabet, from 1, (length,) int64; 0 for others and at the end."""
    numbers = [ALPHABET.find(letter) + 1 for letter in plain(text)[:length]]
    return torch.tensor(numbers + [0] * (length - len(numbers)))
