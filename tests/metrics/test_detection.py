import json
import time

import numpy as np
import pytest
from scipy.stats import beta, norm
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, recall_score, roc_auc_score, roc_curve

from sparring.errors import UserError
from sparring.metrics import detection
from sparring.metrics.conformal import Calibration
from sparring.metrics.detection import judge, share


def gaussians(normal, odd, shift=2.0, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    score = np.concatenate([rng.normal(size=normal), rng.normal(shift, 1, size=odd)])
    return (np.round(score, 1) if ties else score), np.arange(normal + odd) >= normal, rng.normal(size=199)


def fpr_at_95(truth, score):
    false, true, _ = roc_curve(truth, score)
    return false[true >= 0.95][0]


def test_auroc_of_two_gaussians_is_the_closed_form():
    score, truth, calibration = gaussians(20_000, 20_000)
    found = judge(score, truth, Calibration(calibration).p_value(score), 0.05, resamples=50)["auroc"]
    assert found["value"] == pytest.approx(norm.cdf(2 / np.sqrt(2)), abs=0.003)
    assert found["low"] < 0.921350 < found["high"]


@pytest.mark.parametrize("ties", [False, True])
def test_every_number_is_that_of_scikit_learn(ties):
    score, truth, calibration = gaussians(300, 120, ties=ties)
    p = Calibration(calibration).p_value(score)
    found, flagged = judge(score, truth, p, 0.05, resamples=10), p <= 0.05
    expected = {
        "auroc": roc_auc_score(truth, score),
        "average_precision": average_precision_score(truth, score),
        "fpr_at_95_tpr": fpr_at_95(truth, score),
        "f1": f1_score(truth, flagged),
        "accuracy": accuracy_score(truth, flagged),
        "recall": recall_score(truth, flagged),
    }
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, abs=1e-12), name
        assert found[name]["low"] <= value <= found[name]["high"], name


@pytest.mark.parametrize("ties", [False, True])
def test_the_resampled_numbers_are_those_of_scikit_learn_on_the_resample(ties):
    """Draw what the bootstrap draws and let scikit-learn measure it."""
    score, truth, calibration = gaussians(90, 40, ties=ties)
    flagged = Calibration(calibration).p_value(score) <= 0.05
    draws = detection._bootstrap(detection.Labelled(score, truth, flagged), {}, seed=7, resamples=20)
    rng = np.random.default_rng(7)
    odd, normal = np.flatnonzero(truth), np.flatnonzero(~truth)
    for i in range(20):
        chosen = np.concatenate([odd[rng.integers(40, size=40)], normal[rng.integers(90, size=90)]])
        t, s, f = truth[chosen], score[chosen], flagged[chosen]
        assert draws["auroc"][i] == pytest.approx(roc_auc_score(t, s), abs=1e-12)
        assert draws["average_precision"][i] == pytest.approx(average_precision_score(t, s), abs=1e-12)
        assert draws["fpr_at_95_tpr"][i] == pytest.approx(fpr_at_95(t, s), abs=1e-12)
        assert draws["f1"][i] == pytest.approx(f1_score(t, f), abs=1e-12)
        assert draws["accuracy"][i] == pytest.approx(accuracy_score(t, f), abs=1e-12)
        assert draws["recall"][i] == pytest.approx(recall_score(t, f), abs=1e-12)


def test_the_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    inside = 0
    for seed in range(60):
        score, truth, _ = gaussians(80, 80, seed=1000 + seed)
        found = judge(score, truth, np.ones(160), 0.05, resamples=80)["auroc"]
        inside += found["low"] <= 0.9213503 <= found["high"]
    assert 0.86 <= inside / 60 <= 1  # 95 % nominally; the percentile interval is a little short at n = 80, 0.93


def test_the_share_has_the_exact_interval():
    found = share(47, 980)
    assert found["value"] == 47 / 980
    assert found["low"] == pytest.approx(beta.ppf(0.025, 47, 980 - 47 + 1), abs=1e-9)
    assert found["high"] == pytest.approx(beta.ppf(0.975, 48, 980 - 47), abs=1e-9)
    assert share(0, 10)["low"] == 0
    assert share(10, 10)["high"] == 1
    assert share(0, 10)["high"] == pytest.approx(1 - 0.025**0.1, abs=1e-9)


@pytest.mark.parametrize(("alarms", "holds"), [(20, False), (40, True), (47, True), (80, False)])
def test_false_alarms_hold_where_what_was_asked_lies_in_the_interval(alarms, holds):
    p = np.where(np.arange(980) < alarms, 0.01, 0.5)
    found = judge(np.zeros(980), np.zeros(980), p, 0.05, resamples=2)["false_alarms"]
    assert (found["count"], found["of"], found["asked"], found["holds"]) == (alarms, 980, 0.05, holds)


