"""Judge examples, and judge the judge."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from sparring.cli.words import Output, listed, say
from sparring.errors import UserError

if TYPE_CHECKING:
    from sparring.run import Run


@dataclass
class Score:
    """Judge images with a trained detector: score, p-value and verdict of each, and its class if classes are known."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="Folder of a trained run.")]
    data: Annotated[Positional[str], arg(metavar="DATA", help="A folder of images, or other data as for train.")]
    out: Annotated[
        Path | None, arg(metavar="PATH", help="A .csv or .parquet file; by default scores.csv in the run.")
    ] = None
    maps: Annotated[
        Path | None, arg(metavar="PATH", help="Folder for heat maps: where the model cannot rebuild the image.")
    ] = None
    false_alarms: Annotated[float, arg(metavar="X", help="Share of normal images that may be flagged.")] = 0.05
    split: Annotated[
        str | None, arg(metavar="TEXT", help="Part of the data to judge; by default test, where there are splits.")
    ] = None
    limit: Annotated[int | None, arg(metavar="N", help="Use a random subset of at most so many.")] = None
    strict: Annotated[bool, arg(help="Stop at an image that cannot be read.")] = False
    watch: Annotated[bool, arg(help="Go on judging what comes into the folder DATA, until Ctrl-C.")] = False
    every: Annotated[float, arg(metavar="X", help="Seconds between two looks into a watched folder.")] = 2.0
    window: Annotated[int, arg(metavar="N", help="Images of a watched folder that are asked about drift at once.")] = (
        200
    )
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.data import located, or_test
        from sparring.metrics.drift import LEAST, find_drift
        from sparring.presentation import check_maps, write_maps
        from sparring.run import load
        from sparring.verdicts import check_table

        run = load(self.run)
        if self.watch:
            return self.follow(run)
        path = self.out or run.folder / "scores.csv"
        check_table(path)
        warning = run.calibration.warning(self.false_alarms)
        if str(path.resolve()) == located(self.data):
            raise UserError(f"'{path}' holds the data to judge, and would be written over: give another --out.")
        if self.maps:
            check_maps(self.maps, self.data)
            _ = run.map_scale  # a run that cannot draw maps says so before anything is written
        verdicts = run.score(
            self.data, self.false_alarms, split=or_test(self.data, self.split), limit=self.limit, strict=self.strict,
            keep="mapped",
        )  # fmt: skip
        for note in (*verdicts.source.notes, *([warning] if warning else [])):
            say(note)
        verdicts.save(path)
        drawn = write_maps(run, verdicts, self.maps) if self.maps else 0
        flagged, total = int(verdicts.flagged.sum()), len(verdicts.source)
        word = "strange" if verdicts.predicted is None else "unknown"
        say(f"{flagged} of {total} are {word} at a false-alarm rate of {self.false_alarms:g}; scores are in {path}.")
        drift = find_drift(run.calibration, verdicts.score, self.false_alarms) if total >= LEAST else None
        if drift is not None and drift.drifted:
            say(drift.sentence())
        skipped = [list(pair) for pair in verdicts.source.skipped]
        return {"run": str(run.folder), "scored": total, "flagged": flagged, "out": str(path), "maps": drawn,
                "skipped": skipped, "drift": drift and drift.as_dict()}  # fmt: skip

    def follow(self, run: Run) -> dict[str, Any]:
        """Judge each new image of a folder, a line each on standard output, until Ctrl-C."""
        from sparring.inbox import Entry, Inbox, Ledger

        if self.limit is not None or self.strict or self.split is not None:
            raise UserError("--watch judges whatever comes into the folder: leave --limit, --split and --strict out.")
        if self.window < 1 or not self.every > 0:
            raise UserError(f"--window must be 1 or more and --every above 0; got {self.window} and {self.every:g}.")
        ledger = Ledger(self.out or run.folder / "watch.csv", self.window)
        inbox = Inbox(run, Path(self.data), ledger, self.false_alarms, self.maps)
        if warning := run.calibration.warning(self.false_alarms):
            say(warning)
        counts = Counter(normal=0, strange=0, unreadable=0)
        say(f"Watching {self.data}; verdicts go to {ledger.path}. Ctrl-C ends it, and the same command goes on.")
        try:
            while True:
                for event in inbox.look():
                    if isinstance(event, Entry):
                        counts[event.verdict] += 1
                    print(json.dumps(event.as_dict()) if self.json else event.sentence(), flush=True)
                time.sleep(self.every)
        except KeyboardInterrupt:
            say(f"Stopped after {counts.total()} image(s).")
        return {"run": str(run.folder), "out": str(ledger.path), **counts}


@dataclass
class Calibrate:
    """Set the threshold of a trained detector by other good images, such as recent ones."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="Folder of a trained run.")]
    data: Annotated[Positional[str], arg(metavar="DATA", help="Good images that the run never learnt from.")]
    split: Annotated[str | None, arg(metavar="TEXT", help="Part of the data.")] = None
    normal: Annotated[
        str, arg(metavar="LIST", help="Classes that are good, or all; by default those of the training.")
    ] = ""
    limit: Annotated[int | None, arg(metavar="N", help="Use a random subset of at most so many.")] = None
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.calibrating import calibrate_anew
        from sparring.run import load

        count = calibrate_anew(load(self.run), self.data, self.split, listed(self.normal), limit=self.limit)
        say(f"{self.run} is calibrated on {count} image(s); what it was calibrated on before is replaced.")
        return {"run": str(self.run), "calibrated_on": count}


@dataclass
class Evaluate:
    """Measure a run on data it was not trained on, and write the HTML report."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="Folder of a trained run.")]
    data: Annotated[
        Positional[str | None], arg(metavar="DATA", help="By default the test split of the run's own data.")
    ] = None
    partner: Annotated[
        Positional[str | None], arg(metavar="B", help="Images of the second domain, for models that translate.")
    ] = None
    report: Annotated[
        Path | None, arg(metavar="PATH", help="Where to write it; by default report.html in the run.")
    ] = None
    split: Annotated[
        str | None, arg(metavar="TEXT", help="Part of the data to judge by; by default test, where there are splits.")
    ] = None
    normal: Annotated[
        str | None, arg(metavar="LIST", help="Classes that count as normal; by default those of the training.")
    ] = None
    false_alarms: Annotated[float, arg(metavar="X", help="Share of normal examples that may be flagged.")] = 0.05
    baselines: Annotated[bool, arg(help="Measure simple detectors on pixels beside it.")] = False
    samples: Annotated[
        int | None, arg(metavar="N", help="How many a generator makes to be measured; by default 10,000.")
    ] = None
    features: Annotated[
        str, arg(metavar="TEXT", help="Compare made and real images by: default, pixels, or a file with Inception.")
    ] = "default"
    leaky: Annotated[
        bool, arg(help="Compare what is made with the training examples too, as most published distances do.")
    ] = False
    limit: Annotated[int | None, arg(metavar="N", help="Use a random subset of at most so many.")] = None
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.evaluation import evaluate
        from sparring.run import load
        from sparring.show import show_evaluation

        found = evaluate(
            load(self.run), self.data, self.partner, split=self.split, normal=listed(self.normal or ""),
            report=self.report, false_alarms=self.false_alarms, baselines=self.baselines, limit=self.limit,
            samples=self.samples, features=self.features, tell=say, leaky=self.leaky,
        )  # fmt: skip
        if not self.json:
            show_evaluation(found)
        return {"run": str(self.run), **found}
