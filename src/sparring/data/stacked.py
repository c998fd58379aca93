"""Stacked MNIST: three digits as the colours of one image, 1,000 classes, to count the modes a generator keeps.

Reference: Metz et al. (2017), Unrolled Generative Adversarial Networks, arXiv:1611.02163.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sparring.data.arrays import from_array
from sparring.data.fingerprint import fingerprint
from sparring.errors import UserError

if TYPE_CHECKING:
    from sparring.data.source import Examples

STACKED = "stacked_mnist"
PART = "mnist"  # what is stacked
CLASSES = tuple(f"{k:03d}" for k in range(1000))
SEED = 0  # the same stacks in every run


def stacked(split: str) -> Examples:
    """As many stacks as MNIST has images in this split, 28x28x3; each digit stands once in each channel.

    The class of a stack is the number that its red, green and blue digits spell.

    Raises:
        UserError: When MNIST is not there, or has no labels.
    """
    from sparring.data.door import open_source  # which opens this

    digits = open_source(PART, split=split, channels=1)
    if digits.labels is None or len(digits.classes) > 10:
        raise UserError(f"'{PART}' has no labels from 0 to 9, by which {STACKED} is numbered: add the label files.")
    random = np.random.default_rng((SEED, split != "train"))
    orders = [random.permutation(len(digits)) for _ in range(3)]
    images = np.concatenate([digits.read(order) for order in orders], axis=3)
    hundreds, tens, ones = (digits.labels[order] for order in orders)
    stamp = [STACKED, SEED, split, fingerprint(digits)]
    numbered = from_array(images, STACKED, 100 * hundreds + 10 * tens + ones, stamp, split)
    return replace(numbered, classes=CLASSES)
