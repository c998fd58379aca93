"""The Inception score at its fixed points, and against the formula as a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparring.errors import UserError
from sparring.metrics import inception_score


def test_fixed_points():
    sure = np.eye(10)[np.arange(1000) % 10]
    assert inception_score(sure, splits=1)["value"] == pytest.approx(10)
    assert inception_score(np.repeat(sure, 10, axis=0)) == {
        "value": pytest.approx(10), "deviation": pytest.approx(0, abs=1e-9), "splits": 10,
    }  # fmt: skip
    assert inception_score(sure[:1].repeat(50, 0))["value"] == pytest.approx(1)
    assert inception_score(np.full((50, 10), 0.1))["value"] == pytest.approx(1)


def test_it_is_the_formula_over_every_tenth_example():
    p = np.random.default_rng(0).dirichlet(np.full(4, 0.3), size=103)
    scores = []
    for k in range(10):
        part = p[k::10]
        mean = part.sum(0) / len(part)
        divergences = [sum(a * math.log(a / m) for a, m in zip(row, mean, strict=True) if a > 0) for row in part]
        scores.append(math.exp(sum(divergences) / len(part)))
    found = inception_score(p)
    assert found["value"] == pytest.approx(np.mean(scores))
    assert found["deviation"] == pytest.approx(np.std(scores))


def test_sorted_classes_do_not_matter():
    assert inception_score(np.eye(10).repeat(100, 0))["value"] == pytest.approx(10)


@pytest.mark.parametrize("p", [np.ones((3, 2)), np.array([[1.5, -0.5]]), np.zeros((0, 3)), np.full((2, 2), np.nan)])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(UserError, match="add up to 1"):
        inception_score(p)
