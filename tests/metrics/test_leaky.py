"""What papers compute on their test sets: faithful to them, and without a trace in the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from sparring.metrics.leaky import batch_statistics, equal_error, normal_f1, stretched


def test_stretching_changes_no_rank_and_survives_equal_scores():
    random = np.random.default_rng(0)
    score, odd = random.normal(size=200), random.random(200) < 0.5
    assert stretched(score).min() == 0
    assert stretched(score).max() == 1
    assert roc_auc_score(odd, stretched(score)) == roc_auc_score(odd, score)
    assert (stretched(np.full(3, 7.0)) == 0).all()


def test_at_equal_error_as_large_a_share_of_both_kinds_is_misjudged():
    random = np.random.default_rng(0)
    score = np.concatenate([random.normal(0, 1, 1000), random.normal(2, 1, 500)])
    odd = np.arange(1500) >= 1000
    flagged = score >= equal_error(score, odd)
    assert flagged[~odd].mean() == pytest.approx((~flagged[odd]).mean(), abs=0.003)
    assert flagged[~odd].mean() == pytest.approx(0.1587, abs=0.03)  # Phi(-1)
    score, odd = np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, False, True, True])
    assert equal_error(score, odd) == 0.3


def test_f1_of_the_normal_class():
    anomalous = np.array([False, False, False, True, True])
    flagged = np.array([False, False, True, True, False])
    assert normal_f1(anomalous, flagged) == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert normal_f1(anomalous, np.ones(5, bool)) == 0


def test_batch_statistics_destroy_what_a_homogeneous_batch_shares_and_leave_no_trace():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(1).eval()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    low, high = torch.randn(64, 1), torch.randn(64, 1) + 5
    with torch.no_grad(), batch_statistics(norm):
        apart = [norm(x).mean().item() for x in (low, high)]
        mixed = norm(torch.cat([low, high]))
    assert apart == pytest.approx([0, 0], abs=1e-5)
    assert [mixed[:64].mean().item(), mixed[64:].mean().item()] == pytest.approx([-1, 1], abs=0.1)
    assert not norm.training
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
