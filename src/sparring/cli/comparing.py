"""Let detectors compete, and repeat what papers measured of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from sparring.cli.words import Output, listed, say


@dataclass
class Compare:
    """Train and judge detectors alike, beside simple ones, and rank them."""

    data: Annotated[Positional[str], arg(metavar="DATA", help="Images or features, with classes to judge by.")]
    models: Annotated[
        str,
        arg(metavar="LIST", help="Such as ganomaly,ganomaly:authors_code,mean,pca,knn,lof,forest; by default all."),
    ] = ""
    normal: Annotated[
        str, arg(metavar="LIST", help="Classes that count as normal: 0,3. each: every class in turn; each:0,3: these.")
    ] = ""
    seeds: Annotated[int, arg(metavar="N", help="How often each is trained, with seeds 0, 1, ...")] = 3
    out: Annotated[Path, arg(metavar="PATH", help="Folder; what is done there is not done again.")] = Path(
        "runs/compare"
    )
    split: Annotated[str, arg(metavar="TEXT", help="Part of the data to learn from.")] = "train"
    on: Annotated[str, arg(metavar="TEXT", help="Part of the data to judge on.")] = "test"
    false_alarms: Annotated[float, arg(metavar="X", help="Share of normal examples that may be flagged.")] = 0.05
    size: Annotated[int | None, arg(metavar="N", help="Side in pixels at which all see images.")] = None
    tile: Annotated[
        int | None, arg(metavar="N", help="Cut images into tiles of this side instead; their maximum counts.")
    ] = None
    channels: Annotated[Literal[1, 3] | None, arg(metavar="{1,3}", help="1 for grey, 3 for colour.")] = None
    limit: Annotated[int | None, arg(metavar="N", help="Use a random subset of at most so many examples.")] = None
    rounds: Annotated[int | None, arg(metavar="N", help="Rounds of every model.")] = None
    epochs: Annotated[float | None, arg(metavar="X", help="Passes over the data of every model.")] = None
    batch: Annotated[int | None, arg(metavar="N", help="Examples in a minibatch of every model.")] = None
    set: Annotated[
        UseAppendAction[list[str]],
        arg(metavar="KEY=VALUE", help="A hyper-parameter of all, or of one: MODEL.KEY=VALUE."),
    ] = field(default_factory=list)
    device: Annotated[
        Literal["auto", "cpu", "cuda"], arg(metavar="{auto,cpu,cuda}", help="auto: a GPU if there is one.")
    ] = "auto"
    no_looks: Annotated[bool, arg(help="Leave out AUROC at every epoch of the trainings.")] = False
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.comparison import compare
        from sparring.job import SHORT, assignment

        recipe = dict(assignment(text) for text in self.set)
        recipe |= {name: value for name in SHORT if (value := getattr(self, name)) is not None}
        if self.rounds is None and self.epochs is not None:
            recipe["rounds"] = None  # what is said on the command line outweighs a variant's rounds
        given = {
            name: value for name in ("size", "tile", "channels", "limit") if (value := getattr(self, name)) is not None
        }
        found = compare(
            self.data, listed(self.models), normal=listed(self.normal), seeds=self.seeds, out=self.out,
            split=self.split, on=self.on, false_alarms=self.false_alarms, recipe=recipe, looks=not self.no_looks,
            progress=not self.json, tell=say, device=self.device, **given,
        )  # fmt: skip
        if not self.json:
            from sparring.show import show_comparison

            show_comparison(found)
        return found


@dataclass
class Reproduce:
    """Repeat a paper's experiment on anomalies: its evaluation, a clean one, and what was published."""

    protocol: Annotated[
        Positional[str],
        arg(metavar="PROTOCOL", help="ganomaly-mnist, -cifar10, egbad-mnist, ognet-mnist, -caltech256 or -ped2."),
    ]
    data: Annotated[str | None, arg(metavar="PATH", help="Where the data are, where they have no name.")] = None
    model: Annotated[str | None, arg(metavar="MODEL", help="Another detector, such as ognet:light.")] = None
    cases: Annotated[str, arg(metavar="LIST", help="Classes that take their turn; by default all.")] = ""
    seeds: Annotated[
        int | None, arg(metavar="N", help="How often each case is trained; by default as often as by the authors.")
    ] = None
    out: Annotated[Path | None, arg(metavar="PATH", help="Folder; what is done there is not redone.")] = None
    size: Annotated[int | None, arg(metavar="N", help="Side in pixels at which images are seen.")] = None
    tile: Annotated[int | None, arg(metavar="N", help="Side of the tiles that they are cut into instead.")] = None
    limit: Annotated[int | None, arg(metavar="N", help="Use a random subset of at most so many examples.")] = None
    set: Annotated[UseAppendAction[list[str]], arg(metavar="KEY=VALUE", help="Set a hyper-parameter.")] = field(
        default_factory=list
    )
    device: Annotated[
        Literal["auto", "cpu", "cuda"], arg(metavar="{auto,cpu,cuda}", help="auto: a GPU if there is one.")
    ] = "auto"
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.job import assignment
        from sparring.reproduction import reproduce

        recipe = dict(assignment(text) for text in self.set)
        given = {name: value for name in ("size", "tile", "limit") if (value := getattr(self, name)) is not None}
        found = reproduce(
            self.protocol, self.data, model=self.model, cases=listed(self.cases), seeds=self.seeds, out=self.out,
            recipe=recipe, progress=not self.json, tell=say, device=self.device, **given,
        )  # fmt: skip
        if not self.json:
            from sparring.show import show_reproduction

            show_reproduction(found)
        return found
