"""What chooses the weights of an open-set model: made examples, left-out classes, late epochs, and what overlaps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparring import Detector
from sparring.data import open_source
from sparring.errors import UserError
from sparring.preparation import ask, set_up
from sparring.selection import Selector, among, auroc, made, unlike, without
from sparring.turns import rounds_by_turns

X = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
Y = np.arange(300) % 4
X[np.arange(300), Y] += 8
TINY = {"batch": 32, "epochs": 3, "latent": 4, "hidden": [8], "units": [16, 8], "rate": 3e-3}


def setup_of(recipe=TINY, given=None, **settings):
    return set_up(ask("opengan", "array", recipe, normal=("all",), **settings), open_source((X, Y)), given)


def test_made_open_examples():
    x, labels = torch.from_numpy(X), Y.astype(np.int64)
    kinds = made(x, labels, 0)
    assert list(kinds) == ["mixed", "shuffled", "noisy"]
    assert all(part.shape == x.shape and part.dtype == torch.float32 for part in kinds.values())
    # Every number of the shuffled ones is some example's, and together they are all of them.
    assert torch.equal(kinds["shuffled"].sort(0).values, x.sort(0).values)
    assert not torch.equal(kinds["shuffled"], x)
    # A mixture of two classes is high in two numbers, and in none as high as an example.
    high = kinds["mixed"][:, :4].sort(1).values
    assert (high[:, 3] < 7.5).float().mean() > 0.9
    assert (high[:, 2] > 1.2).float().mean() > 0.9
    torch.testing.assert_close((kinds["noisy"] - x).std(0), x.std(0), rtol=0.2, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(kinds.values(), made(x, labels, 0).values(), strict=True))


def test_images_stay_in_their_range():
    x = torch.rand(20, 1, 8, 8) * 2 - 1
    kinds = made(x, None, 0)
    assert all(part.shape == x.shape and part.abs().max() <= 1 for part in kinds.values())


def test_examples_are_shared_out_once():
    """Nothing is learnt from, selected by and calibrated on at once."""
    setup = setup_of()
    rows = [{row.tobytes() for row in part.read(slice(None))} for part in (setup.fit, setup.select, setup.held)]
    assert [len(part) for part in rows] == [240, 30, 30]
    assert len(set.union(*rows)) == 300


def test_the_selector_looks_at_open_examples_where_they_are_given():
    setup = setup_of()
    found = Selector(setup)(setup.game.eval(), "train", 1)
    assert set(found) == {"auroc", "auroc_mixed", "auroc_shuffled", "auroc_noisy"}
    assert found["auroc"] == pytest.approx(np.mean([v for k, v in found.items() if k != "auroc"]))
    setup = setup_of(given={"open": open_source(X[:9] * 0)})
    assert set(Selector(setup)(setup.game.eval(), "train", 1)) == {"auroc", "auroc_open"}
    assert "9 real open ones" in setup.selected_by


def test_the_selectors_auroc():
    assert auroc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1
    assert auroc(np.array([0.0, 2.0]), np.array([0.0, 2.0])) == 0.5
    assert auroc(np.array([0.0, np.nan]), np.array([1.0])) == 0


def test_classes_left_out_in_turn():
    setup = setup_of(select="classes")
    assert setup.select is None
    assert "left out in turn" in setup.selected_by
    rounds = rounds_by_turns(setup)
    assert rounds in {setup.game.period * epochs for epochs in (1, 2, 3)}
    assert rounds == rounds_by_turns(setup)


def test_late_epochs_are_not_selected():
    setup = setup_of(TINY | {"late": 2})
    assert setup.select is None
    assert setup.selected_by == "nothing: the scores of 2 late epochs are averaged"
    with pytest.raises(UserError, match="chooses no weights by open examples"):
        setup_of(TINY | {"late": 2}, given={"open": open_source(X[:9])})


def test_known_classes_are_left_out_of_open_examples():
    found = without(open_source((X, Y)), ("1", "3"))
    assert {found.classes[k] for k in found.labels} == {"0", "2"}
    assert found.notes[-1].startswith(
        "150 examples of 'array' were left out, because their classes are called as known"
    )
    assert without(open_source(X), ("1",)).notes == ()
    with pytest.raises(UserError, match=r"All 300 examples of 'array' are of known classes: give some of others"):
        without(open_source((X, Y)), ("0", "1", "2", "3"))


def test_examples_that_are_also_elsewhere():
    mixed = open_source(np.concatenate([X[:5], X[:15] + 1]))
    assert among(mixed, [open_source(X[3:]), open_source(X[:2])]).nonzero()[0].tolist() == [0, 1, 3, 4]
    assert not among(mixed, []).any()


def test_what_is_learnt_from_chooses_nothing():
    outliers = open_source(X[:10])
    left = unlike(open_source(X[5:30]), outliers)
    assert np.array_equal(left.read(slice(None)), X[10:30])
    assert left.notes[-1].startswith("5 open examples choose no weights")
    apart = open_source(X[10:20])
    assert unlike(apart, outliers) is apart
    with pytest.raises(
        UserError, match=r"All 4 open examples of 'array' .* are outliers to learn from, too: give others"
    ):
        unlike(open_source(X[:4]), outliers)


def test_as_an_outlier_detector():
    detector = Detector("opengan", recipe=TINY).fit(X)
    assert set(detector.predict(X[:50]).tolist()) <= {-1, 1}
