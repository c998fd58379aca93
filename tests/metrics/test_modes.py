"""Counting modes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparring.errors import UserError
from sparring.metrics import gaussian_modes, mode_coverage


def test_modes_and_divergence():
    found = mode_coverage([0, 0, 0, 2], [10, 10, 20, 0])
    assert (found["value"], found["of"]) == (2, 3)
    assert found["kl"] == pytest.approx(0.75 * math.log(0.75 / 0.25) + 0.25 * math.log(0.25 / 0.5))


def test_all_modes_one_mode_and_a_mode_that_is_not_there():
    assert mode_coverage(np.arange(1000).repeat(3), np.full(1000, 60)) == {
        "value": 1000, "of": 1000, "kl": pytest.approx(0, abs=1e-12),
    }  # fmt: skip
    assert mode_coverage([5] * 9, np.ones(1000)) == {"value": 1, "of": 1000, "kl": pytest.approx(math.log(1000))}
    found = mode_coverage([0, 1], [1, 0])
    assert (found["value"], found["of"], found["kl"]) == (1, 1, math.inf)


@pytest.mark.parametrize(("found", "expected"), [([3], [1, 1]), ([-1], [1]), ([], [1]), ([0], [0, 0]), ([0], [-1, 2])])
def test_impossible_classes_are_refused(found, expected):
    with pytest.raises(UserError):
        mode_coverage(found, expected)


def test_gaussians_are_reached_within_three_deviations():
    centres = [[0, 0], [10, 0], [0, 10]]
    x = [[0, 2.9], [0, 3.1], [10, 0], [10, 5], [-0.1, 0]]
    assert gaussian_modes(x, centres, 1.0) == {"value": 2, "of": 3, "high_quality": pytest.approx(3 / 5)}
