"""What the distances between generated and real data stand on: two arrays of features, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparring.errors import UserError

Features = NDArray[np.float64]


def pair(real: Any, made: Any, least: int, what: str) -> tuple[Features, Features]:
    """Both arrays as float64 (N, D) and (M, D).

    Args:
        least: Examples of each that the measure needs.
        what: The measure, as an error names it.

    Raises:
        UserError: For arrays of another shape, too few examples, or values that are not finite.
    """
    found = []
    for name, values in (("real", real), ("made", made)):
        x = np.asarray(values, dtype=np.float64)
        if x.ndim != 2:
            raise UserError(f"The {name} features must be (examples, numbers); got the shape {x.shape}: flatten them.")
        if not np.isfinite(x).all():
            raise UserError(f"The {name} features hold NaN or infinite values: remove those examples.")
        found.append(x)
    x, y = found
    if x.shape[1] != y.shape[1]:
        raise UserError(f"{x.shape[1]} real features cannot be compared with {y.shape[1]} made: extract both alike.")
    if min(len(x), len(y)) < least:
        raise UserError(
            f"A {what} needs at least {least:,} real and {least:,} made examples, and got {len(x):,} and "
            f"{len(y):,}: give more."
        )
    return x, y
