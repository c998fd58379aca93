"""Precision, recall, density and coverage, against the definitions as loops."""

from __future__ import annotations

import numpy as np
import pytest

from sparring.errors import UserError
from sparring.metrics import coverage, density_coverage, precision_recall


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True))))


def radius(x: np.ndarray, i: int, k: int) -> float:
    return sorted(distance(x[i], x[j]) for j in range(len(x)) if j != i)[k - 1]


def inside(points: np.ndarray, centres: np.ndarray, k: int) -> list[list[bool]]:
    """For each point, in which balls of the centres it lies."""
    reach = [radius(centres, i, k) for i in range(len(centres))]
    return [[distance(p, c) <= r for c, r in zip(centres, reach, strict=True)] for p in points]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_they_are_their_definitions(monkeypatch, k):
    monkeypatch.setattr(coverage, "MEGABYTES", 0.01)  # several blocks
    random = np.random.default_rng(k)
    real, made = random.normal(size=(47, 3)), random.normal(0.7, 0.8, size=(38, 3))
    of_made, of_real = inside(made, real, k), inside(real, made, k)
    found = precision_recall(real, made, k)
    assert found["precision"] == pytest.approx(np.mean([any(balls) for balls in of_made]))
    assert found["recall"] == pytest.approx(np.mean([any(balls) for balls in of_real]))
    found = density_coverage(real, made, k)
    assert found["density"] == pytest.approx(sum(sum(balls) for balls in of_made) / (k * 38))
    assert found["coverage"] == pytest.approx(np.mean(np.array(of_made).any(0)))
    assert len(list(coverage.blocks(real, made))) > 1


def test_copies_are_perfect_and_strangers_are_nothing():
    x = np.random.default_rng(0).normal(size=(80, 2))
    assert precision_recall(x, x) == {"precision": 1, "recall": 1}
    assert density_coverage(x, x)["coverage"] == 1
    assert precision_recall(x, x + 100) == {"precision": 0, "recall": 0}
    assert density_coverage(x, x + 100) == {"density": 0, "coverage": 0}


def test_a_generator_of_one_mode_is_precise_and_recalls_little():
    random = np.random.default_rng(1)
    real = np.concatenate([random.normal(at, 1, size=(100, 2)) for at in (-20, 20)])
    found = precision_recall(real, random.normal(20, 1, size=(200, 2)))
    assert found["precision"] > 0.9
    assert 0.4 < found["recall"] <= 0.5
    assert 0.4 < density_coverage(real, random.normal(20, 1, size=(200, 2)))["coverage"] <= 0.5


def test_expected_coverage_of_the_same_distribution():
    """1 - (N - 1)...(N - k) / ((2N - 1)...(2N - k)), in the appendix of the paper; density is 1."""
    n, k = 200, 5
    expected = 1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
    found = [density_coverage(*np.random.default_rng(seed).normal(size=(2, n, 4))) for seed in range(30)]
    assert np.mean([f["coverage"] for f in found]) == pytest.approx(expected, abs=0.01)
    assert np.mean([f["density"] for f in found]) == pytest.approx(1, abs=0.03)


def test_too_few_are_refused():
    with pytest.raises(UserError, match="3 neighbours needs at least 4 real and 4 made examples, and got 3 and 9"):
        precision_recall(np.zeros((3, 2)), np.zeros((9, 2)))
    with pytest.raises(UserError, match="5 neighbours needs at least 6"):
        density_coverage(np.zeros((9, 2)), np.zeros((5, 2)))
