"""Make a generator forget: drop the feature maps that light up where a user drew boxes on its samples.

Reference: Radford, Metz, Chintala 2015, arXiv:1511.06434, section 6: a logistic regression on the second-highest
convolutional layer tells positions inside boxes around windows from random ones outside, and every map that it gives a
positive weight is dropped. What is standardised for it, and that there are as many positions outside as inside, is
not the paper's.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from sparring.errors import UserError
from sparring.nets.residual import ResidualBlock
from sparring.probe import ACTIVATIONS, listening
from sparring.run import Run
from sparring.sampling import BATCH, Sampler

SHOWN = 16  # samples in the picture
COLUMNS = 8
FORM = "a .json list, or a .csv file with a header, of sample, x0, y0, x1 and y1"


class Box(BaseModel):
    """A box on a sample, in its pixels: from the left and from the top, x1 and y1 excluded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample: int = Field(ge=0)
    x0: float = Field(ge=0)
    y0: float = Field(ge=0)
    x1: float = Field(gt=0)
    y1: float = Field(gt=0)

    def inside(self, height: int, width: int, side: int) -> NDArray[np.bool_]:
        """Which positions of maps (height, width) lie in it, of an image of this side; at least one does."""
        rows = within(self.y0, self.y1, height, side)
        return np.outer(rows, within(self.x0, self.x1, width, side))


def within(low: float, high: float, count: int, side: int) -> NDArray[np.bool_]:
    """Which of `count` cells along a side have their centre in [low, high); else the one around its middle."""
    centre = (np.arange(count) + 0.5) * side / count
    found = (centre >= low) & (centre < high)
    if not found.any():
        found[int((low + high) / 2 * count / side)] = True
    return found


