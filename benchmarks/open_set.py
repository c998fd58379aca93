"""OpenGAN's protocols, with the published rows beside ours.

    python benchmarks/open_set.py one mnist --out runs/one [--splits 0,1,2,3,4] [--set epochs=100] [--leaky]
    python benchmarks/open_set.py two mnist --outliers cifar10@train[:3000],emoji --tests cifar10,emoji,magnetic_tile

Setup I: some classes are known and the others unknown (six and four, or 20 and 180 of TinyImageNet); a classifier of
the known ones is trained, then OpenGAN on its features, with its weights chosen in each of several ways; the test split
is only reported on. Setup II: all classes of one data set are known, outliers of a second are learnt from, and test
sets of others are unknown. Deviations are over the choice of outliers: two sets or parts of sets at least. A fifth of
the outliers is not learnt from and chooses the weights, unless `--validation` names other open examples. A set that
outliers come from is not tested against them.

What is done is skipped, so that the command can be stopped and started. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from measured import trained
from sparring import Run, UserError, evaluate
from sparring.closed_set import Head, logits_of
from sparring.data import Source, open_source, splits_of, to_tensor, with_split
from sparring.engine.journal import read_journal
from sparring.job import assignment
from sparring.metrics.conformal import Calibration
from sparring.metrics.novelty import NOVELTY
from sparring.metrics.recognition import UNKNOWN, recognition
from sparring.preparation import set_up
from sparring.recognising import Home, by_odin, numbered
from sparring.run import HEAD
from sparring.selection import without

# Classes that are unknown in each split: those of the authors' code for CIFAR-10. Theirs for other data sets are not
# known here: the same numbers are taken, and 20 known classes of TinyImageNet are drawn.
SPLITS = ((3, 6, 7, 8), (1, 2, 4, 6), (2, 3, 4, 9), (0, 1, 2, 6), (4, 5, 6, 9))
KNOWN = 20  # of more classes than ten
OPEN, MADE = {"open_validation": True}, {"select": "synthetic"}
WAYS: dict[str, dict[str, Any]] = {  # in which weights are chosen, and variants: settings of the training
    "real open examples": OPEN,
    "mixtures, shuffles, noise": MADE,
    "known classes in turn": {"select": "classes"},
    "mean of ten late epochs": {"recipe": {"late": 10}},
    "the last epoch": {"recipe": {"late": 1}},
    "no norm, real open examples": {**OPEN, "recipe": {"norm": "none"}},
    "spectral norm, real open examples": {**OPEN, "variant": "spectral"},
    "made outliers too; mixtures, shuffles, noise": {**MADE, "variant": "synthetic"},
    "the default in Python: made outliers too, ten late epochs": {
        "variant": "synthetic",
        "recipe": {"late": 10},
    },
}
AUTHORS = {**OPEN, "variant": "authors_code"}
MEASURES = ("auroc", "average_precision", "unknown_accepted_at_95", "oscr", "closed_accuracy", "f1")
ASKED = 0.05  # share of known examples that may be called unknown
PUBLISHED = {  # AUROC by the authors' slides; mean of five splits
    "mnist": {"MSP": 0.977, "OpenMax": 0.981, "nearest neighbour on features": 0.981, "OpenGAN-0-fea": 0.999},
    "svhn": {"MSP": 0.886, "OpenMax": 0.894, "nearest neighbour on features": 0.888, "OpenGAN-0-fea": 0.988},
    "cifar10": {"MSP": 0.757, "OpenMax": 0.811, "nearest neighbour on features": 0.801, "OpenGAN-0-fea": 0.973},
    "tiny_imagenet": {"MSP": 0.577, "OpenMax": 0.576, "nearest neighbour on features": 0.692, "OpenGAN-0-fea": 0.907},
}
SECOND = {  # setup II, closed TinyImageNet, by the authors' slides: mean over four test sets, and largest deviation
    "closed/open classifier": (0.918, 0.113), "OpenGAN-fea": (0.984, 0.014),
}  # fmt: skip


def remembered(run: Run, baselines: bool) -> dict[str, Any]:
    """The evaluation on the test split, made once."""
    path = run.folder / "evaluation.json"
    if not path.exists():
        found = evaluate(run, baselines=baselines)["recognition"]
        path.write_text(json.dumps(found), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def unknown_classes(count: int, number: int) -> Sequence[int]:
    """Which of so many classes are unknown in a split."""
    return SPLITS[number] if count == 10 else np.random.default_rng(number).permutation(count)[KNOWN:].tolist()


def split(data: str, number: int, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """One split of setup I: the measures of each way to choose, and of the other detectors."""
    classes = open_source(data).classes
    unknown = unknown_classes(len(classes), number)
    known = tuple(name for k, name in enumerate(classes) if k not in unknown)
    folder = arguments.out / f"{data}-{number}"
    common: dict[str, Any] = {"known": known, "seed": arguments.seed}
    closed = trained(folder / "classifier", "classifier", data, dict(arguments.classifier), **common)

    def of(way: str, settings: dict[str, Any]) -> Run:
        more = common | {"backbone": str(closed.folder)} | settings
        more |= {"open_validation": data} if "open_validation" in settings else {}
        recipe = dict(arguments.set) | more.pop("recipe", {})
        return trained(folder / "".join(c if c.isalnum() else "-" for c in way), "opengan", data, recipe, **more)

    found: dict[str, dict[str, float]] = {}
    for k, (way, settings) in enumerate(WAYS.items()):
        run = of(way, settings)
        measured = remembered(run, baselines=k == 0)
        found |= measured.pop("baselines", {})
        found[f"OpenGAN-0-fea, {way}"] = measured
        if k == 0:
            print(f"{data}, split {number}, AUROC on validation by epoch: {curve(run)}", flush=True)
    if arguments.leaky:
        run = of("authors", AUTHORS)
        found["OpenGAN-0-fea, the authors' code, real open examples"] = remembered(run, baselines=False)
        found["the same, scored by statistics of test batches (leaks)"] = {"auroc": leaky(run)}
    return found


def curve(run: Run) -> str:
    """The score that chose the weights, at each look."""
    lines = read_journal(run.folder / "journal.jsonl")
    return " ".join(f"{line['auroc']:.3f}" for line in lines if "auroc" in line)


@torch.no_grad()
def leaky(run: Run) -> float:
    """The AUROC as the authors' notebook takes it: batch norm sees known and unknown test examples apart."""
    print("Batch norm in train mode learns from each test batch what it holds: this number is no measure.", flush=True)
    source, game = run.open(), run.game.train()
    assert source.labels is not None
    unknown = np.array([source.classes[k] not in run.recognised for k in source.labels])
    x, score = to_tensor(source.read(slice(None))), np.zeros(len(source))
    for kind in (unknown, ~unknown):
        score[kind] = game.score(x[torch.from_numpy(kind)]).numpy()  # type: ignore[operator]
    game.eval()
    return float(roc_auc_score(unknown, score))


