"""The loops that a user would write: plain eager PyTorch, float32, a DataLoader that decodes files by Pillow.

The networks are those of the library, taken out of its games, so that only the loop differs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

Minibatch: TypeAlias = "tuple[Tensor, Tensor]"  # images in [-1, 1] and class numbers
Draw: TypeAlias = Callable[[], Minibatch]
Round: TypeAlias = Callable[[Draw], float]


class Files(Dataset[Minibatch]):
    """Images of a folder, or of one folder a class, decoded each time they are asked for."""

    def __init__(self, folder: Path, side: int, channels: int) -> None:
        self.paths = sorted(folder.rglob("*.png"))
        classes = sorted({path.parent for path in self.paths})
        self.labels = [classes.index(path.parent) for path in self.paths]
        self.side, self.mode = side, "L" if channels == 1 else "RGB"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> tuple[Tensor, int]:  # type: ignore[override]  # the loader makes it a Minibatch
        image = Image.open(self.paths[k]).convert(self.mode).resize((self.side, self.side))
        array = np.asarray(image, dtype=np.float32).reshape(self.side, self.side, -1)
        return torch.from_numpy(array).permute(2, 0, 1) / 127.5 - 1, self.labels[k]


def minibatches(folder: Path, side: int, channels: int, batch: int) -> Iterator[Minibatch]:
    loader = DataLoader(Files(folder, side, channels), batch, shuffle=True, drop_last=True, num_workers=2)
    while True:
        yield from loader


def adam(network: nn.Module, rate: float, betas: tuple[float, float], weight_decay: float = 0.0) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), rate, betas, weight_decay=weight_decay)


def dcgan(game: Any) -> Round:
    """One step of the DCGAN tutorial."""
    g, d = game.generator, game.discriminator
    g_optimizer, d_optimizer = (adam(network, 2e-4, (0.5, 0.999)) for network in (g, d))
    criterion = nn.BCEWithLogitsLoss()

    def step(draw: Draw) -> float:
        x, _ = draw()
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


def cdcgan(game: Any) -> Round:
    """One step of a conditional DCGAN, with fresh latent vectors for the generator as in the recipe."""
    g, d = game.generator, game.discriminator
    g_optimizer, d_optimizer = (adam(network, 2e-4, (0.5, 0.999), 2.5e-5) for network in (g, d))
    criterion = nn.BCEWithLogitsLoss()

    def step(draw: Draw) -> float:
        x, label = draw()
        x = (x + 1) / 2
        ones, zeros = torch.ones(len(x)), torch.zeros(len(x))
        d.zero_grad()
        y = g(torch.rand(len(x), game.recipe.latent) * 2 - 1, label)
        loss = criterion(d(x, label), ones) + criterion(d(y.detach(), label), zeros)
        loss.backward()
        d_optimizer.step()
        g.zero_grad()
        fooled = criterion(d(g(torch.rand(len(x), game.recipe.latent) * 2 - 1, label), label), ones)
        fooled.backward()
        g_optimizer.step()
        return loss.item() + fooled.item()

    return step


def bigan(game: Any) -> Round:
    """One step of BiGAN as its authors take it: one pass, of which both players take their gradients."""
    g, e, d = game.generator, game.encoder, game.discriminator
    both = nn.ModuleList([g, e])
    g_optimizer, d_optimizer = (adam(network, 2e-4, (0.5, 0.999), 2.5e-5) for network in (both, d))
    criterion = nn.BCEWithLogitsLoss()

    def step(draw: Draw) -> float:
        x, _ = draw()
        x = (x.flatten(1) + 1) / 2
        ones, zeros = torch.ones(len(x)), torch.zeros(len(x))
        z = torch.rand(len(x), game.recipe.latent) * 2 - 1
        code, y = torch.tanh(e(x) / 2), g(z)
        real, fake = d(x, code), d(y, z)
        loss = (criterion(real, ones) + criterion(fake, zeros)) / 2
        fooled = (criterion(real, zeros) + criterion(fake, ones)) / 2
        both.zero_grad()
        fooled.backward(retain_graph=True)
        d.zero_grad()
        loss.backward(inputs=list(d.parameters()))
        g_optimizer.step()
        d_optimizer.step()
        return loss.item() + fooled.item()

    return step


def wgan_gp(game: Any) -> Round:
    """One round of WGAN-GP: five steps of the critic, each with a penalty, and one of the generator."""
    g, c, r = game.generator, game.critic, game.recipe
    g_optimizer, c_optimizer = (adam(network, r.rate, (r.beta1, r.beta2)) for network in (g, c))
    shown = (lambda x: (x + 1) / 2) if r.output == "sigmoid" else (lambda x: x)

    def step(draw: Draw) -> float:
        total = 0.0
        for _ in range(r.critic_steps):
            x = shown(draw()[0])
            y = g(torch.randn(len(x), r.latent)).detach()
            epsilon = torch.rand(len(x), 1, 1, 1)
            between = (epsilon * x + (1 - epsilon) * y).requires_grad_()
            value = c(between)
            (slope,) = torch.autograd.grad(value, between, torch.ones_like(value), create_graph=True, retain_graph=True)
            penalty = ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
            c_optimizer.zero_grad()
            loss = c(y).mean() - c(x).mean() + r.penalty * penalty
            loss.backward()
            c_optimizer.step()
            total += loss.item()
        g_optimizer.zero_grad()
        fooled = -c(g(torch.randn(r.batch, r.latent))).mean()
        fooled.backward()
        g_optimizer.step()
        return total + fooled.item()

    return step


def ganomaly(game: Any) -> Round:
    """One step of GANomaly as the authors' trainer takes it."""
    d = game.discriminator
    networks = nn.ModuleList([game.encoder, game.decoder, game.reencoder])
    g_optimizer, d_optimizer = (adam(network, 2e-4, (0.5, 0.999)) for network in (networks, d))
    criterion = nn.BCEWithLogitsLoss()

    def step(draw: Draw) -> float:
        x, _ = draw()
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


