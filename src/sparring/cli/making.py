"""Make examples with a trained generator, and look into its opponent."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from sparring.cli.words import Output, say


@dataclass
class Sample:
    """Make images with a trained generator: samples, classes, walks, neighbours of images, arithmetic."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="Folder of a trained run.")]
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
    stage: Annotated[
        Literal[1, 2] | None,
        arg(metavar="{1,2}", help="Of a model with stages: whose images; by default the last."),
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
        run = load(self.run)
        found, sentence = draw(run, **given)
        say(sentence, run.unfinished)
        return found


@dataclass
class Translate:
    """Translate images with a trained model: each to a file of its name."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="Folder of a trained run.")]
    data: Annotated[Positional[str], arg(metavar="DATA", help="A folder of images, or other data as for train.")]
    to: Annotated[Literal["a", "b"], arg(metavar="{a,b}", help="The domain to go to; DATA is of the other.")] = "b"
    out: Annotated[
        Path | None, arg(metavar="PATH", help="A folder, or an .npy file for vectors; by default in the run.")
    ] = None
    split: Annotated[
        str | None, arg(metavar="TEXT", help="Part of the data to translate; by default test, where there are splits.")
    ] = None
    limit: Annotated[int | None, arg(metavar="N", help="Use a random subset of at most so many.")] = None
    strict: Annotated[bool, arg(help="Stop at an image that cannot be read.")] = False
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.run import load
        from sparring.translation import write_translations

        run = load(self.run)
        name = f"translated-to-{self.to}"
        out = self.out or run.folder / (name if run.spec.is_image else f"{name}.npy")
        found = write_translations(
            run, self.data, out, self.to, split=self.split, limit=self.limit, strict=self.strict
        )  # fmt: skip
        for note in found["notes"]:
            say(note)
        left = f", {len(found['skipped'])} could not be read" if found["skipped"] else ""
        sentence = f"{found['translated']:,} are translated to domain {self.to.upper()}{left}; they are in {out}."
        say(sentence, run.unfinished)
        return {"run": str(run.folder), "out": str(out), **found}


@dataclass
class Probe:
    """Classify labelled images by what a network has learnt, beside raw pixels and random weights."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="Folder of a trained run.")]
    data: Annotated[
        Positional[str | None], arg(metavar="DATA", help="Labelled images; by default the run's own data.")
    ] = None
    player: Annotated[
        Literal["discriminator", "encoder"],
        arg(help="Its convolutions under a linear SVM, or its codes by the nearest neighbour."),
    ] = "discriminator"
    limit: Annotated[int, arg(metavar="N", help="Training examples at most for the classifier.")] = 10_000
    split: Annotated[
        str | None, arg(metavar="TEXT", help="Part to report on; by default test, or a fifth of data without splits.")
    ] = None
    seed: Annotated[int, arg(metavar="N", help="Of the random weights and the choice of examples.")] = 0
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.probe import probe
        from sparring.run import load

        run = load(self.run)
        found = probe(run, self.data, player=self.player, limit=self.limit, split=self.split, seed=self.seed)
        say(run.unfinished)
        if not self.json:
            from sparring.show import show_probe

            show_probe(found)
        return {"run": str(self.run), **found}


@dataclass
class Filters:
    """Picture what a discriminator's last convolution looks for, beside the same of random weights."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="Folder of a trained run.")]
    data: Annotated[Positional[str | None], arg(metavar="DATA", help="Images; by default the run's own data.")] = None
    out: Annotated[Path | None, arg(metavar="PATH", help="A .png file; by default filters.png in the run.")] = None
    split: Annotated[str, arg(metavar="TEXT", help="Part of the data to look through.")] = "train"
    seed: Annotated[int, arg(metavar="N", help="Of the random weights.")] = 0
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring import pictures
        from sparring.filters import IMAGES, filters
        from sparring.gallery import need_png
        from sparring.run import load

        run = load(self.run)
        out = self.out or run.folder / "filters.png"
        need_png(run, out, "filters")
        tiles = filters(run, self.data, split=self.split, seed=self.seed)
        pictures.save(pictures.grid(tiles, columns=2 * IMAGES), out)
        sentence = f"{out} shows images above what excites a filter in them: trained on the left, random on the right."
        say(sentence, run.unfinished)
        return {"run": str(run.folder), "file": str(out)}


@dataclass
class Forget:
    """Let a generator forget what boxes drawn on its samples show: drop the feature maps that light up in them."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="Folder of a trained run.")]
    boxes: Annotated[
        Positional[Path],
        arg(metavar="BOXES", help="A .json or .csv list of sample, x0, y0, x1, y1, in pixels of single samples."),
    ]
    n: Annotated[int, arg(metavar="N", help="How many samples to show before and after.")] = 16
    out: Annotated[Path | None, arg(metavar="PATH", help="A .png file; by default forgotten.png in the run.")] = None
    seed: Annotated[int, arg(metavar="N", help="Of the samples that the boxes are drawn on.")] = 0
    label: Annotated[str | None, arg(metavar="CLASS", help="The class that these samples were made of.")] = None
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring import pictures
        from sparring.forgetting import COLUMNS, forget, read_boxes
        from sparring.gallery import need_png
        from sparring.run import load

        run = load(self.run)
        out = self.out or run.folder / "forgotten.png"
        need_png(run, out, "forget")
        found = forget(run, read_boxes(self.boxes), n=self.n, seed=self.seed, label=self.label)
        columns = min(COLUMNS, self.n)
        pictures.save(pictures.grid(found.rows(columns), columns=columns), out)
        say(
            f"{len(found.dropped)} of {found.maps} feature maps of {found.side}x{found.side} light up inside the boxes "
            f"and were dropped: {out} shows rows of samples, each above the same without these maps."
        )
        say(run.unfinished)
        return {"run": str(run.folder), "file": str(out), "maps": found.maps, "dropped": found.dropped}
