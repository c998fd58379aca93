"""CUB-200-2011 and Oxford-102 as their authors ship them, beside the captions of Reed et al.

The captions are those of Reed, Akata, Schiele, Lee (2016), Learning Deep Representations of Fine-grained Visual
Descriptions, arXiv:1605.05395: text files, one caption a line, each named after its image, and lists of classes by
which training and test share none. They may lie anywhere below the folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sparring.data.decode import Picture, View
from sparring.data.folder import File, Splits
from sparring.data.source import Pictures
from sparring.errors import UserError

TRAINVAL = "trainvalclasses.txt"
LISTS = {  # files with the names of classes, by split; the first that is there
    "train": (TRAINVAL, "trainclasses.txt"),
    "val": ("valclasses.txt",),  # where it is no part of what is trained on
    "test": ("testclasses.txt",),
}
MARGIN = 0.75  # half the side of the crop around a bird, in longer sides of its bounding box, as in StackGAN's code


def open_described(folder: Path, files: Sequence[File], name: str) -> Splits | None:
    """The splits of either data set; None for other folders."""
    by_name: dict[str, list[File]] = {}
    for file in files:
        by_name.setdefault(file.relative.name, []).append(file)
    if {"images.txt", "image_class_labels.txt", "bounding_boxes.txt"} <= by_name.keys():
        return birds(folder, by_name, files, name)
    if {"imagelabels.mat", "image_00001.jpg"} <= by_name.keys():
        return flowers(folder, by_name, files, name)
    return None


def birds(folder: Path, by_name: Mapping[str, list[File]], files: Sequence[File], name: str) -> Splits:
    """CUB-200-2011: each image is cropped around its bird. Without lists of classes, the official split."""
    root = by_name["images.txt"][0].path.parent
    paths = column(root / "images.txt", 1)
    boxes = [column(root / "bounding_boxes.txt", k) for k in (1, 2, 3, 4)]
    crops: dict[Path, Picture] = {}
    labels: dict[Path, str] = {}
    trained: dict[Path, bool] = {}
    official = column(root / "train_test_split.txt", 1) if (root / "train_test_split.txt").exists() else {}
    for number, relative in paths.items():
        path = root / "images" / relative
        try:
            x, y, width, height = (float(box[number]) for box in boxes)
        except (KeyError, ValueError):
            raise UserError(f"'{name}' has no bounding box of image {number}: fetch bounding_boxes.txt anew.") from None
        half = int(max(width, height) * MARGIN)
        middle = int(x + width / 2), int(y + height / 2)
        crops[path] = View(path, box=(middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half))
        labels[path] = relative.split("/")[0]
        trained[path] = official.get(number, "1") == "1"
    return splits(folder, by_name, files, name, crops, labels, trained)


def flowers(folder: Path, by_name: Mapping[str, list[File]], files: Sequence[File], name: str) -> Splits:
    """Oxford-102. Without lists of classes, the official training, validation and test images."""
    from scipy.io import loadmat

    root = by_name["imagelabels.mat"][0].path.parent
    images = by_name["image_00001.jpg"][0].path.parent
    try:
        numbers = loadmat(root / "imagelabels.mat")["labels"].ravel()
        apart = loadmat(root / "setid.mat")["tstid"].ravel() if (root / "setid.mat").exists() else np.empty(0)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError):
        raise UserError(f"The .mat files of '{name}' are damaged: fetch imagelabels.mat and setid.mat anew.") from None
    paths = [images / f"image_{k:05d}.jpg" for k in range(1, len(numbers) + 1)]
    labels = {path: f"class_{k:05d}" for path, k in zip(paths, numbers, strict=True)}
    testing = set(apart.tolist())
    trained = {path: k not in testing for k, path in enumerate(paths, 1)}
    return splits(folder, by_name, files, name, {path: path for path in paths}, labels, trained)


def column(path: Path, at: int) -> dict[str, str]:
    """A column of a text file, by what stands first in each line."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {line[0]: line[at] for line in lines}
    except (OSError, UnicodeDecodeError, IndexError):
        raise UserError(f"'{path}' is missing, or not as CUB-200-2011 has it: fetch it anew.") from None


def splits(
    folder: Path, by_name: Mapping[str, list[File]], files: Sequence[File], name: str,
    pictures: Mapping[Path, Picture], labels: Mapping[Path, str], trained: Mapping[Path, bool],
) -> Splits:  # fmt: skip
    """Share images out by the lists of classes, or else by the official split."""
    there = {file.path: file for file in files}
    lost = next((path for path in pictures if path not in there), None)
    if lost is not None:
        raise UserError(f"'{name}' lacks the image '{lost}', which its lists name: unpack the images anew.")
    texts = {file.relative.stem: file.path for file in files if file.relative.suffix == ".txt"}
    parts: dict[str, list[Path]] = {}
    whole = TRAINVAL in by_name  # training and validation in one
    for split, names in LISTS.items():
        listed = next((by_name[own][0].path for own in names if own in by_name), None)
        if listed is not None and not (whole and split == "val"):
            chosen = set(listed.read_text(encoding="utf-8").split())
            parts[split] = [path for path in pictures if labels[path] in chosen]
    if not (parts.get("train") and parts.get("test")):
        parts = {split: [p for p in pictures if trained[p] == (split == "train")] for split in ("train", "test")}
    classes = tuple(sorted(set(labels.values())))

    def examples(split: str, own: Sequence[Path]) -> Pictures:
        return Pictures(
            name=name, split=split, names=tuple(str(there[path].relative) for path in own),
            labels=np.array([classes.index(labels[path]) for path in own], np.int64), classes=classes,
            originals=tuple(own), captions=tuple(lines(texts.get(path.stem)) for path in own) if captioned else None,
            opened=lambda rows: (pictures[own[row]] for row in rows),
            stamp=[str(folder.resolve()), "described", split, [(*there[p].stamp(), str(pictures[p])) for p in own]],
        )  # fmt: skip

    captioned = any(path.stem in texts for path in pictures)
    return {split: partial(examples, split, own) for split, own in parts.items() if own}


def lines(path: Path | None) -> tuple[str, ...]:
    """The captions in a text file."""
    if path is None:
        return ()
    return tuple(
        line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
    )
