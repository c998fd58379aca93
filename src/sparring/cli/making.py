"""Make examples with a trained generator, and look into its opponent."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from sparring.cli.words import Output, say


@dataclass
class Sample:
    """Make images with a trained generator: samples, classes, walks, neighbours of images, arithmetic."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    n: Annotated[int | None, arg(metavar="N", help="How many, by default 64; of each class or image 8.")] = None
    out: Annotated[
        Path | None, arg(metavar="PATH", help="A .png file for a grid, an .npy file, or a folder for single images.")
    ] = None
    seed: Annotated[int, arg(metavar="N", help="Sample k of a seed is always the same one.")] = 0
    label: Annotated[str | None, arg(metavar="CLASS", help="A class by name or number; all: a row of each.")] = None
    text: Annotated[str | None, arg(metavar="TEXT", help="What the images shall show, for models that read.")] = None
    texts: Annotated[Path | None, arg(metavar="FILE", help="Texts, one a line: a row of images each.")] = None
    interpolate: Annotated[
        tuple[str, str] | None, arg(metavar="A B", help="Two texts: rows of images from one to the other.")
    ] = None
    walk: Annotated[bool, arg(help="Go straight from each of 9 samples to the next: a .png and a .gif.")] = False
    like: Annotated[
        str | None, arg(metavar="DATA", help="Images: show each, its reconstruction and its neighbours.")
    ] = None
    arithmetic: Annotated[str | None, arg(metavar="TEXT", help="Such as 'A - B + C', of groups of samples.")] = None
    group: Annotated[
        UseAppendAction[list[str]], arg(metavar="NAME=...", help="A=1,2,3: samples by number; or A=FOLDER of images.")
    ] = field(default_factory=list)
    spread: Annotated[float, arg(metavar="X", help="How far neighbours lie in latent space.")] = 0.25
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.gallery import draw
        from sparring.run import load

        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("run", "json")}
        found, sentence = draw(load(self.run), **given)
        say(sentence)
        return found


@dataclass
class Probe:
    """Classify labelled images by what a discriminator has learnt, beside raw pixels and random weights."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    data: Annotated[
        Positional[str | None], arg(metavar="DATA", help="Labelled images; by default the run's own data.")
    ] = None
    limit: Annotated[int, arg(metavar="N", help="Training examples at most for the linear classifier.")] = 10_000
    split: Annotated[str, arg(metavar="TEXT", help="Part of the data to report on.")] = "test"
    seed: Annotated[int, arg(metavar="N", help="Of the random weights and the choice of examples.")] = 0
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.probe import probe
        from sparring.run import load

        found = probe(load(self.run), self.data, limit=self.limit, split=self.split, seed=self.seed)
        if not self.json:
            from sparring.show import show_probe

            show_probe(found)
        return {"run": str(self.run), **found}


@dataclass
class Filters:
    """Picture what a discriminator's last convolution looks for, beside the same of random weights."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    data: Annotated[Positional[str | None], arg(metavar="DATA", help="Images; by default the run's own data.")] = None
    out: Annotated[Path | None, arg(metavar="PATH", help="A .png file; by default filters.png in the run.")] = None
    split: Annotated[str, arg(metavar="TEXT", help="Part of the data to look through.")] = "train"
    seed: Annotated[int, arg(metavar="N", help="Of the random weights.")] = 0
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring import pictures
        from sparring.filters import IMAGES, filters
        from sparring.run import load

        run = load(self.run)
        out = self.out or run.folder / "filters.png"
        tiles = filters(run, self.data, split=self.split, seed=self.seed)
        pictures.save(pictures.grid(tiles, columns=2 * IMAGES), out)
        say(f"{out} shows images above what excites a filter in them: trained on the left, random on the right.")
        return {"run": str(run.folder), "file": str(out)}
