"""Official layouts of data sets that a plain look at folders would misread: SVHN, TinyImageNet, Cityscapes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from sparring.data.arrays import from_array, stamp_of
from sparring.data.folder import File, Splits, by_class, is_image_name
from sparring.data.source import Examples, natural
from sparring.errors import UserError

ANNOTATIONS = "val_annotations.txt"
CLOSED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # Cityscapes ids of 19 classes
OPEN = (4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)  # ids of what is there and of none of them
VOID = -1  # what is neither: unlabelled, the car itself, borders, outside the region, licence plates


def open_svhn(path: Path, name: str, split: str | None = None) -> Splits:
    """A .mat file of SVHN's cropped digits."""
    return {split: partial(svhn, path, name, split)}


def open_svhn_folder(files: Sequence[File], name: str) -> Splits:
    """The splits of a folder with `train_32x32.mat` and the like; empty where there is none."""
    found = {file.path.name.partition("_")[0]: file.path for file in files if file.path.name.endswith("_32x32.mat")}
    return {split: opener for split, path in found.items() for opener in open_svhn(path, name, split).values()}


def svhn(path: Path, name: str, split: str | None) -> Examples:
    """X (32, 32, 3, N) uint8 and y (N, 1), where 10 stands for the digit 0.

    Raises:
        UserError: For a file that is something else.
    """
    from scipy.io import loadmat, matlab

    try:
        content = loadmat(path)
        images, labels = content["X"], content["y"].ravel()
    except (ValueError, KeyError, OSError, TypeError, NotImplementedError, matlab.MatReadError) as error:
        raise UserError(f"'{path}' is no file of SVHN's cropped digits ({error}): give train_32x32.mat.") from None
    if images.ndim != 4 or images.shape[-1] != len(labels):
        raise UserError(f"'{path}' has X of shape {images.shape} and {len(labels)} labels: give train_32x32.mat.")
    rows = np.ascontiguousarray(images.transpose(3, 0, 1, 2))
    return from_array(rows, name, np.where(labels == 10, 0, labels).astype(np.int64), stamp_of(path), split)


def is_tiny_imagenet(root: Path) -> bool:
    return (root / "val" / ANNOTATIONS).is_file() and (root / "train").is_dir()


def open_tiny_imagenet(root: Path, name: str, files: Sequence[File]) -> Splits:
    """The splits train and test: the latter are the official validation images, whose labels lie in a file of text.

    Raises:
        UserError: For a validation image that the file does not name.
    """
    images = [file for file in files if is_image_name(file.relative.name)]
    train = [file.below() for file in images if file.top == "train"]
    lines = (root / "val" / ANNOTATIONS).read_text(encoding="utf-8").splitlines()
    kind = {parts[0]: parts[1] for parts in (line.split("\t") for line in lines) if len(parts) > 1}
    test = []
    for file in images:
        if file.top == "val":
            if file.relative.name not in kind:
                raise UserError(f"'{name}' names no class for val/{file.relative.name}: mend {ANNOTATIONS}.")
            seen = PurePosixPath(kind[file.relative.name], file.relative.name)
            test.append(File(file.path, seen, file.size, file.changed))
    classes = sorted({file.top for file in train}, key=natural)
    return {
        split: partial(by_class, root, name, split, own, classes)
        for split, own in {"train": train, "test": test}.items()
    }


def cityscapes(root: Path, split: str) -> list[tuple[Path, Path]]:
    """The images of a split, each with the file of its label ids.

    Raises:
        UserError: For another layout, or an image without labels.
    """
    images = sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
    if not images:
        raise UserError(f"'{root}' has no leftImg8bit/{split}/CITY/*_leftImg8bit.png: give the folder of Cityscapes.")
    pairs = []
    for image in images:
        stem = image.name.removesuffix("_leftImg8bit.png")
        labels = root / "gtFine" / split / image.parent.name / f"{stem}_gtFine_labelIds.png"
        if not labels.is_file():
            raise UserError(f"'{labels}' is missing: every image of '{root}' needs its label ids.")
        pairs.append((image, labels))
    return pairs


def open_pixels(ids: np.ndarray) -> np.ndarray:
    """What each label id of Cityscapes stands for in open-set recognition: 0 closed, 1 open, -1 void; int8."""
    found = np.full(ids.shape, VOID, np.int8)
    found[np.isin(ids, CLOSED)] = 0
    found[np.isin(ids, OPEN)] = 1
    return found
