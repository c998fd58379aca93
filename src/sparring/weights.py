"""The weights of a run: written whole, read back into its game."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from sparring import models
from sparring.engine import checkpoint
from sparring.errors import UserError
from sparring.files import write_bytes
from sparring.job import Job
from sparring.protocol import Game, Scores, Spec
from sparring.randomness import seeded

WEIGHTS, CHECKPOINT = "model.safetensors", "checkpoint"


def spec_of(facts: dict[str, Any]) -> Spec:
    """What the data dictated, by the facts in a run.yaml."""
    spec = facts["spec"]
    return Spec(tuple(spec["shape"]), spec["count"], tuple(spec["classes"]), spec.get("caption", 0))


def unfinished(folder: Path) -> bool:
    """Whether a training has stopped before its end, and has left a checkpoint."""
    return not (folder / WEIGHTS).exists() and (folder / CHECKPOINT).exists()


def load_game(folder: Path, job: Job, spec: Spec) -> Game:
    """The trained networks in a run's folder, in eval mode; a generator's last checkpoint if its training has stopped.

    Raises:
        UserError: For weights that are missing, damaged or of another model.
    """
    entry = models.find(job.model)
    with seeded():  # its first weights are drawn, and thrown away
        game = entry.game(spec, entry.recipe.read(job.recipe))
    if unfinished(folder) and not isinstance(game, Scores):
        kept = checkpoint.load(folder / CHECKPOINT)
        fit_in(game, kept["game"] | kept["average"], folder / CHECKPOINT)
    else:
        load_weights(game, folder / WEIGHTS)
    return game.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def save_weights(game: Game, path: Path) -> None:
    """Write the weights as safetensors, whole or not at all."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in game.state_dict().items()}
    write_bytes(path, safetensors_bytes(tensors, {"model": type(game).__name__}))


def load_weights(game: Game, path: Path) -> None:
    """Read weights into a game.

    Raises:
        UserError: For a file that is missing, damaged or of another model.
    """
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise UserError(f"'{path}' is not there: the training has not ended, go on with --resume.") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"'{path}' is damaged or cut short ({error}): restore it, or train again.") from error
    fit_in(game, tensors, path)


def fit_in(game: Game, tensors: dict[str, Tensor], path: Path) -> None:
    """Put weights that were read from a file into a game."""
    try:
        game.load_state_dict(tensors)
    except RuntimeError:
        raise UserError(
            f"'{path}' holds the weights of another model than {type(game).__name__} with this recipe: "
            "restore the file that belongs to this run."
        ) from None
