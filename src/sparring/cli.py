"""The command line. Results go to standard output, everything else to standard error.

Nothing here imports PyTorch before a verb needs it, so that help is fast.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from sparring.errors import NonFinite, UserError

Output = Annotated[bool, arg(help="Print one JSON object as the last line of standard output.")]


@dataclass
class Models:
    """List the models: paper, what they do, and what data they need."""

    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring import models

        entries = [models.find(name) for name in models.names()]
        found = {
            entry.name: {
                "about": entry.about, "paper": entry.reference, "needs": list(entry.game.needs),
                "variants": list(entry.variants),
            }
            for entry in entries
        }  # fmt: skip
        if not self.json:
            from sparring.show import show_models

            show_models(found)
        return {"models": found}


@dataclass
class Recipe:
    """Show every hyper-parameter of a model: value, the paper's symbol, its place in the paper."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    variant: str | None = None
    yaml: Annotated[bool, arg(help="Print YAML that `train --config` reads.")] = False
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring import models

        entry = models.find(self.model)
        recipe = entry.variant(self.variant)
        values = recipe.as_dict()
        if self.yaml:
            import yaml

            print(yaml.safe_dump({"recipe": values}, sort_keys=False), end="")
        elif not self.json:
            from sparring.show import show_recipe

            rows = [(f.name, values[f.name], f.metadata["symbol"], f.metadata["place"]) for f in fields(recipe)]
            show_recipe(entry.name, entry.reference, rows)
        return {"model": entry.name, "variant": self.variant or "default", "recipe": values}


@dataclass
class Train:
    """Train a model on data and leave a run behind."""

    model: Annotated[Positional[str | None], arg(metavar="MODEL", help="A name of `sparring models`.")] = None
    data: Annotated[
        Positional[str | None],
        arg(
            metavar="DATA",
            help="A folder of images, a Parquet, .npy, .npz or IDX file, hf://org/name, or mnist, cifar10, digits.",
        ),
    ] = None
    out: Annotated[Path | None, arg(metavar="PATH", help="The run's folder; by default a new one under runs/.")] = None
    variant: Annotated[str | None, arg(metavar="TEXT", help="Variant of the recipe, see `sparring recipe MODEL`.")] = (
        None
    )
    size: Annotated[int | None, arg(metavar="N", help="Side in pixels at which the model sees images.")] = None
    channels: Annotated[Literal[1, 3] | None, arg(metavar="{1,3}", help="1 for grey, 3 for colour.")] = None
    rounds: Annotated[int | None, arg(metavar="N", help="Passes through the paper's Algorithm 1.")] = None
    epochs: Annotated[float | None, arg(metavar="X", help="Passes over the data.")] = None
    batch: Annotated[int | None, arg(metavar="N", help="Examples in a minibatch.")] = None
    seed: Annotated[int | None, arg(metavar="N", help="Of everything random; by default 0.")] = None
    normal: Annotated[
        str | None, arg(metavar="LIST", help="Classes that count as normal for a detector: 0,3 or all.")
    ] = None
    classes: Annotated[str | None, arg(metavar="TEXT", help="Use these classes only: 0,3.")] = None
    split: Annotated[str | None, arg(metavar="TEXT", help="Part of the data to train on.")] = None
    limit: Annotated[int | None, arg(metavar="N", help="Use a random subset of at most so many examples.")] = None
    device: Annotated[Literal["auto", "cpu", "cuda"] | None, arg(metavar="{auto,cpu,cuda}")] = None
    devices: Annotated[int | None, arg(metavar="N", help="Processes that share each minibatch, one a device.")] = None
    precision: Annotated[Literal["32", "bf16"] | None, arg(metavar="{32,bf16}")] = None
    compile: Annotated[bool, arg(help="Compile the networks first: slow to start, then faster.")] = False
    tensorboard: Annotated[bool, arg(help="Write TensorBoard events too.")] = False
    strict: Annotated[bool, arg(help="Stop at an image that cannot be read.")] = False
    checkpoint_seconds: Annotated[
        float | None, arg(metavar="X", help="Time between checkpoints, in seconds; by default 60.")
    ] = None
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
        say(f"The run is in {run.folder}.")
        return {"run": str(run.folder), "rounds": run.facts["rounds"], "journal": json.loads(last)}

    def settings(self) -> dict[str, Any]:
        """What was said on the command line, by the names of a Job."""
        names = (
            "model", "data", "out", "variant", "size", "channels", "seed", "split", "limit", "device", "devices",
            "precision", "checkpoint_seconds",
        )  # fmt: skip
        said = {name: value for name in names if (value := getattr(self, name)) is not None}
        said |= {name: True for name in ("compile", "tensorboard", "strict") if getattr(self, name)}
        lists = {"normal": self.normal, "classes": self.classes}
        return said | {name: listed(text) for name, text in lists.items() if text is not None}


