"""Resamples of a test set, and the ranks on them, against scikit-learn with sample weights."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from sparring.metrics.resampling import ranked, resamples


@pytest.mark.parametrize("levels", [4, 10_000])
def test_ranks_are_those_of_scikit_learn(levels):
    random = np.random.default_rng(0)
    score, odd = random.integers(levels, size=250), random.random(250) < 0.3
    drawn = resamples(odd.astype(str), 130)
    areas, precisions = ranked(score, odd, drawn)
    assert areas.shape == precisions.shape == (130,)
    for k in (0, 64, 129):
        assert areas[k] == pytest.approx(roc_auc_score(odd, score, sample_weight=drawn[k]), abs=1e-12)
        assert precisions[k] == pytest.approx(average_precision_score(odd, score, sample_weight=drawn[k]), abs=1e-12)


def test_every_resample_holds_as_many_of_each_kind():
    kinds = np.repeat(["a", "b", "c"], [5, 1, 20])
    drawn = resamples(kinds, 50, seed=3)
    for kind in "abc":
        assert (drawn[:, kinds == kind].sum(1) == (kinds == kind).sum()).all()
    assert (drawn == resamples(kinds, 50, seed=3)).all()
    assert len(np.unique(drawn, axis=0)) > 40


@pytest.mark.parametrize(("shift", "area"), [(1, 0.760250), (2, 0.921350), (3, 0.983053)])
def test_the_interval_of_two_gaussians_holds_the_closed_form(shift, area):
    """Section 16.3: Phi(shift / sqrt 2)."""
    random = np.random.default_rng(0)
    score = np.concatenate([random.normal(0, 1, 2000), random.normal(shift, 1, 2000)])
    odd = np.arange(4000) >= 2000
    areas, _ = ranked(score, odd, resamples(odd.astype(str), 200))
    low, high = np.quantile(areas, [0.005, 0.995])
    assert low < area < high
    assert high - low < 0.05
