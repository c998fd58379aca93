"""Scores of examples by a game as it stands."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.protocol import Game, Scores


@torch.no_grad()
def scores_of(game: Game, parts: Iterable[Tensor]) -> NDArray[np.float64]:
    """Score minibatches (B, ...) on the game's device and in its precision, (N,) float64; higher is stranger."""
    assert isinstance(game, Scores)
    like = next(game.parameters())
    return np.concatenate([game.score(x.to(like)).double().numpy(force=True) for x in parts])
