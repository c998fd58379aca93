"""The networks of DCGAN's ImageNet-32 model: two 3x3 convolutions at every scale, one of which changes the side."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from sparring.nets.dcgan import down, sides, up, widths


class PairedGenerator(nn.Sequential):
    """Make images (B, C, S, S) in [-1, 1] of latent vectors (B, latent, 1, 1).

    Args:
        shape: (C, S, S); S is a power of two.
        latent: Width of the latent vector.
        width: Feature maps at the largest scale; they double with every halving of the side, up to 8 times.
    """

    def __init__(self, shape: tuple[int, ...], latent: int, width: int) -> None:
        maps = [*widths(len(sides(shape[-1])) - 1, width), shape[0]]
        units = maps[0] * 16
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(latent, units, bias=False), nn.BatchNorm1d(units)]
        layers += [nn.ReLU(inplace=True), nn.Unflatten(1, (maps[0], 4, 4))]
        for a, b in itertools.pairwise(maps):
            layers += [*up(a, a, 3), nn.ConvTranspose2d(a, b, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-2], nn.Tanh())


class PairedDiscriminator(nn.Module):
    """Say real or made: images (B, C, S, S) to logits (B,).

    Args:
        shape: (C, S, S); S is a power of two.
        width: Feature maps at the largest scale; they double with every halving of the side, up to 8 times.
    """

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        maps = [shape[0], *widths(len(sides(shape[-1])) - 1, width)[::-1]]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(maps):
            norm = [nn.BatchNorm2d(b)] if layers else []  # none where it sees the image
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), *norm, nn.LeakyReLU(0.2, inplace=True)]
            layers += down(b, b, 3)
        self.features = nn.Sequential(*layers)
        self.verdict = nn.Sequential(nn.Flatten(), nn.Linear(maps[-1] * 16, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.verdict(self.features(x)).flatten()
