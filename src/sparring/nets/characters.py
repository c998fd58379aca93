"""A convolutional-recurrent network that reads texts letter by letter."""

from __future__ import annotations

import unicodedata

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+=<>()[]{} "
LONGEST = 201  # letters of a text that are read, as in the authors' code
WIDTHS = (128, 192, 256)  # maps of the convolutions; the authors' have 384, 512 and 256


class CharacterNetwork(nn.Module):
    """Read the letters of texts, (B, L) int64 as `spelt` has them, as vectors (B, width).

    Three convolutions over the letters, each with ReLU and pooling, a recurrent layer over what is left of their
    order, and a linear layer of its mean.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = len(ALPHABET)
        for outputs in WIDTHS:
            layers += [nn.Conv1d(inputs, outputs, 5, padding=2), nn.ReLU(), nn.MaxPool1d(3, 3, ceil_mode=True)]
            inputs = outputs
        self.convolutions = nn.Sequential(*layers)
        self.recurrence = nn.GRU(inputs, inputs, batch_first=True)
        self.last = nn.Linear(inputs, width)

    def forward(self, letters: Tensor) -> Tensor:
        maps = self.convolutions(F.one_hot(letters, len(ALPHABET) + 1)[..., 1:].float().mT)
        return self.last(self.recurrence(maps.mT)[0].mean(1))


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
