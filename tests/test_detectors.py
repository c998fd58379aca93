"""Every detector as a scikit-learn estimator; `test_detector` looks closer at one of them."""

from __future__ import annotations

from sklearn.utils.estimator_checks import parametrize_with_checks

from sparring import Detector

SMALL = {"batch": 16, "latent": 4}
RECIPES = {
    "alad": {"hidden": 8, "rounds": 5},
    "anogan": {"hidden": 8, "rounds": 5, "search_steps": 5},
    "egbad": {"hidden": 8, "rounds": 5},
    "fanogan": {"hidden": 8, "rounds": 5, "critic_steps": 1},
    "ognet": {"width": 8, "rounds": 5, "second": 5},
}


@parametrize_with_checks([Detector(model, recipe=SMALL | recipe) for model, recipe in RECIPES.items()])
def test_scikit_learn(estimator, check):
    check(estimator)
