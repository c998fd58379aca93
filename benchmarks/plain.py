"""The loops that a user would write: plain eager PyTorch, float32, a DataLoader that decodes files by Pillow.

The networks are those of the library, taken out of its games, so that only the loop differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sparring.protocol import Game


class Files(Dataset[Tensor]):
    """Images of a folder, decoded each time they are asked for."""

    def __init__(self, folder: Path, side: int, channels: int) -> None:
        self.paths = sorted(folder.glob("*.png"))
        self.side, self.mode = side, "L" if channels == 1 else "RGB"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> Tensor:
        image = Image.open(self.paths[k]).convert(self.mode).resize((self.side, self.side))
        array = np.asarray(image, dtype=np.float32).reshape(self.side, self.side, -1)
        return torch.from_numpy(array).permute(2, 0, 1) / 127.5 - 1


def minibatches(folder: Path, side: int, channels: int, batch: int) -> Iterator[Tensor]:
    loader = DataLoader(Files(folder, side, channels), batch, shuffle=True, drop_last=True, num_workers=2)
    while True:
        yield from loader


def dcgan_step(game: Any) -> Callable[[Tensor], float]:
    """One step of the DCGAN tutorial."""
    g, d = game.generator, game.discriminator
    g_optimizer = torch.optim.Adam(g.parameters(), lr=2e-4, betas=(0.5, 0.999))
    d_optimizer = torch.optim.Adam(d.parameters(), lr=2e-4, betas=(0.5, 0.999))
    criterion = nn.BCEWithLogitsLoss()

    def step(x: Tensor) -> float:
        ones, zeros = torch.ones(len(x)), torch.zeros(len(x))
        d.zero_grad()
        real = criterion(d(x), ones)
        real.backward()
        y = g(torch.randn(len(x), game.recipe.latent, 1, 1))
        fake = criterion(d(y.detach()), zeros)
        fake.backward()
        d_optimizer.step()
        g.zero_grad()
        fooled = criterion(d(y), ones)
        fooled.backward()
        g_optimizer.step()
        return real.item() + fake.item() + fooled.item()

    return step


def ganomaly_step(game: Any) -> Callable[[Tensor], float]:
    """One step of GANomaly as the authors' trainer takes it."""
    d = game.discriminator
    networks = [game.encoder, game.decoder, game.reencoder]
    g_optimizer = torch.optim.Adam([p for n in networks for p in n.parameters()], lr=2e-4, betas=(0.5, 0.999))
    d_optimizer = torch.optim.Adam(d.parameters(), lr=2e-4, betas=(0.5, 0.999))
    criterion = nn.BCEWithLogitsLoss()

    def step(x: Tensor) -> float:
        z = game.encoder(x)
        y = game.decoder(z)
        z_again = game.reencoder(y)
        real, fake = d(x).flatten(), d(y.detach()).flatten()
        g_optimizer.zero_grad()
        adversarial = F.mse_loss(d.features(y), d.features(x))
        loss = adversarial + 50 * F.l1_loss(y, x) + F.mse_loss(z_again, z)
        loss.backward()
        g_optimizer.step()
        d_optimizer.zero_grad()
        judged = (criterion(real, torch.ones(len(x))) + criterion(fake, torch.zeros(len(x)))) / 2
        judged.backward()
        d_optimizer.step()
        if judged.item() < 1e-5:
            raise ArithmeticError("the discriminator would be reset here, which no timing expects")
        return loss.item()

    return step


STEPS: dict[str, Callable[[Game], Callable[[Tensor], float]]] = {"dcgan": dcgan_step, "ganomaly": ganomaly_step}
