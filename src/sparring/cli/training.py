"""Train, on data of one's own or as a demonstration."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from sparring.cli.words import Output, listed, say
from sparring.errors import UserError


@dataclass
class Train:
    """Train a model on data and leave a run behind."""

    model: Annotated[Positional[str | None], arg(metavar="MODEL", help="A name of `sparring models`.")] = None
    data: Annotated[
        Positional[str | None],
        arg(
            metavar="DATA",
            help="A folder of images, a Parquet, .npy, .npz or IDX file, hf://org/name, or a name: mnist, digits, ...",
        ),
    ] = None
    partner: Annotated[
        Positional[str | None], arg(metavar="B", help="Images of a second domain, for models that translate.")
    ] = None
    domains: Annotated[
        str | None,
        arg(metavar="TEXT", help="Make two domains of DATA: halves, inverted, rotated, coloured, edges, or 0,1:2,3."),
    ] = None
    outliers: Annotated[
        str | None, arg(metavar="DATA", help="Examples of what does not belong, for models that learn from them.")
    ] = None
    known: Annotated[
        str | None, arg(metavar="LIST", help="Classes that a classifier or an open-set model knows: 0,3.")
    ] = None
    backbone: Annotated[
        str | None, arg(metavar="TEXT", help="Learn from its features: a run, an exported file, module:function, timm.")
    ] = None
    layer: Annotated[str | None, arg(metavar="TEXT", help="Layer of the backbone; by default before the last.")] = None
    open_validation: Annotated[
        str | None, arg(metavar="DATA", help="Examples of no known class, by which the best weights are chosen.")
    ] = None
    select: Annotated[
        Literal["synthetic", "classes"] | None,
        arg(
            metavar="{synthetic,classes}", help="What stands in for them: made ones, or known classes left out in turn."
        ),
    ] = None
    text: Annotated[
        str | None,
        arg(
            metavar="TEXT",
            help="Encoder of captions: characters (or characters-recurrent), a trained one by name, or a file.",
        ),
    ] = None
    out: Annotated[Path | None, arg(metavar="PATH", help="The run's folder; by default a new one under runs/.")] = None
    variant: Annotated[str | None, arg(metavar="TEXT", help="Variant of the recipe, see `sparring models`.")] = None
    size: Annotated[int | None, arg(metavar="N", help="Side in pixels at which the model sees images.")] = None
    tile: Annotated[
        int | None, arg(metavar="N", help="Cut large images into tiles of this side instead of reducing them.")
    ] = None
    overlap: Annotated[int | None, arg(metavar="N", help="Pixels that tiles share; by default a quarter.")] = None
    roi: Annotated[str | None, arg(metavar="PATH", help="A mask for all images: only what is white in it counts.")] = (
        None
    )
    channels: Annotated[Literal[1, 3] | None, arg(metavar="{1,3}", help="1 for grey, 3 for colour.")] = None
    rounds: Annotated[int | None, arg(metavar="N", help="Passes through the paper's Algorithm 1.")] = None
    epochs: Annotated[float | None, arg(metavar="X", help="Passes over the data.")] = None
    batch: Annotated[int | None, arg(metavar="N", help="Examples in a minibatch.")] = None
    seed: Annotated[int | None, arg(metavar="N", help="Of everything random; by default 0.")] = None
    normal: Annotated[
        str | None, arg(metavar="LIST", help="Classes that count as normal for a detector: 0,3 or all.")
    ] = None
    classes: Annotated[str | None, arg(metavar="TEXT", help="Use these classes only: 0,3.")] = None
    split: Annotated[str | None, arg(metavar="TEXT", help="Part of the data to train on; by default train.")] = None
    limit: Annotated[int | None, arg(metavar="N", help="Use a random subset of at most so many examples.")] = None
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        arg(metavar="{auto,cpu,cuda}", help="By default auto: a GPU if there is one."),
    ] = None
    devices: Annotated[
        int | None, arg(metavar="N", help="Processes that share each minibatch, one a device; by default 1.")
    ] = None
    precision: Annotated[
        Literal["32", "bf16"] | None, arg(metavar="{32,bf16}", help="Of the arithmetic, in bits; by default 32.")
    ] = None
    compile: Annotated[bool, arg(help="Compile the networks first: slow to start, then faster.")] = False
    tensorboard: Annotated[bool, arg(help="Write TensorBoard events too.")] = False
    strict: Annotated[bool, arg(help="Stop at an image that cannot be read.")] = False
    checkpoint_seconds: Annotated[
        float | None, arg(metavar="X", help="Time between checkpoints, in seconds; by default 60.")
    ] = None
    judge_every: Annotated[
        int | None, arg(metavar="N", help="Measure a generator every N rounds, on a fifth of the data, held out.")
    ] = None
    keep_best: Annotated[bool, arg(help="End with the weights that were best by --judge-every.")] = False
    set: Annotated[UseAppendAction[list[str]], arg(metavar="KEY=VALUE", help="Set a hyper-parameter.")] = field(
        default_factory=list
    )
    config: Annotated[Path | None, arg(metavar="PATH", help="YAML file with any of these settings, and `recipe:`.")] = (
        None
    )
    resume: Annotated[bool, arg(help="Go on with the run in --out.")] = False
    force: Annotated[bool, arg(help="Replace the run in --out.")] = False
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.job import SHORT, assignment, configured

        settings, recipe = configured(self.config) if self.config else ({}, {})
        recipe |= dict(assignment(text) for text in self.set)
        recipe |= {name: value for name in SHORT if (value := getattr(self, name)) is not None}
        if self.rounds is None and self.epochs is not None:
            recipe["rounds"] = None  # what is said on the command line outweighs a variant's rounds
        settings |= self.settings()
        out = settings.pop("out", None)
        if self.resume and (recipe or set(settings) - {"model", "data"}):
            raise UserError("--resume goes on with the settings in run.yaml: leave the others out, or start a new run.")

        from sparring.training import train

        model, data = settings.pop("model", None), settings.pop("data", None)
        run = train(
            model,
            data,
            out=out,
            recipe=recipe,
            resume=self.resume,
            force=self.force,
            progress=not self.json,
            **settings,
        )
        last = (run.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()[-1]
        for note in (*run.facts["notes"], *([f"Selected by {how}."] if (how := run.facts.get("selected_by")) else [])):
            say(note)
        say(f"The run is in {run.folder}.")
        return {"run": str(run.folder), "rounds": run.facts["rounds"], "journal": json.loads(last)}

    def settings(self) -> dict[str, Any]:
        """What was said on the command line, by the names of a Job."""
        names = (
            "model", "data", "partner", "domains", "outliers", "text", "out", "variant", "size", "channels", "seed",
            "split", "limit", "device", "devices", "precision", "checkpoint_seconds", "judge_every", "tile", "overlap",
            "roi", "backbone", "layer", "open_validation", "select",
        )  # fmt: skip
        said = {name: value for name in names if (value := getattr(self, name)) is not None}
        said |= {name: True for name in ("compile", "tensorboard", "strict", "keep_best") if getattr(self, name)}
        lists = {"normal": self.normal, "classes": self.classes, "known": self.known}
        return said | {name: listed(text) for name, text in lists.items() if text is not None}


@dataclass
class Demo:
    """Do the main job on real digits, in about a minute: learn what a 0 is, flag everything else."""

    out: Path = Path("runs/demo")
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.contest import check_same
        from sparring.evaluation import evaluate
        from sparring.preparation import ask
        from sparring.show import show_evaluation
        from sparring.training import train

        asked: dict[str, Any] = {"normal": ("0",), "recipe": {"rounds": 300}}
        check_same(self.out, ask("ganomaly", "digits", **asked))
        say("Training ganomaly on 8x8 scans of handwritten zeros; the other digits are never shown to it.")
        run = train(
            "ganomaly", "digits", out=self.out, force=(self.out / "run.yaml").exists(), progress=not self.json,
            **asked,
        )  # fmt: skip
        found = evaluate(run)
        if not self.json:
            show_evaluation(found)
        say(f"Open {found['report']} in a browser.")
        return {"run": str(run.folder), **found}
