"""The scikit-learn detector: its contract, its inputs, and whether its verdicts hold."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from scipy.stats import betabinom
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sparring import Detector, UserError
from sparring.metrics.conformal import allowed

SMALL = {"rounds": 20, "batch": 16, "latent": 4, "width": 8}
IMAGES = {"rounds": 3, "batch": 16, "latent": 8, "width": 8}


@parametrize_with_checks([Detector(recipe={"rounds": 60, "batch": 32, "latent": 4, "width": 8})])
def test_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def zeros() -> tuple[np.ndarray, np.ndarray]:
    """Images of zeros (178, 8, 8) in [0, 1], and 100 of other digits."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 8, 8)
    return x[y == 0], x[y != 0][:100]


@pytest.fixture(scope="module")
def fitted() -> Detector:
    x = np.random.default_rng(0).normal(size=(200, 6))
    return Detector("ganomaly", recipe=SMALL).fit(x)


def test_the_parts_agree_with_each_other(fitted):
    x = np.random.default_rng(1).normal(size=(300, 6)) * 2
    scores = fitted.score_samples(x)
    assert scores.shape == (300,)
    assert (scores <= 0).all()
    np.testing.assert_allclose(fitted.decision_function(x), scores - fitted.offset_)
    assert np.array_equal(fitted.predict(x) == -1, fitted.decision_function(x) < 0)
    assert np.array_equal(fitted.predict(x) == -1, fitted.p_values(x) <= 0.05)
    assert set(fitted.predict(x)) == {1, -1}
    assert len(fitted.calibration_) == 40
    assert fitted.n_features_in_ == 6


def test_scores_do_not_depend_on_the_batch(fitted):
    x = np.random.default_rng(2).normal(size=(50, 6))
    alone = np.concatenate([fitted.score_samples(row[None]) for row in x])
    np.testing.assert_allclose(alone, fitted.score_samples(x), rtol=1e-6)
    np.testing.assert_allclose(fitted.score_samples(x[::-1]), fitted.score_samples(x)[::-1], rtol=1e-6)


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_false_alarms_are_what_was_asked_for(rate):
    """Of fresh data of the same kind, the flagged follow the beta-binomial law of split conformal prediction."""
    random = np.random.default_rng(7)
    detector = Detector("ganomaly", recipe=SMALL, false_alarms=rate).fit(random.normal(size=(2000, 6)))
    fresh = random.normal(size=(4000, 6))
    n = len(detector.calibration_)
    assert n == 400
    k = allowed(n, rate)
    low, high = betabinom(4000, k, n + 1 - k).ppf([5e-4, 1 - 5e-4])
    assert low <= (detector.predict(fresh) == -1).sum() <= high
    assert detector.p_values(fresh).mean() == pytest.approx(0.5, abs=0.06)


def test_it_finds_what_is_strange():
    random = np.random.default_rng(3)
    basis = random.normal(size=(2, 8))

    def usual(n: int) -> np.ndarray:
        return random.normal(size=(n, 2)) @ basis + 0.05 * random.normal(size=(n, 8))

    detector = Detector("ganomaly", recipe={**SMALL, "rounds": 300, "width": 32}).fit(usual(500))
    good, odd = usual(200), 3 * random.normal(size=(200, 8))
    scores = -detector.score_samples(np.concatenate([good, odd]))
    assert roc_auc_score([0] * 200 + [1] * 200, scores) > 0.9


def test_the_same_seed_gives_the_same_detector(fitted):
    x = np.random.default_rng(0).normal(size=(200, 6))
    state = torch.get_rng_state()
    again, other = (Detector("ganomaly", recipe=SMALL, seed=seed).fit(x) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(again.score_samples(x), fitted.score_samples(x))
    assert not np.array_equal(other.score_samples(x), fitted.score_samples(x))


@pytest.mark.parametrize("form", ["floats", "bytes", "channel", "colour"])
def test_images(zeros, form):
    x = zeros[0][:60]
    x = np.rint(x * 255).astype(np.uint8) if form == "bytes" else x
    x = x[..., None] if form == "channel" else np.stack([x] * 3, -1) if form == "colour" else x
    detector = Detector("ganomaly", recipe=IMAGES, size=16).fit(x)
    assert detector.game_.spec.shape == (3 if form == "colour" else 1, 16, 16)
    assert detector.n_features_in_ == x[0].size
    found = detector.score_samples(x)
    assert found.shape == (60,)
    alone = np.concatenate([detector.score_samples(image[None]) for image in x[:10]])
    np.testing.assert_allclose(alone, found[:10], rtol=1e-5)
    with pytest.raises(UserError, match="the detector is expecting"):
        detector.score_samples(np.zeros((4, x[0].size)))
    with pytest.raises(ValueError, match="Detector is expecting"):
        detector.score_samples(np.zeros((4, 7)))


def test_fit_predict_clone_and_parameters(zeros):
    detector = Detector("ganomaly", recipe=IMAGES, size=16)
    assert set(detector.fit_predict(zeros[0][:40])) <= {1, -1}
    copy = clone(detector)
    assert copy.get_params() == detector.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(zeros[0])
    assert copy.set_params(false_alarms=0.5).false_alarms == 0.5


def test_pickle_round_trip(fitted):
    x = np.random.default_rng(4).normal(size=(20, 6))
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.score_samples(x), fitted.score_samples(x))
    assert again.offset_ == fitted.offset_


def test_in_a_pipeline_and_in_cross_validation():
    random = np.random.default_rng(5)
    x = random.normal(size=(120, 5)) * 100 + 1000
    pipe = make_pipeline(StandardScaler(), Detector("ganomaly", recipe=SMALL)).fit(x)
    assert set(pipe.predict(x)) <= {1, -1}
    assert pipe.score_samples(x).shape == (120,)

    def share_of_normal(detector: Detector, x: np.ndarray, y: object = None) -> float:
        return float((detector.predict(x) == 1).mean())

    found = cross_val_score(Detector("ganomaly", recipe=SMALL), x, scoring=share_of_normal, cv=3, error_score="raise")
    assert found.shape == (3,)
    assert (found > 0.5).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"model": "gnomaly"}, "There is no model 'gnomaly': did you mean 'ganomaly'"),
        ({"model": "dcgan"}, "dcgan gives no scores: take a detector, such as ganomaly"),
        ({"recipe": {"widht": 8}}, "There is no hyper-parameter 'widht': did you mean 'width'"),
        ({"variant": "papers"}, "There is no variant of ganomaly 'papers'"),
        ({"false_alarms": 2}, "must lie between 0 and 1"),
        ({"seed": -1}, "The setting 'seed' cannot be -1"),
        ({"device": "gpu"}, "The setting 'device' cannot be 'gpu'"),
    ],
)
def test_settings_that_cannot_be(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Detector(**{"recipe": SMALL, **settings}).fit(np.random.default_rng(0).normal(size=(40, 5)))


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (np.full((40, 5), np.nan), "NaN"),
        (np.full((40, 16, 16), np.inf), "infinity"),
        (np.full((40, 16, 16), 3.0), r"must be in \[0, 1\]"),
        (np.zeros((40, 16, 16, 2), np.uint8), "2 channels"),
        (np.zeros((1, 5)), "minimum of 2"),
        (np.zeros((1, 16, 16)), "at least 2"),
        (np.zeros((40, 2, 2, 2, 2)), "give images"),
    ],
)
def test_examples_that_cannot_be(x, sentence):
    with pytest.raises(ValueError, match=sentence):
        Detector(recipe=SMALL, size=16 if x.ndim > 2 else None).fit(x)
