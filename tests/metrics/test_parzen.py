import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.neighbors import KernelDensity

from sparring.errors import UserError
from sparring.metrics.parzen import CANDIDATES, choose_sigma, log_likelihood, parzen


def test_one_kernel_exactly_at_x():
    x = np.random.default_rng(0).random((1, 1, 28, 28))
    found = log_likelihood(x, x, 0.2)
    assert found.shape == (1,)
    assert found.dtype == np.float64
    assert found[0] == pytest.approx(541.3515, abs=1e-4)
    assert found[0] == pytest.approx(-392 * math.log(2 * math.pi * 0.04), abs=1e-9)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0])
def test_it_is_the_formula_and_the_kernel_density_of_scikit_learn(sigma):
    rng = np.random.default_rng(1)
    x, samples = rng.random((57, 20)), rng.random((83, 20))
    expected = logsumexp(-cdist(x, samples, "sqeuclidean") / (2 * sigma**2), axis=1, b=1 / 83)
    expected -= 10 * math.log(2 * math.pi * sigma**2)
    if sigma >= 0.3:  # below, the tree of scikit-learn loses precision
        outside = KernelDensity(bandwidth=sigma).fit(samples).score_samples(x)
        np.testing.assert_allclose(outside, expected, rtol=1e-10)
    np.testing.assert_allclose(log_likelihood(x, samples, sigma), expected, rtol=1e-10)
    np.testing.assert_allclose(log_likelihood(x, samples, sigma, chunk=7), expected, rtol=1e-10)
    np.testing.assert_allclose(
        log_likelihood(torch.from_numpy(x).float(), torch.from_numpy(samples).float(), sigma), expected, rtol=1e-4
    )


def test_the_density_adds_up_to_one():
    x = np.linspace(-9, 10, 5001)[:, None]
    density = np.exp(log_likelihood(x, np.array([[-1.0], [0.0], [2.0]]), 0.5))
    assert density.sum() * 19 / 5000 == pytest.approx(1, abs=1e-9)


def test_far_points_do_not_underflow():
    found = log_likelihood(np.full((1, 784), 100.0), np.zeros((3, 784)), 0.1)[0]
    assert found == pytest.approx(-784 * 1e4 / 0.02 - 392 * math.log(2 * math.pi * 0.01), rel=1e-12)


def test_sigma_is_the_candidate_of_the_highest_mean():
    rng = np.random.default_rng(2)
    samples, validation = rng.normal(size=(400, 2)), rng.normal(size=(200, 2))
    assert len(CANDIDATES) == 10
    assert CANDIDATES[0] == pytest.approx(0.1)
    assert CANDIDATES[-1] == 1
    means = [log_likelihood(validation, samples, sigma).mean() for sigma in CANDIDATES]
    assert choose_sigma(validation, samples) == CANDIDATES[int(np.argmax(means))]
    assert choose_sigma(validation, samples, [5.0, 0.3]) == 0.3


def test_the_protocol_of_the_paper():
    rng = np.random.default_rng(3)
    samples, validation, test = rng.random((50, 4)), rng.random((20, 4)), rng.random((30, 4))
    found = parzen(samples, validation, test)
    values = log_likelihood(test, samples, found["sigma"])
    assert found["sigma"] == choose_sigma(validation, samples)
    assert found["mean"] == pytest.approx(values.mean())
    assert found["standard_error"] == pytest.approx(values.std() / math.sqrt(30))
    assert (found["samples"], found["validation"], found["test"]) == (50, 20, 30)


@pytest.mark.parametrize(
    ("x", "samples", "sigma"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), 0.1),
        (np.ones((0, 3)), np.ones((2, 3)), 0.1),
        (np.ones((2, 3)), np.ones((0, 3)), 0.1),
        (np.full((2, 3), np.nan), np.ones((2, 3)), 0.1),
        (np.ones((2, 3)), np.ones((2, 3)), 0.0),
    ],
)
def test_input_that_has_no_likelihood_is_refused(x, samples, sigma):
    with pytest.raises(UserError):
        log_likelihood(x, samples, sigma)
