"""The published experiments on anomalies: how each divides its data, what it looks at, and what it printed.

Figures that no source at hand confirms are not established, and are not printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from sparring.data import door, open_source
from sparring.data.layouts import FRAMES
from sparring.errors import UserError, unknown
from sparring.files import whole
from sparring.metrics.leaky import equal_error, normal_f1, stretched

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]
# Where the divided data are, and which of their classes are normal; of (data, case, seed, folder to write to).
Divide = Callable[[str, str, int, Path], tuple[str, tuple[str, ...]]]

POOLED = 0.8  # share of the pooled normal examples that is learnt from
SIDE = 64  # pixels at which photographs are kept
EACH = 150  # images of a category at most
CLUTTER = "257.clutter"


@dataclass(frozen=True)
class Study:
    """One experiment of a paper.

    Attributes:
        model: With a variant after a colon.
        about: What is normal, and what is judged.
        data: A name; empty where the user has to say where the data are.
        divide: See `Divide`.
        cases: The cases there are; empty stands for the classes of the data.
        seeds: How often they repeat it.
        patch: Images are judged by patches of about this side, in pixels, of which the strangest counts; 0: whole.
        measures: What they rank by, the first of these before all: "auroc", "auprc".
        batches: The authors normalise by the statistics of the batches that they judge.
        best: They report the epoch that is best on the examples reported on.
        flag: Their verdicts, of (score, anomalous); None where they give none.
        f1: Of (anomalous, flagged): the class that they take for positive.
        shares: Shares of outliers among the judged examples; empty judges all of them.
        leaks: What of this looks at the judged examples, in words.
        published: Their figure by case.
        open: What the sources leave open, and how it is read here.
    """

    model: str
    about: str
    divide: Divide
    data: str = ""
    cases: tuple[str, ...] = ()
    seeds: int = 1
    patch: int = 0
    measures: tuple[str, ...] = ("auroc",)
    batches: bool = False
    best: bool = False
    flag: Callable[[Scores, Truth], Truth] | None = None
    f1: Callable[[Truth, Truth], float] = field(default=f1_score)
    shares: tuple[float, ...] = ()
    leaks: tuple[str, ...] = ()
    published: Mapping[str, str] = field(default_factory=dict)
    open: str = ""


def find(name: str) -> Study:
    """Look a study up by name.

    Raises:
        UserError: For an unknown name, with the closest match.
    """
    if name not in STUDIES:
        raise unknown("protocol", name, STUDIES)
    return STUDIES[name]


def official(data: str, case: str, seed: int, folder: Path) -> tuple[str, tuple[str, ...]]:
    """The official splits; the case is the normal class."""
    return data, (case,)


def pooled(data: str, case: str, seed: int, folder: Path) -> tuple[str, tuple[str, ...]]:
    """All but one class are normal: 80 % of both splits to learn from; the rest and all of that class to judge.

    The judged normal examples come first, as in GANomaly's code.
    """
    parts = [open_source(data, split=split) for split in ("train", "test")]
    number = parts[0].class_number(case)
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    x = np.concatenate([part.read(slice(None)) for part in parts])
    normal = np.random.default_rng((seed, 0x6A11)).permutation(np.flatnonzero(labels != number))
    count = int(POOLED * len(normal))
    judged = np.concatenate([normal[count:], np.flatnonzero(labels == number)])
    names = np.array(parts[0].classes)
    path = write(folder, x[normal[:count]], names[labels[normal[:count]]], x[judged], names[labels[judged]])
    return path, tuple(name for name in parts[0].classes if name != parts[0].classes[number])


def categories(data: str, case: str, seed: int, folder: Path) -> tuple[str, tuple[str, ...]]:
    """Images of so many random categories are normal, up to 150 of each; clutter is half of what is judged."""
    if CLUTTER not in classes_of(data, None):
        raise UserError(f"'{data}' is not Caltech-256: give the folder that holds 256_ObjectCategories.")
    source = open_source(data, split=None, size=SIDE, channels=3)
    assert source.labels is not None
    random = np.random.default_rng((seed, 0xCA17))
    chosen = random.choice([k for k, name in enumerate(source.classes) if name != CLUTTER], int(case), replace=False)
    normal = np.concatenate([random.permutation(np.flatnonzero(source.labels == k))[:EACH] for k in np.sort(chosen)])
    normal = random.permutation(normal)
    fit, judged = normal[: len(normal) // 2], normal[len(normal) // 2 :]
    clutter = random.permutation(np.flatnonzero(source.labels == source.classes.index(CLUTTER)))[: len(judged)]
    judged = np.concatenate([judged, clutter])
    names = np.array(source.classes)
    path = write(folder, source.read(fit), names[source.labels[fit]], source.read(judged), names[source.labels[judged]])
    return path, tuple(source.classes[k] for k in np.sort(chosen))


def clips(data: str, case: str, seed: int, folder: Path) -> tuple[str, tuple[str, ...]]:
    """All frames of the training clips are normal; a judged frame is anomalous where any of its pixels is."""
    if classes_of(data, "test") != FRAMES:
        raise UserError(f"'{data}' is not UCSD Ped2: give the folder UCSDped2 with Train and Test in it.")
    return data, ("normal",)


def classes_of(data: str, split: str | None) -> tuple[str, ...]:
    """Names of the classes in a split, before any image is decoded; empty where there is no such split."""
    found = door.find(data, None, None)
    return found[split]().classes if split in found else ()


def write(folder: Path, x: NDArray, y: NDArray, x_test: NDArray, y_test: NDArray) -> str:
    """Keep divided data, whole or not at all, and return their path."""
    path = folder / "data.npz"
    with whole(path) as file:
        np.savez_compressed(file, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return str(path)


def by_equal_error(score: Scores, anomalous: Truth) -> Truth:
    return score >= equal_error(score, anomalous)


def by_fifth(score: Scores, anomalous: Truth) -> Truth:
    return stretched(score) >= 0.2


BATCHES = "batch norm in train mode: a score depends on the other judged examples of its batch"
BEST = "the epoch is the one that is best on the judged examples"
EQUAL = "the threshold is found on the labels of the judged examples"
STRETCH = "scores are stretched between the extremes of the judged examples, and the threshold is 0.2 of that"

ganomaly = partial(
    Study, "ganomaly:authors_code", "one class is anomalous, the others normal; pooled splits, 80 % to learn from",
    pooled, seeds=3, batches=True, best=True, flag=by_fifth, leaks=(BATCHES, BEST, STRETCH),
)  # fmt: skip

STUDIES: dict[str, Study] = {
    "ognet-mnist": Study(
        "ognet", "each digit is normal in turn; 10 to 50 % of the judged examples are outliers", official, "mnist",
        best=True, flag=by_equal_error, f1=normal_f1, shares=(0.1, 0.2, 0.3, 0.4, 0.5), leaks=(BEST, EQUAL),
        open="The paper shows its F1 as curves only.",
    ),
    "ganomaly-mnist": ganomaly("mnist", open="The paper shows its AUROC as a bar chart only."),
    "ganomaly-cifar10": ganomaly(
        "cifar10", published={"bird": "0.510"},
        open="The paper shows a bar chart; the figure for birds is the one that a later paper of the authors reprints.",
    ),
    "egbad-mnist": Study(
        "egbad", "one digit is anomalous, the others normal; pooled splits, 80 % to learn from", pooled, "mnist",
        measures=("auprc", "auroc"), open="The authors report the area under the precision-recall curve (auprc).",
    ),
    "ognet-caltech256": Study(
        "ognet", "1, 3 or 5 random categories are normal, clutter is half of the judged examples", categories,
        cases=("1", "3", "5"), seeds=3, best=True, flag=by_equal_error, f1=normal_f1, leaks=(BEST, EQUAL),
        open="How the normal images are divided is not established: here half is learnt from, half judged.",
    ),
    "ognet-ped2": Study(
        "ognet", "frames of the training clips are normal; frame-level AUROC over all test clips together", clips,
        cases=("frames",), patch=45, best=True, flag=by_equal_error, f1=normal_f1, leaks=(BEST, EQUAL),
        published={"frames": "0.981"},
        open="Side and stride of the paper's patches are not established: here 45 pixels, the side of its networks, "
        "which overlap by a quarter.",
    ),
}  # fmt: skip