def row(name: str, values: Sequence[str]) -> str:
    return "| " + " | ".join([name, *values]) + " |"


def spread(values: Sequence[float]) -> str:
    """Their mean, and the deviation of a sample where there are several."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def table(title: str, found: Sequence[dict[str, dict[str, float]]]) -> None:
    """Measures by name, each the mean over what was found and its deviation."""
    print(row(title, MEASURES))
    print("|" + "---|" * (len(MEASURES) + 1))
    for name in dict.fromkeys(name for part in found for name in part):
        values = [[part[name][m] for part in found if m in part.get(name, {})] for m in MEASURES]
        print(row(name, [spread(column) if column else "" for column in values]), flush=True)


def first(arguments: argparse.Namespace) -> None:
    """Setup I: the mean over splits and its standard deviation, for each measure."""
    table("", [split(arguments.data, number, arguments) for number in arguments.splits])
    for name, value in PUBLISHED.get(arguments.data, {}).items():
        print(row(f"{name}, published", [f"{value:.3f}", *[""] * (len(MEASURES) - 1)]))


def second(arguments: argparse.Namespace) -> None:
    """Setup II: each measure on each test set, and its standard deviation over the choice of outliers."""
    folder, data = arguments.out, arguments.data
    known = {"seed": arguments.seed, "known": open_source(data).classes}
    closed = trained(folder / "classifier", "classifier", data, dict(arguments.classifier), **known)
    more = known | {"backbone": str(closed.folder), "open_validation": arguments.validation}
    found: dict[str, list[dict[str, dict[str, float]]]] = {test: [] for test in arguments.tests}
    for number, outliers in enumerate(arguments.outliers):
        for name, fake in (("closed/open classifier", 0.0), ("OpenGAN-fea", 1.0)):
            recipe = {**dict(arguments.set), "fake": fake}
            run = trained(folder / f"{number}-{fake:g}", "opengan", data, recipe, outliers=outliers, **more)
            print(f"{name}, outliers {outliers}, AUROC on validation by epoch: {curve(run)}", flush=True)
            for test in arguments.tests:
                if with_split(test)[0] != with_split(outliers)[0]:  # what was learnt from is not unknown
                    found[test].append(against(run, name, test, baselines=not found[test]))
    for test, parts in found.items():
        table(f"open: {test}", parts)
    for name, (mean, deviation) in SECOND.items():
        print(f"{name}, published on other data: mean AUROC {mean:.3f}, largest deviation {deviation:.3f}")


def opened(run: Run, data: str) -> tuple[Source, Home]:
    """A test set as the run sees it, by the split that is named behind it, or "test" where there is one."""
    home, part = with_split(data)
    part = part or ("test" if splits_of(home) else None)
    return run.open(home, part), (home, part)


def against(run: Run, name: str, data: str, baselines: bool) -> dict[str, dict[str, float]]:
    """Judge a run by the test split of its own data and a test set, which is unknown; with the other detectors."""
    parts = [opened(run, run.job.data), opened(run, data)]
    sources = [parts[0][0], without(parts[1][0], run.recognised)]
    label = np.r_[numbered(sources[0], run.recognised), np.full(len(sources[1]), UNKNOWN)]
    head, setup = Head.load(run.folder / HEAD), set_up(run.job)
    assert isinstance(setup.held, Source)
    assert setup.fit.labels is not None
    logits = [logits_of(part, run.recognised, head) for part in (*sources, setup.held, setup.fit)]
    if any(values is None for values in logits):
        raise UserError(f"The backbone of '{run.folder}' gives no logits of the known classes: train a classifier.")
    inside, outside, held, fit = (values for values in logits if values is not None)
    x = [part.read(slice(None)) for part in (*sources, setup.held, setup.fit)]
    scores = {name: [run.raw_scores(part) for part in (*sources, setup.held)]}
    for other, make in NOVELTY.items() if baselines else ():
        detector = make(x[3], fit, setup.fit.labels)
        scores[other] = [detector.score(*pair) for pair in zip(x, (inside, outside, held), strict=False)]
    homes = [(part, home) for part, (_, home) in zip(sources, parts, strict=True)]
    if baselines and (by := by_odin(run, [*homes, (setup.held, (run.job.data, run.job.split))])):
        scores["ODIN"] = by
    predicted = np.r_[inside, outside].argmax(1)
    return {
        key: recognition(new := np.r_[a, b], label, predicted, Calibration(calibration).strange(new, ASKED))
        for key, (a, b, calibration) in scores.items()
    }


def main() -> None:
    def several(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setup", choices=("one", "two"))
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, default=Path("runs/open-set"))
    parser.add_argument("--splits", type=lambda text: [int(k) for k in text.split(",")], default=range(len(SPLITS)))
    parser.add_argument("--outliers", type=several, default=["cifar10@train[:3000]", "emoji"], help="two at least")
    parser.add_argument(
        "--validation", help="open examples that choose the weights; by default a fifth of the outliers"
    )
    parser.add_argument("--tests", type=several, default=["cifar10", "emoji", "magnetic_tile"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", type=assignment, default=[], help="of opengan: key=value")
    parser.add_argument("--classifier", action="append", type=assignment, default=[], help="of it: key=value")
    parser.add_argument(
        "--leaky", action="store_true", help="also the authors' code, and by statistics of test batches"
    )
    arguments = parser.parse_args()
    if arguments.setup == "two" and len(arguments.outliers) < 2:
        parser.error("the deviation is over the choice of outliers: name two sets or parts of sets, as in a@train,b.")
    try:
        (first if arguments.setup == "one" else second)(arguments)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
