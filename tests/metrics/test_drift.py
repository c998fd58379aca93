"""The tests for drift keep their level, find a shift, and account for the calibration being a finite sample."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from sparring.errors import UserError
from sparring.metrics.conformal import Calibration
from sparring.metrics.drift import ALPHA, WINDOW, find_drift


def found(rng, calibration, recent, shift=0.0, scale=1.0, rate=0.05):
    return find_drift(Calibration(rng.normal(size=calibration)), scale * rng.normal(size=recent) + shift, rate)


@pytest.mark.parametrize("calibration", [30, 60, 400])
def test_normal_examples_raise_no_false_alarm_about_drift(calibration):
    rng = np.random.default_rng(calibration)
    trials, level = 300, 0.05
    p_values = np.array([found(rng, calibration, WINDOW).p_value for _ in range(trials)])
    # At most 1.96 standard errors above the level, where a plain binomial test would be wrong far more often.
    assert (p_values <= level).mean() <= level + 1.96 * np.sqrt(level * (1 - level) / trials)
    assert (p_values <= ALPHA).sum() <= 3


def test_the_binomial_test_would_take_the_calibrations_luck_for_drift():
    rng = np.random.default_rng(0)
    ours, plain = [], []
    for _ in range(300):
        drift = found(rng, 60, 1000)
        ours.append(drift.alarms_p)
        plain.append(binomtest(drift.alarms, 1000, 3 / 61, alternative="greater").pvalue)
    assert np.mean(np.array(ours) <= 0.05) <= 0.075
    assert np.mean(np.array(plain) <= 0.05) > 0.25


def test_with_a_large_calibration_it_is_the_binomial_test():
    calibration = Calibration(np.arange(99_999.0))
    score = np.where(np.arange(200) < 19, 99_990.0, 40_000.0)
    expected = binomtest(19, 200, 0.05, alternative="greater").pvalue
    assert find_drift(calibration, score, 0.05).alarms_p == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("shift", "scale"), [(0.6, 1), (-0.6, 1), (0, 0.5), (0, 2)])
def test_a_shift_is_found(shift, scale):
    rng = np.random.default_rng(0)
    assert np.mean([found(rng, 400, WINDOW, shift, scale).drifted for _ in range(30)]) >= 0.9


def test_a_few_strange_ones_are_found_by_their_number():
    rng = np.random.default_rng(0)
    calibration = Calibration(rng.normal(size=1000))
    score = np.r_[rng.normal(size=170), rng.normal(size=30) + 6]
    drift = find_drift(calibration, score, 0.05)
    assert drift.drifted
    assert drift.alarms >= 30
    assert "calibrate anew" in drift.sentence()
    assert drift.as_dict()["drifted"] is True


def test_without_any_drift_it_says_so():
    drift = find_drift(Calibration(np.arange(100.0)), np.arange(0, 100, 5) + 0.5, 0.05)
    assert not drift.drifted
    assert drift.sentence().startswith("No sign of drift: 1 of 20 are flagged")


def test_where_nothing_can_alarm_the_scores_still_speak():
    drift = find_drift(Calibration(np.arange(10.0)), np.full(200, 99.0), 0.05)
    assert (drift.alarms, drift.alarms_p) == (0, 1.0)
    assert drift.drifted


def test_no_scores():
    with pytest.raises(UserError, match="give at least one"):
        find_drift(Calibration([1.0]), [], 0.5)
