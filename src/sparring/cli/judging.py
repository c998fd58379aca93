"""Judge examples, and judge the judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from sparring.cli.words import Output, listed, say


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
    partner: Annotated[
        Positional[str | None], arg(metavar="B", help="Images of the second domain, for models that translate.")
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
    samples: Annotated[
        int | None, arg(metavar="N", help="How many a generator makes to be measured; by default 10,000.")
    ] = None
    features: Annotated[
        str, arg(metavar="TEXT", help="Compare made and real images by: default, pixels, or a file with Inception.")
    ] = "default"
    limit: Annotated[int | None, arg(metavar="N", help="Use a random subset of at most so many.")] = None
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring.evaluation import evaluate
        from sparring.run import load
        from sparring.show import show_evaluation

        found = evaluate(
            load(self.run), self.data, self.partner, split=self.split, normal=listed(self.normal or ""),
            report=self.report, false_alarms=self.false_alarms, baselines=self.baselines, limit=self.limit,
            samples=self.samples, features=self.features, tell=say,
        )  # fmt: skip
        if not self.json:
            show_evaluation(found)
        return {"run": str(self.run), **found}