def test_the_expected_range_holds_95_of_100_calibrations():
    rng = np.random.default_rng(0)
    inside, trials, n, m = 0, 1000, 99, 200
    expected = judge(np.zeros(m), np.zeros(m), np.ones(m), 0.05, resamples=2, calibrated=n)["false_alarms"]["expected"]
    for _ in range(trials):
        calibration = Calibration(rng.normal(size=n))
        inside += expected["low"] <= calibration.strange(rng.normal(size=m), 0.05).mean() <= expected["high"]
    assert 0.94 <= inside / trials <= 0.99  # discrete, so a little above 95 %


def test_each_kind_is_held_against_all_normal_examples():
    score, truth, calibration = gaussians(200, 100)
    score[250:] += 3
    kinds = ["good"] * 200 + ["crack"] * 50 + ["hole"] * 50
    p = Calibration(calibration).p_value(score)
    found = judge(score, truth, p, 0.05, kinds, resamples=200)
    crack, hole, good = found["kinds"]
    assert [k["kind"] for k in found["kinds"]] == ["crack", "hole", "good"]
    assert [k["n"] for k in found["kinds"]] == [50, 50, 200]
    assert crack["auroc"]["value"] == pytest.approx(roc_auc_score(truth[:250], score[:250]))
    assert crack["auroc"]["low"] < crack["auroc"]["value"] < crack["auroc"]["high"] < hole["auroc"]["value"]
    assert good["auroc"] is None
    assert not good["anomalous"]
    assert good["flagged"]["value"] == found["false_alarms"]["value"]
    assert hole["flagged"]["count"] == int((p[250:] <= 0.05).sum())


def test_a_kind_with_normal_and_anomalous_examples_stands_twice():
    found = judge([0, 1, 2, 3], [False, True, False, True], [1, 1, 1, 0.01], 0.05, ["a"] * 4, resamples=5)
    assert [(k["kind"], k["anomalous"], k["n"]) for k in found["kinds"]] == [("a", True, 2), ("a", False, 2)]


def test_one_class_alone_gives_what_can_be_given():
    normal = judge([0.1, 0.2, 0.3], [0, 0, 0], [0.9, 0.5, 0.01], 0.05, ["g"] * 3, resamples=10, calibrated=99)
    assert all(normal[name] is None for name in ("auroc", "average_precision", "fpr_at_95_tpr", "f1", "recall"))
    assert normal["accuracy"]["value"] == pytest.approx(2 / 3)
    assert normal["false_alarms"]["count"] == 1
    odd = judge([0.1, 0.2, 0.3], [1, 1, 1], [0.9, 0.5, 0.01], 0.05, ["d"] * 3, resamples=10, calibrated=99)
    assert all(odd[name] is None for name in ("auroc", "average_precision", "fpr_at_95_tpr", "false_alarms"))
    assert odd["recall"]["value"] == pytest.approx(1 / 3)
    assert odd["kinds"][0]["auroc"] is None
    assert odd["counts"] == {
        "examples": 3, "normal": 0, "anomalous": 3, "flagged": 1, "found": 1, "missed": 2, "false_alarms": 0
    }  # fmt: skip


def test_a_constant_score_is_a_guess():
    found = judge(np.ones(30), np.arange(30) < 10, np.ones(30), 0.05, resamples=20)
    assert found["auroc"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert found["average_precision"]["value"] == pytest.approx(1 / 3)
    assert found["fpr_at_95_tpr"]["value"] == 1
    assert found["f1"]["value"] == 0


def test_the_result_is_plain_json_and_depends_on_the_seed_alone():
    score, truth, calibration = gaussians(50, 50)
    p = Calibration(calibration).p_value(score)
    first, again, other = (judge(score, truth, p, 0.05, resamples=50, seed=s, calibrated=199) for s in (1, 1, 2))
    assert json.loads(json.dumps(first, allow_nan=False)) == first == again
    assert other["auroc"]["value"] == first["auroc"]["value"]
    assert other["auroc"] != first["auroc"]


@pytest.mark.parametrize(
    ("score", "truth", "p", "kinds"),
    [
        ([0.0, np.nan], [0, 1], [1, 1], None),
        ([0.0, np.inf], [0, 1], [1, 1], None),
        ([0.0, 1.0], [0, 1], [1, np.nan], None),
        ([0.0], [0, 1], [1], None),
        ([0.0, 1.0], [0, 1], [1, 1], ["a"]),
        ([[0.0]], [[0]], [[1]], None),
        ([], [], [], None),
    ],
)
def test_what_cannot_be_judged_is_refused(score, truth, p, kinds):
    with pytest.raises(UserError):
        judge(score, truth, p, 0.05, kinds)


def test_it_is_fast_enough_to_be_run_every_time():
    score, truth, calibration = gaussians(1_000, 9_000)
    p = Calibration(calibration).p_value(score)
    start = time.process_time()
    judge(score, truth, p, 0.05, [str(i % 10) for i in range(10_000)], resamples=200)
    assert time.process_time() - start < 4  # 1,000 resamples within 20 seconds
