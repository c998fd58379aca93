"""Measures of open-set recognition, and the detectors on logits and features, against formulas written out plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from sparring.errors import UserError
from sparring.metrics.novelty import NOVELTY, Mahalanobis, Nearest, OpenMax, energy, maximum_logit, maximum_softmax
from sparring.metrics.odin import odin
from sparring.metrics.recognition import oscr, recognition, unknown_accepted_at_95

RANDOM = np.random.default_rng(0)
LABEL = np.repeat([0, 1, 2], 60)
X = (RANDOM.normal(size=(180, 5)) + 6 * np.eye(5)[LABEL]).astype(np.float32)
LOGITS = X[:, :3]


def test_published_values_of_one_vector():
    """Section 16.16: logits (2, 0, 0)."""
    h = np.array([[2.0, 0.0, 0.0]])
    assert maximum_softmax(h)[0] == pytest.approx(-0.786986, abs=1e-6)
    assert maximum_logit(h)[0] == -2
    assert energy(h)[0] == pytest.approx(-2.239545, abs=1e-6)
    assert energy(h, 10.0)[0] == pytest.approx(-10 * np.log(np.exp(0.2) + 2), abs=1e-9)


def test_mahalanobis_is_its_formula():
    found = Mahalanobis(X, LOGITS, LABEL).score(X[:7] + 1, LOGITS[:7])
    means = [X[k == LABEL].mean(0) for k in range(3)]
    shared = sum(np.cov(X[k == LABEL].T, bias=True) for k in range(3)) / 3
    expected = [min((x - m) @ np.linalg.inv(shared) @ (x - m) for m in means) for x in X[:7] + 1]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_mahalanobis_stands_a_dead_feature():
    dead = np.concatenate([X, np.zeros((180, 1), np.float32)], 1)
    assert np.isfinite(Mahalanobis(dead, LOGITS, LABEL).score(dead, LOGITS)).all()


def test_nearest_neighbour_is_its_formula():
    z = X / np.linalg.norm(X, axis=1, keepdims=True)
    distances = np.sort(np.linalg.norm(z[:4, None] - z[None], axis=2), 1)
    np.testing.assert_allclose(Nearest(X, LOGITS, LABEL, 3).score(X[:4], LOGITS), distances[:, 2], atol=1e-3)
    assert Nearest(X, LOGITS, LABEL).score(5 * X[:2], LOGITS) == pytest.approx(
        Nearest(X, LOGITS, LABEL).score(X[:2], LOGITS), abs=1e-6
    )


def test_openmax_is_its_formula():
    detector, h = OpenMax(X, LOGITS, LABEL, alpha=2), np.array([[9.0, 4.0, 1.0]])
    v, w = h[0], np.ones(3)
    for rank, k in enumerate([0, 1]):
        shape, scale = detector.tails[k]
        distance = np.linalg.norm(v - detector.means[k]) - detector.starts[k] + 1
        w[k] = 1 - (2 - rank) / 2 * (1 - np.exp(-((max(distance, 0) / scale) ** shape)))
    np.testing.assert_allclose(detector.revised(h)[0], softmax([*(v * w), (v * (1 - w)).sum()]), rtol=1e-6)
    near, far = detector.score(X, np.stack([detector.means[0], detector.means[0] + 30]))
    assert near < 0.1 < far


@pytest.mark.parametrize("name", NOVELTY)
def test_what_lies_elsewhere_is_stranger(name):
    detector = NOVELTY[name](X, LOGITS, LABEL)
    other = RANDOM.normal(size=(60, 5)).astype(np.float32) * 0.3
    score = [detector.score(x, x[:, :3]) for x in (X, other)]
    assert roc_auc_score(np.arange(240) >= 180, np.concatenate(score)) > (0.8 if name == "OpenMax" else 0.9)
    alone = np.concatenate([detector.score(x[None], x[None, :3]) for x in other[:5]])
    np.testing.assert_allclose(alone, score[1][:5], rtol=1e-3, atol=1e-6)


def test_odin_of_a_linear_network():
    """Without a step it is the softmax at T; with one, each number moves by epsilon towards the likeliest class."""
    weight = torch.tensor([[1.0, 0.0], [0.0, -2.0], [0.5, 0.5]])
    x = torch.tensor([[1.0, 0.3], [-0.2, -1.0]])
    plain = odin(lambda x: x @ weight.T, x, 10.0, 0.0)
    torch.testing.assert_close(plain, -(x @ weight.T / 10).softmax(1).amax(1))
    p = (x @ weight.T / 10).softmax(1)
    slope = (weight[p.argmax(1)] - p @ weight).sign()
    torch.testing.assert_close(
        odin(lambda x: x @ weight.T, x, 10.0, 0.1), -((x + 0.1 * slope) @ weight.T / 10).softmax(1).amax(1)
    )


def test_oscr_is_auroc_where_every_name_is_right():
    label = RANDOM.integers(-1, 3, 400)
    score = np.round(RANDOM.normal(size=400) + 2 * (label == -1), 1)  # with ties
    assert oscr(score, label, label) == pytest.approx(roc_auc_score(label == -1, score), abs=1e-12)
    assert oscr(score, label, np.full(400, 9)) == 0


def test_oscr_of_half_the_names():
    """Half of the known ones are named rightly, all are accepted before the first unknown one: the area is 1/2."""
    label, named = np.array([0, 0, 1, 1, -1, -1]), np.array([0, 1, 1, 0, 0, 0])
    assert oscr(np.array([0, 0, 0, 0, 1, 2]), label, named) == 0.5


def test_unknown_accepted_at_95():
    score, known = np.r_[np.arange(100), 94.0, 94.5, 200.0], np.arange(103) < 100
    assert unknown_accepted_at_95(score, known) == pytest.approx(1 / 3)


def test_recognition_by_hand():
    label = np.array([0, 0, 1, 1, -1, -1])
    found = recognition([0.1, 0.2, 0.3, 0.8, 0.7, 0.9], label, [0, 0, 1, 0, 0, 1], [0, 0, 0, 1, 0, 1])
    assert found["auroc"] == pytest.approx(7 / 8)
    assert found["closed_accuracy"] == 0.75
    assert found["rejected_known"] == 0.25
    # 0: 2 of 3 right; 1: precise, half found; unknown: half and half
    assert found["f1"] == pytest.approx((0.8 + 2 / 3 + 0.5) / 3)


def test_recognition_refuses():
    with pytest.raises(UserError, match="3 of 3 examples are of known classes"):
        recognition([1, 2, 3], [0, 1, 0], [0, 1, 0], [0, 0, 0])
    with pytest.raises(UserError, match="1 scores are NaN"):
        recognition([1, np.nan], [0, -1], [0, 0], [0, 0])
