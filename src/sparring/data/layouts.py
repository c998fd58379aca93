"""Official layouts of data sets that are neither a folder per class nor MVTec: Caltech-256, and UCSD Ped1 and Ped2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from sparring.data.decode import read_mask
from sparring.data.folder import File, Splits, by_class, is_image_name
from sparring.data.source import Pictures

CATEGORIES = "256_ObjectCategories"
CLIP = re.compile(r"(Train|Test)\d{3}")
TRUTH = "_gt"
FRAMES = ("normal", "anomalous")  # classes of frames


def recognised(root: Path, name: str, files: Sequence[File]) -> Splits | None:
    """The splits of a folder in one of these layouts, or None.

    Args:
        root: The folder, or one with nothing but it inside.
        files: All files below it.
    """
    images = [file for file in files if is_image_name(file.relative.name)]
    tops = {file.top for file in images}
    if tops in ({CATEGORIES}, {"UCSDped1"}, {"UCSDped2"}):
        images = [file.below() for file in images]
        tops = {file.top for file in images}
    if "257.clutter" in tops and all(re.fullmatch(r"\d{3}\..+", top) for top in tops):
        # Below a few categories lie folders that do not belong to the set of 30,607 images.
        own = [f for f in images if len(f.relative.parts) == 2 and f.relative.suffix.lower() == ".jpg"]
        return {None: partial(by_class, root, name, None, own)}
    if tops == {"Train", "Test"} and all(CLIP.match(file.below().top) for file in images):
        return {top.lower(): partial(frames, root, name, top, images) for top in ("Train", "Test")}
    return None


def frames(root: Path, name: str, top: str, images: Sequence[File]) -> Pictures:
    """The frames of all clips of a split, one clip after the other.

    A frame is anomalous where any pixel of its ground truth, Test001_gt/001.bmp for Test001/001.tif, is marked; frames
    of training clips are normal. Test clips without ground truth are left out.
    """
    own = [file.below() for file in images if file.top == top]
    truth = {(file.top.removesuffix(TRUTH), file.relative.stem): file for file in own if file.top.endswith(TRUTH)}
    known = {clip for clip, _ in truth}
    clips = [file for file in own if not file.top.endswith(TRUTH)]
    kept = [file for file in clips if top == "Train" or file.top in known]
    masks = [truth.get((file.top, file.relative.stem)) for file in kept]
    marked = [mask is not None and bool(read_mask(mask.path).any()) for mask in masks]
    left = len(clips) - len(kept)
    note = f"{left:,} frames of '{name}' lie in clips without ground truth, and are left out."
    found = by_class(root, name, top.lower(), kept)
    stamp = [found.stamp, [mask.stamp() for mask in masks if mask]]
    return replace(
        found, labels=np.array(marked, np.int64), classes=FRAMES, normal=FRAMES[:1], stamp=stamp,
        masks=tuple(mask.path if mask and odd else None for mask, odd in zip(masks, marked, strict=True))
        if any(marked) else None,
        notes=(note,) if left else (),
    )  # fmt: skip
