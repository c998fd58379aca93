"""Frechet and kernel distances, against the formulas written out and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from sparring.errors import UserError
from sparring.metrics import frechet_distance, frechet_of_moments, kernel_distance
from sparring.metrics.distances import discrepancy


def cloud(count: int, width: int, seed: int) -> np.ndarray:
    """Correlated, skewed features."""
    random = np.random.default_rng(seed)
    return random.gamma(2.0, size=(count, width)) @ random.normal(size=(width, width)) + random.normal(size=width)


@pytest.mark.parametrize("width", [1, 2, 17])
def test_frechet_is_the_formula_of_the_paper(width):
    x, y = cloud(60, width, 1), cloud(45, width, 2)
    a, b = np.atleast_2d(np.cov(x, rowvar=False)), np.atleast_2d(np.cov(y, rowvar=False))
    crossed = sqrtm(a @ b)
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * np.real(crossed))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-9)


def test_frechet_between_diagonal_gaussians():
    random = np.random.default_rng(0)
    means, deviations = random.normal(size=(2, 8)), random.random((2, 8))
    expected = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    found = frechet_of_moments(means[0], np.diag(deviations[0] ** 2), means[1], np.diag(deviations[1] ** 2))
    assert found == pytest.approx(expected, rel=1e-12)


def test_frechet_of_a_shift_a_turn_and_the_same():
    x = cloud(200, 5, 3)
    shift = np.arange(5.0)
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(5, 5)))[0]
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + shift) == pytest.approx(30, rel=1e-9)
    y = cloud(100, 5, 5)
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(frechet_distance(x, y), rel=1e-9)


def test_frechet_of_singular_covariances_is_real():
    flat, point = np.diag([1.0, 0.0, 0.0]), np.zeros((3, 3))
    assert frechet_of_moments(np.zeros(3), flat, np.zeros(3), np.diag([0.0, 4.0, 0.0])) == pytest.approx(5)
    assert frechet_of_moments(np.zeros(3), flat, np.ones(3), point) == pytest.approx(4)


def test_frechet_says_how_many_it_needs():
    with pytest.raises(UserError, match="Frechet distance of 6 features needs at least 7 real and 7 made examples"):
        frechet_distance(cloud(6, 6, 0), cloud(90, 6, 1))
    assert np.isfinite(frechet_distance(cloud(7, 6, 0), cloud(7, 6, 1)))


def test_discrepancy_is_the_sum_over_pairs():
    x, y = cloud(6, 3, 0), cloud(5, 3, 1)

    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 3 + 1) ** 3

    def within(z):
        pairs = [kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]
        return sum(pairs) / len(pairs)

    expected = within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])
    assert discrepancy(x, y) == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_of_two_points():
    x, y = np.zeros((40, 4)), np.tile([1.0, 2.0, 0.0, 1.0], (30, 1))
    found = kernel_distance(x, y)
    assert found["value"] == pytest.approx((6 / 4 + 1) ** 3 - 1)
    assert found["standard_error"] == pytest.approx(0, abs=1e-12)
    assert found["subsets"] == 10


def test_kernel_distance_is_the_mean_over_disjoint_subsets():
    x, y = cloud(95, 3, 0), cloud(70, 3, 1)
    found = kernel_distance(x, y, size=5, seed=7)
    random = np.random.default_rng(7)
    first, second = random.permutation(95), random.permutation(70)
    estimates = [discrepancy(x[first[k : k + 5]], y[second[k : k + 5]]) for k in range(0, 70, 5)]
    assert found["subsets"] == 14
    assert found["value"] == pytest.approx(np.mean(estimates))
    assert found["standard_error"] == pytest.approx(np.std(estimates, ddof=1) / np.sqrt(14))


def test_kernel_distance_is_unbiased_and_its_error_honest():
    found = [kernel_distance(*np.random.default_rng(seed).normal(size=(2, 100, 4))) for seed in range(200)]
    scaled = np.array([f["value"] / f["standard_error"] for f in found])
    values = np.array([f["value"] for f in found])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(200)
    assert 0.8 < np.mean(np.abs(scaled) < 2) < 1  # 92 % for Student's t with 9 degrees of freedom


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(
    ("real", "made", "sentence"),
    [
        (np.zeros((30, 2, 2)), np.zeros((30, 4)), "flatten them"),
        (np.zeros((30, 2)), np.zeros((30, 4)), "extract both alike"),
        (np.zeros((30, 2)), np.full((30, 2), np.nan), "made features hold NaN"),
        (np.zeros((30, 2)), np.zeros((1, 2)), "give more"),
    ],
)
def test_what_cannot_be_compared_is_refused(measure, real, made, sentence):
    with pytest.raises(UserError, match=sentence):
        measure(real, made)