@dataclass
class Sample:
    """Make images with a trained generator."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    n: Annotated[int, arg(metavar="N", help="How many.")] = 64
    out: Annotated[Path | None, arg(metavar="PATH", help="A .png file for a grid, or a folder for single images.")] = (
        None
    )
    seed: int = 0
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.run import load

        if self.n < 1:
            raise UserError(f"--n is the number of images to make and must be 1 or more; got {self.n}.")
        run = load(self.run)
        written = run.write_samples(self.out or run.folder / "samples.png", self.n, self.seed)
        say(f"{self.n} sample(s) are in {written[0] if len(written) == 1 else written[0].parent}.")
        return {"run": str(run.folder), "n": self.n, "seed": self.seed, "files": [str(path) for path in written[:10]]}


@dataclass
class Score:
    """Judge images with a trained detector: score, p-value and verdict of each."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    data: Annotated[Positional[str], arg(metavar="DATA")]
    out: Annotated[
        Path | None, arg(metavar="PATH", help="A .csv or .parquet file; by default scores.csv in the run.")
    ] = None
    maps: Annotated[
        Path | None, arg(metavar="PATH", help="Folder for heat maps: where the model cannot rebuild the image.")
    ] = None
    false_alarms: Annotated[float, arg(metavar="X", help="Share of normal images that may be flagged.")] = 0.05
    split: Annotated[str, arg(metavar="TEXT", help="Part of the data to judge.")] = "test"
    limit: Annotated[int | None, arg(metavar="N", help="Use a random subset of at most so many.")] = None
    strict: bool = False
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.data import splits_of
        from sparring.evaluation import write_maps
        from sparring.run import check_table, load

        run = load(self.run)
        path = self.out or run.folder / "scores.csv"
        check_table(path)
        warning = run.calibration.warning(self.false_alarms)
        if self.maps:
            _ = run.map_scale  # a run that cannot draw maps says so before anything is written
        split = self.split if splits_of(self.data) else None
        verdicts = run.score(self.data, self.false_alarms, split=split, limit=self.limit, strict=self.strict)
        for note in (*verdicts.source.notes, *([warning] if warning else [])):
            say(note)
        verdicts.save(path)
        drawn = write_maps(run, verdicts, self.maps) if self.maps else 0
        flagged, total = int(verdicts.flagged.sum()), len(verdicts.source)
        say(f"{flagged} of {total} are strange at a false-alarm rate of {self.false_alarms:g}; scores are in {path}.")
        skipped = [list(pair) for pair in verdicts.source.skipped]
        return {"run": str(run.folder), "scored": total, "flagged": flagged, "out": str(path), "maps": drawn,
                "skipped": skipped}  # fmt: skip


@dataclass
class Evaluate:
    """Measure a run on data it was not trained on, and write the HTML report."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    data: Annotated[
        Positional[str | None], arg(metavar="DATA", help="By default the test split of the run's own data.")
    ] = None
    report: Annotated[
        Path | None, arg(metavar="PATH", help="Where to write it; by default report.html in the run.")
    ] = None
    split: str = "test"
    normal: Annotated[
        str | None, arg(metavar="LIST", help="Classes that count as normal; by default those of the training.")
    ] = None
    false_alarms: float = 0.05
    baselines: Annotated[bool, arg(help="Measure simple detectors on pixels beside it.")] = False
    limit: Annotated[int | None, arg(metavar="N", help="Use a random subset of at most so many.")] = None
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.evaluation import evaluate
        from sparring.run import load
        from sparring.show import show_evaluation

        found = evaluate(
            load(self.run), self.data, split=self.split, normal=listed(self.normal or ""), report=self.report,
            false_alarms=self.false_alarms, baselines=self.baselines, limit=self.limit,
        )  # fmt: skip
        if not self.json:
            show_evaluation(found)
        return {"run": str(self.run), **found}


@dataclass
class Demo:
    """Do the main job on real digits, in about a minute: learn what a 0 is, flag everything else."""

    out: Path = Path("runs/demo")
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.evaluation import evaluate
        from sparring.show import show_evaluation
        from sparring.training import train

        say("Training ganomaly on 8x8 scans of handwritten zeros; the other digits are never shown to it.")
        run = train(
            "ganomaly", "digits", out=self.out, force=(self.out / "run.yaml").exists(), normal=("0",),
            recipe={"rounds": 300}, progress=not self.json,
        )  # fmt: skip
        found = evaluate(run)
        if not self.json:
            show_evaluation(found)
        say(f"Open {found['report']} in a browser.")
        return {"run": str(run.folder), **found}


def listed(text: str) -> tuple[str, ...]:
    """Split "0,3" into its parts."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def say(sentence: str) -> None:
    """Tell the user something on standard error."""
    print(sentence, file=sys.stderr)


VERBS = {
    "models": Models, "recipe": Recipe, "train": Train, "sample": Sample, "score": Score, "evaluate": Evaluate,
    "demo": Demo,
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Run one verb. Exit status: 0 done, 2 the user's input, 1 anything else."""
    app = tyro.extras.SubcommandApp()
    for name, verb in VERBS.items():
        app.command(name=name)(verb)
    verb = app.cli(
        args=arguments, prog="sparring", description="Adversarial models: make images, and tell what was never seen.",
        config=(tyro.conf.FlagCreatePairsOff,), use_underscores=False,
    )  # fmt: skip
    try:
        found = verb()
    except UserError as error:
        say(f"sparring: {error}")
        raise SystemExit(2) from None
    except NonFinite as error:
        say(f"sparring: {error}")
        raise SystemExit(1) from None
    except KeyboardInterrupt as error:
        say(f"sparring: {str(error) or 'interrupted.'}")
        raise SystemExit(1) from None
    if verb.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
