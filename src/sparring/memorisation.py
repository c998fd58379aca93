"""Whether a generator copies: training images nearest to made ones, and to real ones that it never saw.

That made images differ from their nearest training images says little, and how close is too close nobody knows; but
real images that were not learnt from are as close as an honest generator may come. Both are compared here, on pixels
and by the features of the evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from sparring import pictures
from sparring.data import Source, to_tensor
from sparring.metrics.neighbours import closer, closest

if TYPE_CHECKING:
    from sparring.features import Described, Extractor

COUNT = 500  # made images, and as many unseen real ones, whose nearest training image is looked for
SEARCHED = 100_000  # training images at most among which it is
PART = 1000  # of these in memory at once
DESCRIBED = 10_000  # whose features are at once in memory, and in one file of the cache
SIDE = 32  # pixels, to which larger images are averaged before they are compared
SHOWN = 8  # pairs in a picture
DOUBT = 0.01  # p-value below which made images are called closer
MANY = 10  # of made images closer than any real one: chance alone reaches that less than once in 2^10 times


@dataclass(frozen=True)
class Space:
    """What distances are taken of: rows (N, D) of made, of unseen real, and of training examples.

    Attributes:
        name: In words.
        made: Rows of the first made images.
        real: Rows of real images that were not trained on.
        searched: The training images.
        parts: Their rows, some at a time.
    """

    name: str
    made: NDArray[np.floating]
    real: NDArray[np.floating]
    searched: Source
    parts: Iterable[NDArray[np.floating]]


def memorisation(
    images: NDArray[np.uint8], made: Described, real: Source, truth: Described, learnt: Source, described: Source,
    extractor: Extractor,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """Compare the distances of made and of unseen real images to their nearest training image.

    Args:
        images: The first made images (K, H, W, C).
        made: What the extractor says of made images, from the first on.
        real: Images that were not trained on.
        truth: What the extractor says of these.
        learnt: What was trained on, at most 100,000 examples of which are searched.
        described: Some of these, to do with where features take long.

    Returns:
        Plain values that JSON can hold, and for the report the verdict with a picture for each way to compare: the 8
        made images closest to a training image, above that training image.
    """
    some = np.sort(np.random.default_rng(0).permutation(len(real))[:COUNT])
    searched = learnt.limited(SEARCHED)
    spaces = [Space("pixels", reduced(images), reduced(real.read(some)), searched, pixels(searched))]
    if extractor.kept:  # or they are the pixels
        searched = searched if extractor.quick else described
        found = made.features[: len(images)], truth.features[some]
        spaces.append(Space("features", *found, searched, features(searched, extractor)))
    measured, shown = {}, {}
    for space in spaces:
        measured[space.name], shown[space.name] = compare(space, images)
    told = verdict(measured, len(images), len(some))
    return {"verdict": told, "made": len(images), "real": len(some), **measured}, {"verdict": told, "pictures": shown}


def compare(space: Space, images: NDArray[np.uint8]) -> tuple[dict[str, Any], Image.Image]:
    """Search a space; what is found, and the picture of the closest pairs."""
    distance, where = closest(np.concatenate([space.made, space.real]), space.parts)
    of_made, of_real = np.split(distance, [len(space.made)])
    nearest = np.argsort(of_made, kind="stable")[:SHOWN]
    theirs = space.searched.read(where[nearest])
    pairs = [
        {"made": int(k), "training": space.searched.names[where[k]], "distance": float(of_made[k])} for k in nearest
    ]
    found = {**closer(of_made, of_real), "training": len(space.searched), "closest": pairs}
    return found, pictures.grid(np.concatenate([images[nearest], theirs]), columns=len(nearest))


def verdict(measured: dict[str, dict[str, Any]], made: int, real: int) -> str:
    """The finding in words."""
    shares = "; ".join(
        f"by {name} the made one is the closer in {found['share']:.0%} of pairs (p = {found['p_value']:.2g}, "
        f"{found['training']:,} training images)"
        for name, found in measured.items()
    )
    beyond = [
        f"By {name}, {found['beyond']} made images lie closer than any real one, where chance explains about "
        f"{made / (real + 1):.2g}."
        for name, found in measured.items()
        if found["beyond"] >= MANY
    ]
    doubt = any(found["p_value"] < DOUBT for found in measured.values())
    advice = ["Copies do so, and so do blurred and empty images: look at the closest pairs."] if doubt or beyond else []
    said = [
        f"Made images lie {'closer' if doubt else 'no closer'} to training images than unseen real ones do: {shares}.",
        f"That is a rank test of {made:,} made and {real:,} real images; who copies nothing comes to 50% or less.",
    ]
    return " ".join([*said, *beyond, *advice])


def reduced(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images (N, H, W, C) as rows of numbers in [0, 1]; larger ones by the means of areas, 32 a side."""
    x = (to_tensor(images) + 1) / 2
    return (F.adaptive_avg_pool2d(x, SIDE) if x.shape[-1] > SIDE else x).flatten(1).numpy()


def pixels(source: Source) -> Iterator[NDArray[np.float32]]:
    """The rows of all images, some at a time."""
    return (reduced(source.read(slice(k, k + PART))) for k in range(0, len(source), PART))


def features(source: Source, extractor: Extractor) -> Iterator[NDArray[np.float32]]:
    """The features of all images, some at a time."""
    parts = (source.take(slice(k, k + DESCRIBED)) for k in range(0, len(source), DESCRIBED))
    return (extractor.describe(part).features for part in parts)
