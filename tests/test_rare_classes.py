"""A class with one image: conditional models learn from it, and what judges them works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparring import evaluate, load, models, train
from sparring.data import open_source
from sparring.errors import UserError
from sparring.opening import hold_out
from sparring.probe import fit_linear, probe

pytestmark = pytest.mark.usefixtures("eager", "quick", "no_report")

RECIPES = {
    "cgan": {"hidden": [8, 8, 8], "units": [8, 8, 8], "latent": 4},
    "cdcgan": {"width": 4, "hidden": 8, "latent": 4},
    "wgan_gp": {"architecture": "residual", "conditional": True, "width": 4, "latent": 4, "critic_steps": 2},
}


@pytest.fixture
def lopsided(paint) -> Path:
    """Three classes, one of which has a single image to learn from and none to judge by."""
    paint(*(f"in/train/{kind}/{k}.png" for kind in ("cat", "dog") for k in range(12)), "in/train/owl/0.png")
    paint(*(f"in/test/{kind}/{k}.png" for kind in ("cat", "dog") for k in range(6)))
    return Path("in")


@pytest.mark.parametrize("model", RECIPES)
def test_conditional_models(call, lopsided, model):
    assert models.find(model)
    flags = [f"--set={key}={value}" for key, value in RECIPES[model].items()]
    call("train", model, lopsided, "--size", "16", "--batch", "8", "--rounds", "2", *flags, "--out", "run", "--json")
    assert load(Path("run")).sample(3, label="owl").shape == (3, 3, 16, 16)
    found = evaluate(load(Path("run")), samples=30)["distances"]["measures"]
    assert found["modes"]["of"] == 3
    assert 0 <= found["class_accuracy"]["value"] <= 1
    assert 0 <= found["transfer_accuracy"]["value"] <= 1


def test_a_class_of_one_is_learnt_where_others_are_held_out_to_judge_by():
    x = np.zeros((31, 2), np.float32)
    source = open_source((x, np.array([0] * 30 + [1])))
    for seed in range(20):
        fit, held = hold_out(source, seed, of_each=True)
        assert 1 in fit.labels
        assert len(fit) + len(held) == 31
        assert len(held) in (14, 15)


def test_a_probe(call, lopsided):
    run = train("dcgan", lopsided, out="run", size=16, recipe={"width": 4, "latent": 4, "batch": 8, "rounds": 1})
    found = probe(run)
    assert (found["fitted_on"], found["examples"]) == (25, 12)
    assert 0 <= found["discriminator"]["accuracy"]["value"] <= 1


def test_a_class_of_one_is_always_fitted_on():
    x = np.random.default_rng(0).normal(size=(31, 4))
    label = np.array([0] * 30 + [1])
    x[30] += 50
    for seed in range(8):
        svm = fit_linear(x, label, seed)
        assert (svm.predict(x) == label).all()
    assert fit_linear(x[28:], label[28:], 0).classes.tolist() == [0, 1], "too few of every class to choose by"


def test_one_class_alone_is_no_probe(call, paint):
    folder = paint(*(f"in/train/cat/{k}.png" for k in range(12)), "in/test/cat/0.png").parents[1]
    run = train("dcgan", folder, out="run", size=16, recipe={"width": 4, "latent": 4, "batch": 8, "rounds": 1})
    with pytest.raises(UserError, match="has images of one class only, and a probe tells classes apart: give more"):
        probe(run)