def read_boxes(path: Path) -> list[Box]:
    """Read boxes from a .json or .csv file.

    Raises:
        UserError: For a file that is missing or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text))) if path.suffix == ".csv" else json.loads(text)
    except FileNotFoundError:
        raise UserError(f"There is no file '{path}': give {FORM}.") from None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"'{path}' is not readable ({' '.join(str(error).split())}): give {FORM}.") from None
    try:
        boxes = TypeAdapter(list[Box]).validate_python(rows)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"Box {first['loc'][0]} of '{path}'" if first["loc"] else f"'{path}'"
        what = ", ".join([*map(str, first["loc"][1:]), first["msg"]])
        raise UserError(f"{where} cannot be used ({what}): give {FORM}.") from None
    if not boxes:
        raise UserError(f"'{path}' holds no boxes: give {FORM}.")
    return boxes


@dataclass(frozen=True)
class Forgotten:
    """What was dropped, and what that did.

    Attributes:
        maps: Feature maps of the layer.
        dropped: The numbers of those that were dropped.
        side: Positions of a map along a side.
        before: The first samples (N, C, H, W) in [-1, 1].
        after: The same without the dropped maps.
    """

    maps: int
    dropped: list[int]
    side: int
    before: Tensor
    after: Tensor

    def rows(self, columns: int) -> Tensor:
        """Rows of samples, each above the same without the dropped maps: for a grid of so many columns."""
        white = torch.ones(-len(self.before) % columns, *self.before.shape[1:])
        before, after = (torch.cat([x, white]).split(columns) for x in (self.before, self.after))
        return torch.cat([row for pair in zip(before, after, strict=True) for row in pair])


def forget(run: Run, boxes: Sequence[Box], *, n: int = SHOWN, seed: int = 0, label: Any = None) -> Forgotten:
    """Drop the feature maps that light up inside boxes, as DCGAN's authors let a generator forget windows.

    Args:
        boxes: What is to be forgotten, on samples of this seed (and class); see `read_boxes`.
        n: Samples to make before and after.
        seed: As of `Run.sample`: sample k of a seed is always the same.
        label: A class by name or number, where the samples were made of one.

    Raises:
        UserError: For boxes outside of the images, a model without convolutional layers, or nothing to tell apart.
    """
    sampler, side = run.sampler(seed), run.spec.shape[-1]
    if not run.spec.is_image:
        raise UserError(f"'{run.folder}' was trained on vectors, and boxes are drawn on images: use a run on images.")
    for box in boxes:
        if not (box.x0 < box.x1 <= side and box.y0 < box.y1 <= side):
            raise UserError(
                f"The box from ({box.x0:g}, {box.y0:g}) to ({box.x1:g}, {box.y1:g}) on sample {box.sample} is empty or "
                f"reaches out of it: samples of '{run.folder}' are {side} pixels wide and high."
            )

    def make(count: int) -> Iterator[Tensor]:
        return sampler.parts(count, label)

    before = torch.cat(list(make(n)))
    layer = second_highest(sampler, make)
    maps = activations(layer, make, sorted({box.sample for box in boxes}))
    dropped = lit(maps, boxes, side, seed)
    with without(layer, dropped):
        after = torch.cat(list(make(n)))
    count, height, _ = next(iter(maps.values())).shape
    return Forgotten(count, dropped, height, before, after)


def second_highest(sampler: Sampler, make: Callable[[int], Iterator[Tensor]]) -> nn.Module:
    """The layer whose maps are the last but one before the image, or the only one.

    The layer that makes the image does not count: the paper drops about 200 maps, and below its image stand 128.

    Raises:
        UserError: For a generator without convolutional layers.
    """
    heard: list[nn.Module] = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if output.ndim == 4:
            heard.append(module)

    generator = getattr(sampler.game, "generator", nn.Identity())
    blocks = [m for m in generator.modules() if isinstance(m, ResidualBlock)]
    inside = {part for block in blocks for part in block.children()}
    layers = [m for m in generator.modules() if isinstance(m, (*ACTIVATIONS, ResidualBlock)) and m not in inside]
    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        next(make(1))
    finally:
        for handle in handles:
            handle.remove()
    if not heard:
        raise UserError(f"The generator of {sampler.name} has no convolutional layers to drop maps of: use dcgan.")
    return heard[-2:][0]


def activations(
    layer: nn.Module, make: Callable[[int], Iterator[Tensor]], samples: Sequence[int]
) -> dict[int, NDArray[np.float32]]:
    """The maps (C, H, W) of the samples of these numbers."""
    latest: list[Tensor] = []
    found: dict[int, NDArray[np.float32]] = {}
    with listening(layer, latest, (type(layer),)):
        for k, _ in enumerate(make(max(samples) + 1)):
            maps = latest.pop()
            found |= {s: maps[s - k * BATCH].numpy(force=True).copy() for s in samples if s // BATCH == k}
    return found


def lit(maps: dict[int, NDArray[np.float32]], boxes: Sequence[Box], side: int, seed: int) -> list[int]:
    """The maps to which a logistic regression gives a positive weight for lying inside the boxes.

    Args:
        maps: (C, H, W) of each sample that has a box, by its number.
        boxes: On images of this side.
        seed: Of the positions outside, as many as there are inside, on the same images.

    Raises:
        UserError: Where the boxes leave nothing outside.
    """
    random = np.random.default_rng(seed)
    inside, outside = [], []
    for number, found in maps.items():
        _, height, width = found.shape
        covered = np.any([box.inside(height, width, side) for box in boxes if box.sample == number], axis=0)
        inside.append(found[:, covered].T)
        outside.append(random.permutation(found[:, ~covered].T)[: covered.sum()])
    x = np.concatenate(inside + outside)
    is_inside = np.arange(len(x)) < sum(map(len, inside))
    if is_inside.all():
        raise UserError("The boxes cover the images that they stand on: leave something outside to compare with.")
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, is_inside)
    return np.flatnonzero(regression[-1].coef_[0] > 0).tolist()


@contextmanager
def without(layer: nn.Module, maps: Sequence[int]) -> Iterator[None]:
    """Set these maps of a layer to 0, at all positions, for the length of the block."""

    def drop(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output.index_fill(1, torch.tensor(maps, dtype=torch.int64, device=output.device), 0.0)

    handle = layer.register_forward_hook(drop)
    try:
        yield
    finally:
        handle.remove()
