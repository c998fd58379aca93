"""OpenSetClassifier: what scikit-learn asks of it, its answers on digits, and what it refuses."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator
from torch import nn

from sparring import OpenSetClassifier, UserError
from sparring.metrics.conformal import allowed

TINY = {"rounds": 3, "batch": 16, "latent": 4, "hidden": [8], "units": [8, 4]}
SMALL = {"rounds": 300, "batch": 64, "latent": 16, "hidden": [64], "units": [64, 32], "rate": 1e-3}
MEANS_NO = "predict may answer -1, which is no class"
APPLY_NOT = {
    "check_classifiers_train": MEANS_NO,
    "check_classifiers_classes": MEANS_NO,
}
CHECKS = list(estimator_checks_generator(OpenSetClassifier(recipe=TINY), mark=None))


def name_of(check) -> str:
    return getattr(check, "func", check).__name__


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), [pytest.param(*pair, id=name_of(pair[1])) for pair in CHECKS])
def test_scikit_learn(estimator, check):
    if name_of(check) in APPLY_NOT:
        pytest.skip(APPLY_NOT[name_of(check)])
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x.astype(np.float32), y


@pytest.fixture(scope="module")
def fitted(digits):
    x, y = digits
    known = (y < 6) & (np.arange(len(y)) % 3 > 0)
    return OpenSetClassifier(recipe=SMALL, false_alarms=0.1).fit(x[known], y[known])


def test_digits(fitted, digits):
    x, y = digits
    test = np.arange(len(y)) % 3 == 0
    answer, known = fitted.predict(x[test]), y[test] < 6
    assert set(answer) <= {-1, 0, 1, 2, 3, 4, 5}
    accepted = answer != -1
    assert (answer == y[test])[known & accepted].mean() > 0.95
    n = len(fitted.calibration_)
    assert (~accepted[known]).mean() < allowed(n, 0.1) / (n + 1) + 0.12  # one draw of calibration and test
    assert (~accepted[~known]).mean() > (~accepted[known]).mean()
    assert fitted.selected_by_ == "nothing: the scores of 10 late epochs are averaged"


def test_the_parts_agree_with_each_other(fitted, digits):
    x = digits[0][:50]
    p = fitted.p_values(x)
    assert np.array_equal(fitted.predict(x) == -1, p <= 0.1)
    assert np.array_equal(np.argsort(fitted.score_samples(x)), np.argsort(fitted.score_samples(x)))
    assert (np.diff(p[np.argsort(fitted.score_samples(x))]) >= 0).all()
    np.testing.assert_allclose(fitted.predict_proba(x).sum(1), 1, rtol=1e-6)
    assert fitted.predict_proba(x).shape == (50, 6)


def test_in_a_pipeline_with_names_and_outliers(digits):
    x, y = digits
    names = np.array(["zero", "one", "two"])
    known = y < 3
    model = OpenSetClassifier(classifier=KNeighborsClassifier(3), recipe=TINY | {"rounds": 40})
    pipeline = make_pipeline(StandardScaler(), clone(model))
    pipeline.fit(x[known], names[y[known]], opensetclassifier__outliers=StandardScaler().fit_transform(x[~known]))
    answer = pipeline.predict(x)
    assert set(answer.tolist()) <= {-1, "zero", "one", "two"}
    assert answer.dtype == object


def test_images_by_a_callable(digits):
    x, y = digits
    images, known = (x / 16).reshape(-1, 8, 8), y < 3

    def backbone(images):
        assert images.shape[1:] == (1, 8, 8)
        return images.flatten(2).mean(1)[:, ::2]

    model = OpenSetClassifier(backbone, recipe=TINY).fit(images[known], y[known])
    assert model.n_features_in_ == 64
    assert model.predict(images[:5]).shape == (5,)


class Backbone(nn.Module):
    """Features that batch norm makes, and a head whose logits say how dark the digit is."""

    def __init__(self, classes):
        super().__init__()
        self.norm = nn.BatchNorm1d(64)
        self.head = nn.Linear(64, classes)

    def forward(self, x):
        return self.head(self.norm(x.flatten(1)))


def test_a_module_is_a_copy_in_eval_mode(digits):
    """Its statistics stay, features depend on no batch, and they are what its last layer is given."""
    x, y = digits
    images, known = (x / 16).reshape(-1, 8, 8), y < 3
    backbone = Backbone(5)
    before = copy.deepcopy(backbone.state_dict())
    model = OpenSetClassifier(backbone, recipe=TINY).fit(images[known], y[known])
    backbone.train()
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert model.game_.spec.shape == (64,)
    np.testing.assert_allclose(model.score_samples(images[:7])[:1], model.score_samples(images[:1]), rtol=1e-6)
    assert model.named_by_ == "logistic regression"  # five logits are not those of three classes
    assert OpenSetClassifier(backbone, layer="head", recipe=TINY).fit(images[known], y[known]).game_.spec.shape == (5,)


def test_the_backbones_own_logits_name_the_classes(digits):
    """If they do it well: those of a network that was not trained do not."""
    x, y = digits
    images, known = (x / 16).reshape(-1, 8, 8), y < 3
    linear = LogisticRegression(max_iter=1000).fit(x[known] / 8 - 1, y[known])  # images are in [-1, 1] there
    backbone = Backbone(3).eval()
    backbone.head.weight.data = torch.from_numpy(linear.coef_).float()
    backbone.head.bias.data = torch.from_numpy(linear.intercept_).float()
    model = OpenSetClassifier(backbone, recipe=TINY).fit(images[known], y[known])
    assert model.named_by_ == "the backbone's logits"
    assert model.classifier_ is None
    np.testing.assert_allclose(
        model.predict_proba(images[known]), linear.predict_proba(x[known] / 8 - 1), rtol=0, atol=0.01
    )
    assert set(model.predict(images[:50])) <= {-1, 0, 1, 2}
    worse = OpenSetClassifier(Backbone(3), recipe=TINY).fit(images[known], y[known])
    assert "The backbone's logits have no names" in worse.named_by_
    assert worse.predict_proba(images[known]).argmax(1).tolist() == y[known].tolist()


def test_a_fitted_classifier_stays_as_it_is(digits):
    x, y = digits
    known = y < 3
    own = KNeighborsClassifier(3).fit(x[known][::2], y[known][::2])
    model = OpenSetClassifier(classifier=FrozenEstimator(own), recipe=TINY).fit(x[known], y[known])
    assert model.classifier_.estimator is own
    assert own.n_samples_fit_ == len(y[known][::2])
    assert model.named_by_ == "the classifier"
    with pytest.raises(UserError, match=r"fitted on the classes \[0, 1, 2\], and y holds \[0, 1\]"):
        OpenSetClassifier(classifier=FrozenEstimator(own), recipe=TINY).fit(x[y < 2], y[y < 2])


def test_what_selects(digits):
    """Given open examples; else a part of the outliers; else nothing. What is learnt from selects nothing."""
    x, y = digits
    known, others = y < 3, x[y > 5]
    for outliers, opened, said in (
        (None, others[:50], "against 50 real open ones"),
        (others, others[:50] + 1, "against 50 real open ones"),
        (others, None, f"against {round(len(others) / 5)} outliers that are not learnt from"),
        (None, None, "the scores of 3 late epochs are averaged"),
    ):
        model = OpenSetClassifier(recipe=TINY | {"batch": 430}).fit(x[known], y[known], outliers, opened)
        assert said in model.selected_by_
    model = OpenSetClassifier(recipe=TINY | {"late": 0}).fit(x[known], y[known])
    assert "against mixtures" in model.selected_by_
    with pytest.raises(UserError, match="are outliers to learn from, too"):
        OpenSetClassifier(recipe=TINY).fit(x[known], y[known], others, others[:50])
    with pytest.raises(UserError, match="has no use for outliers"):
        OpenSetClassifier(recipe=TINY, variant="authors_code").fit(x[known], y[known], others)


def test_refusals(digits):
    x, y = digits
    model = OpenSetClassifier(recipe=TINY)
    with pytest.raises(UserError, match="greater than one"):
        model.fit(x[y == 1], y[y == 1])
    with pytest.raises(UserError, match="give that class another number"):
        model.fit(x, np.where(y == 3, -1, y))
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.where(x > 15, np.nan, x), y)
    with pytest.raises(ValueError, match="minimum of 1 is required"):
        model.fit(x, y, outliers=x[:0])