def stackgan(game: Any) -> Round:
    """One step of StackGAN as its PyTorch version takes it: of stage II where that has begun, else of stage I."""
    stage = "two" if game.refined else "one"
    g, d = getattr(game, f"generator_{stage}"), getattr(game, f"discriminator_{stage}")
    g_optimizer, d_optimizer = (adam(network, 2e-4, (0.5, 0.999)) for network in (g, d))
    criterion = nn.BCEWithLogitsLoss()
    embeddings = torch.randn(len(game.spec.classes), game.spec.caption)

    def step(draw: Draw) -> float:
        (x, label), (other, _) = draw(), draw()
        caption, ones, zeros = embeddings[label], torch.ones(len(x)), torch.zeros(len(x))
        z, first, second = game.noises(game.latent(len(x)))
        if game.refined:
            y, mu, log_sigma = g(game.generator_one(z, first, caption)[0].detach(), second, caption)
        else:
            x, other = (F.avg_pool2d(images, game.factor) for images in (x, other))
            y, mu, log_sigma = g(z, first, caption)
        d.zero_grad()
        wrong, fake = criterion(d(other, caption), zeros), criterion(d(y.detach(), caption), zeros)
        loss = criterion(d(x, caption), ones) + (wrong + fake) / 2
        loss.backward()
        d_optimizer.step()
        g.zero_grad()
        kl = (-log_sigma + (torch.exp(2 * log_sigma) + mu**2 - 1) / 2).mean()
        fooled = criterion(d(y, caption), ones) + game.recipe.kl * kl
        fooled.backward()
        g_optimizer.step()
        return loss.item() + fooled.item()

    return step


def discogan(game: Any) -> Round:
    """One step of DiscoGAN as the authors take it: all losses on one graph, and one of the two players moves."""
    g_ab, g_ba, d_a, d_b = game.generator_ab, game.generator_ba, game.discriminator_a, game.discriminator_b
    g_optimizer, d_optimizer = (
        adam(nn.ModuleList(networks), 2e-4, (0.5, 0.999), 1e-5) for networks in ((g_ab, g_ba), (d_a, d_b))
    )
    criterion, r = nn.BCEWithLogitsLoss(), game.recipe
    count = itertools.count()

    def of(d: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        (real, wanted), (fake, found) = d(x), d(y)
        ones, zeros = torch.ones(len(x)), torch.zeros(len(x))
        matched = torch.stack([((u.mean(0) - v.mean(0)) ** 2).mean() for u, v in zip(wanted, found, strict=True)]).sum()
        judged = (criterion(real, ones) + criterion(fake, zeros)) / 2
        return judged, (1 - r.matching) * criterion(fake, ones) + r.matching * matched

    def step(draw: Draw) -> float:
        a, b = ((draw()[0] + 1) / 2 for _ in range(2))
        ab, ba = g_ab(a), g_ba(b)
        restored = F.mse_loss(g_ba(ab), a) + F.mse_loss(g_ab(ba), b)
        (judged_a, fooled_a), (judged_b, fooled_b) = of(d_a, a, ba), of(d_b, b, ab)
        share = r.restored_first
        losses = judged_a + judged_b, (1 - share) * (fooled_a + fooled_b) + share * restored
        g_optimizer.zero_grad()
        d_optimizer.zero_grad()
        mine = next(count) % r.interval != 0
        losses[mine].backward()
        (g_optimizer if mine else d_optimizer).step()
        return losses[mine].item()

    return step


ROUNDS: dict[str, Callable[[Any], Round]] = {
    "dcgan": dcgan, "cdcgan": cdcgan, "bigan": bigan, "wgan_gp": wgan_gp, "ganomaly": ganomaly, "stackgan": stackgan,
    "discogan": discogan,
}  # fmt: skip
