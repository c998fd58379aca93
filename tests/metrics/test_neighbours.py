"""The nearest-neighbour tests, against loops and against what must hold."""

from __future__ import annotations

import numpy as np
import pytest

from sparring.errors import UserError
from sparring.metrics import closer, closest, transfer_accuracy, two_sample_accuracy


def test_two_samples_are_told_apart_as_by_a_loop():
    random = np.random.default_rng(0)
    real, made = random.normal(size=(40, 3)), random.normal(0.5, 1, size=(40, 3))
    pool = np.concatenate([real, made])
    right = []
    for i, x in enumerate(pool):
        apart = [np.sum((x - y) ** 2) if i != j else np.inf for j, y in enumerate(pool)]
        right.append((int(np.argmin(apart)) < 40) == (i < 40))
    found = two_sample_accuracy(real, made)
    assert found == {
        "value": pytest.approx(np.mean(right)),
        "real": pytest.approx(np.mean(right[:40])),
        "made": pytest.approx(np.mean(right[40:])),
    }


def test_the_same_the_strange_and_the_copied():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(2, 1500, 4))
    assert two_sample_accuracy(x, y)["value"] == pytest.approx(0.5, abs=0.03)
    assert two_sample_accuracy(x, y + 50)["value"] == 1
    assert two_sample_accuracy(x, x + 1e-6)["value"] == 0  # copies are closer than any real neighbour
    collapsed = two_sample_accuracy(x, x[:1] + 1e-3 * y)
    assert collapsed["made"] > 0.95


def test_unequal_numbers_do_not_shift_the_half():
    random = np.random.default_rng(2)
    found = two_sample_accuracy(random.normal(size=(3000, 3)), random.normal(size=(1000, 3)))
    assert found["value"] == pytest.approx(0.5, abs=0.04)


def test_transfer_accuracy_as_by_a_loop():
    random = np.random.default_rng(3)
    made, real = random.normal(size=(30, 2)), random.normal(size=(50, 2))
    asked, true = (made[:, 0] > 0).astype(int), (real[:, 0] > 0).astype(int)
    nearest = [int(np.argmin([np.sum((x - y) ** 2) for y in made])) for x in real]
    assert transfer_accuracy(made, asked, real, true) == pytest.approx(np.mean(asked[nearest] == true))
    assert transfer_accuracy(real, true, real, true) == 1


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="need one label each"):
        transfer_accuracy(np.zeros((3, 2)), [0, 1], np.zeros((2, 2)), [0, 1])


@pytest.mark.parametrize("parts", [1, 3, 50])
def test_the_nearest_of_many_as_by_a_loop(parts):
    random = np.random.default_rng(4)
    few, many = random.normal(size=(20, 5)), random.normal(size=(50, 5))
    few[3] = many[41]
    distance, number = closest(few, iter(np.array_split(many, parts)))
    apart = [[np.sqrt(np.sum((x - y) ** 2)) for y in many] for x in few]
    np.testing.assert_array_equal(number, np.argmin(apart, 1))
    np.testing.assert_allclose(distance, np.min(apart, 1), atol=1e-6)
    assert (number[3], distance[3]) == (41, pytest.approx(0, abs=1e-6))


def test_closer_by_counting_pairs():
    found = closer([1, 2, 2, 9], [2, 3, 10])
    pairs = [1.0 * (x < y) + 0.5 * (x == y) for x in (1, 2, 2, 9) for y in (2, 3, 10)]
    assert found["share"] == pytest.approx(np.mean(pairs))
    assert found["beyond"] == 1
    assert 0 < found["p_value"] < 0.5


def test_closer_says_so_as_often_as_it_should():
    """Of the same distribution, p-values are uniform; of another, they are small, and large the other way round."""
    random = np.random.default_rng(5)
    small = [closer(*random.gamma(3, size=(2, 100)))["p_value"] < 0.1 for _ in range(200)]
    assert np.mean(small) == pytest.approx(0.1, abs=0.06)
    x = random.gamma(3, size=(2, 300))
    assert closer(0.7 * x[0], x[1])["p_value"] < 1e-6
    assert closer(1.5 * x[0], x[1])["p_value"] > 0.999


def test_distances_of_nothing_finite_are_refused():
    with pytest.raises(UserError, match="NaN or infinite"):
        closest(np.full((2, 3), np.nan), [np.zeros((4, 3))])
