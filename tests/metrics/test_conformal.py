import math

import numpy as np
import pytest
from scipy.stats import binomtest

from sparring.errors import UserError
from sparring.metrics.conformal import Calibration, allowed, by_halves, too_few


def test_p_values_are_the_formula():
    calibration = Calibration([3.0, 1.0, 2.0, 2.0])
    score = np.array([[0.5, 1.0, 1.5], [2.0, 3.0, 3.5]])
    expected = [[(1 + sum(c >= s for c in (1, 2, 2, 3))) / 5 for s in row] for row in score]
    np.testing.assert_array_equal(calibration.p_value(score), expected)
    assert calibration.p_value(math.inf) == 0.2
    assert calibration.p_value(-math.inf) == 1


def test_p_values_are_super_uniform_on_exchangeable_data():
    """P(p <= a) <= a over fresh calibrations, with and without ties, and not much below it without."""
    rng = np.random.default_rng(0)
    trials, n = 8_000, 40
    for draw, tight in ((rng.standard_cauchy, True), (lambda size: rng.integers(0, 4, size).astype(float), False)):
        scores = draw(size=(trials, n + 1))
        p = np.array([Calibration(row[1:]).p_value(row[0]) for row in scores])
        for rate in (0.025, 0.05, 0.1, 0.5):
            hits = int((p <= rate).sum())
            exact = allowed(n, rate) / (n + 1)
            assert exact <= rate
            assert binomtest(hits, trials, exact, alternative="greater").pvalue > 1e-4
            if tight:
                assert binomtest(hits, trials, exact).pvalue > 1e-4


@pytest.mark.parametrize("n", [1, 9, 19, 20, 39, 99, 100, 333])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05, 0.07, 0.1, 0.15, 0.29, 0.3, 0.57, 0.9, 0.999])
def test_the_threshold_is_where_the_p_value_says(n, rate):
    rng = np.random.default_rng(n)
    for scores in (rng.normal(size=n), rng.integers(0, 5, n).astype(float)):
        calibration = Calibration(scores)
        near = np.concatenate([scores, np.nextafter(scores, math.inf), np.nextafter(scores, -math.inf), [-1e9, 1e9]])
        by_p = calibration.p_value(near) <= rate
        np.testing.assert_array_equal(near > calibration.threshold(rate), by_p)
        np.testing.assert_array_equal(calibration.strange(near, rate), by_p)


@pytest.mark.parametrize(("rate", "needed"), [(0.05, 19), (0.01, 99), (0.001, 999), (0.3, 3), (0.5, 1), (0.9, 1)])
def test_the_smallest_calibration_that_can_alarm(rate, needed):
    assert Calibration.smallest(rate) == needed
    enough = Calibration(np.arange(needed))
    assert enough.warning(rate) is None
    assert enough.strange(1e9, rate)
    if needed > 1:
        few = Calibration(np.arange(needed - 1))
        assert few.threshold(rate) == math.inf
        assert not few.strange(math.inf, rate)
        said = few.warning(rate)
        assert said is not None
        assert f"{needed:,}" in said
        assert f"{needed - 1:,}" in said


@pytest.mark.parametrize("rate", [0, 1, -0.1, 5, math.nan])
def test_a_rate_out_of_range_is_refused(rate):
    calibration = Calibration([1.0])
    for ask in (calibration.threshold, calibration.smallest, calibration.warning, lambda r: calibration.strange(0, r)):
        with pytest.raises(UserError, match="between 0 and 1"):
            ask(rate)


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [math.inf]])
def test_scores_that_cannot_calibrate_are_refused(scores):
    with pytest.raises(UserError):
        Calibration(scores)


def test_a_score_that_is_nan_is_refused():
    with pytest.raises(UserError, match="NaN"):
        Calibration([1.0]).p_value([0.0, math.nan])


def test_save_and_load(tmp_path):
    calibration = Calibration(np.random.default_rng(0).normal(size=100))
    path = tmp_path / "calibration.npy"
    calibration.save(path)
    np.testing.assert_array_equal(Calibration.load(path).scores, calibration.scores)
    assert [p.name for p in tmp_path.iterdir()] == ["calibration.npy"]


def test_files_that_hold_no_calibration_are_refused(tmp_path):
    path = tmp_path / "calibration.npy"
    with pytest.raises(UserError, match=r"Cannot read .*: go on with --resume, or set them .* with sparring calibrate"):
        Calibration.load(path)
    Calibration(np.arange(100.0)).save(path)
    whole = path.read_bytes()
    for broken in (b"", whole[:40], whole[:-8], b"hello"):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="Cannot read"):
            Calibration.load(path)
    for array in (np.array(["a"]), np.array([{}], dtype=object), np.ones((2, 2)), np.float64(1)):
        np.save(path, array, allow_pickle=True)
        with pytest.raises(UserError):
            Calibration.load(path)


def test_halves_calibrate_each_other():
    normal = np.arange(60) < 41
    score = np.arange(60.0)
    p = by_halves(score, normal, seed=3)
    assert (p == by_halves(score, normal, seed=3)).all()
    assert (p != by_halves(score, normal, seed=4)).any()
    assert set(p[~normal]) <= {1 / 21, 1 / 22}, "stranger than all 20 or 21 of the other half"
    rates = [(by_halves(np.random.default_rng(k).normal(size=60), normal, k)[normal] <= 0.1).mean() for k in range(300)]
    assert np.mean(rates) < 0.105


def test_an_alarm_at_one_per_cent_needs_99():
    assert too_few(99, 0.01) is None
    assert "that takes 99 normal examples for calibration and there are 98" in too_few(98, 0.01)
