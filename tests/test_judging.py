"""A generator is measured while it trains, by examples that it never sees, and the best weights may be kept."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sparring import load, train
from sparring.errors import UserError
from sparring.features import Lesson
from sparring.generation import seen
from sparring.judging import CLOSENESS, DISTANCE, MADE, Examiner
from sparring.preparation import ask, set_up

WIDTH = 3  # of the features here


@pytest.fixture
def points(tmp_path):
    """A file of 400 points near a line in space: features, which are their own description."""
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 1)) @ np.array([[1.0, -1.0, 0.5]]) + 0.1 * random.normal(size=(400, WIDTH))
    np.save(tmp_path / "points.npy", x.astype(np.float32))
    return tmp_path / "points.npy"


def lines_of(run):
    return [json.loads(text) for text in (run.folder / "journal.jsonl").read_text().splitlines()]


RECIPE = {"rounds": 60, "batch": 32, "hidden": (16,), "units": (16,), "output": "linear"}


def test_distances_are_noted(points, tmp_path):
    run = train("gan", points, out=tmp_path / "run", variant="mlp", recipe=RECIPE, judge_every=20)
    judged = {line["round"]: line for line in lines_of(run) if DISTANCE in line}
    assert list(judged) == [20, 40, 60]
    assert all(line[DISTANCE] == -line[CLOSENESS] for line in judged.values())
    assert run.facts["held_out"] == 80
    assert run.spec.count == 320


def test_judging_changes_nothing_but_the_data(points, tmp_path):
    runs = [
        train("gan", points, out=tmp_path / str(every), variant="mlp", recipe=RECIPE, judge_every=every)
        for every in (10, 60)
    ]
    one, other = ((run.folder / "model.safetensors").read_bytes() for run in runs)
    assert one == other


def test_the_best_weights_are_kept(points, tmp_path):
    settings = {"variant": "mlp", "recipe": RECIPE, "judge_every": 10}
    last = train("gan", points, out=tmp_path / "last", **settings)
    best = train("gan", points, out=tmp_path / "best", **settings, keep_best=True)
    distances = {line["round"]: line[DISTANCE] for line in lines_of(best) if DISTANCE in line}
    assert distances == {line["round"]: line[DISTANCE] for line in lines_of(last) if DISTANCE in line}
    at = min(distances, key=distances.get)
    shorter = train("gan", points, out=tmp_path / "shorter", **settings | {"recipe": RECIPE | {"rounds": at}})
    same = (best.folder / "model.safetensors").read_bytes() == (shorter.folder / "model.safetensors").read_bytes()
    assert same
    assert load(best.folder).sample(4).shape == (4, WIDTH)


def test_images_are_judged_by_a_classifier_of_the_training_data(tmp_path, monkeypatch):
    monkeypatch.setattr("sparring.features.LESSON", Lesson(epochs=1, batch=32))
    recipe = {"rounds": 2, "batch": 8, "latent": 4, "width": 4}
    run = train("dcgan", "digits", out=tmp_path / "run", size=16, variant="four", recipe=recipe, judge_every=2)
    (line,) = (line for line in lines_of(run) if DISTANCE in line)
    assert line[DISTANCE] > 0


def test_what_is_held_out_to_judge_by_does_not_count_as_learnt(points, tmp_path):
    run = train("gan", points, out=tmp_path / "run", variant="mlp", recipe=RECIPE, judge_every=60)
    whole, learnt = seen(run)
    assert (len(whole), len(learnt)) == (400, run.spec.count) == (400, 320)


def test_classes_are_asked_for_as_often_as_the_data_have_them(tmp_path, monkeypatch):
    """As `evaluate` asks, so that the weights that are kept are the best by what is reported."""
    monkeypatch.setattr("sparring.features.LESSON", Lesson(epochs=1, batch=32))
    labels = np.repeat([0, 1], [270, 30])
    np.savez(tmp_path / "rare.npz", x=np.random.default_rng(0).integers(256, size=(300, 16, 16, 1), dtype=np.uint8),
             y=labels)  # fmt: skip
    job = ask("cdcgan", tmp_path / "rare.npz", {"rounds": 1, "width": 2, "batch": 8}, judge_every=1)
    examiner = Examiner(set_up(job))
    assert np.bincount(examiner.asked)[1] / MADE == pytest.approx(0.1, abs=0.03)
    asked = []
    game = set_up(job).game.eval()
    monkeypatch.setattr(game, "generate", lambda n, label: asked.append(label) or torch.zeros(n, 1, 16, 16))
    assert examiner(game, "train", 1)
    assert torch.equal(torch.cat(asked), examiner.asked)


@pytest.mark.parametrize(
    ("model", "settings", "sentence"),
    [
        ("gan", {"keep_best": True}, "--keep-best keeps what --judge-every finds best"),
        ("ganomaly", {"judge_every": 5}, "--judge-every is for generators, and ganomaly is a detector"),
    ],
)
def test_what_cannot_be_judged(points, tmp_path, model, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        train(model, points, out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_too_few_are_held_out(tmp_path):
    np.save(tmp_path / "few.npy", np.zeros((3, 4), np.float32))
    with pytest.raises(UserError, match="--judge-every needs 4 examples at least"):
        train("gan", tmp_path / "few.npy", out=tmp_path / "run", variant="mlp", recipe=RECIPE, judge_every=5)
    assert not (tmp_path / "run").exists()


def test_a_detector_is_looked_at_on_examples_that_it_never_trains_on(eager, tmp_path, monkeypatch):
    from sparring.judging import INSPECTED, REPORT, SELECT, Inspector
    from sparring.preparation import ask, set_up
    from tiny import TINY

    setup = set_up(ask("ganomaly", "digits", {**TINY, "rounds": 2}, normal=("0",), size=16))
    inspector = Inspector(setup, ("0",), "test", most=30)
    assert set(inspector.parts) == {SELECT, REPORT}
    sound, strange = inspector.parts[SELECT]
    assert set(sound.names) <= set(setup.held.names)
    assert "0" not in strange.classes
    assert all(name.startswith("digits/train/") for name in strange.names)
    assert all(name.startswith("digits/test/") for part in inspector.parts[REPORT] for name in part.names)
    assert all(len(part) <= 30 < INSPECTED for pair in inspector.parts.values() for part in pair)
    scores = iter([np.zeros(3), np.ones(4), np.ones(3), np.array([0.0, 2.0])])
    monkeypatch.setattr("sparring.judging.scores_of", lambda game, source: next(scores))
    assert inspector(setup.game, "train", 1) == {SELECT: 1.0, REPORT: 0.5}
    assert set(Inspector(setup, ("0",)).parts) == {SELECT}


@pytest.mark.parametrize(("rounds", "every"), [(1000, 40), (76, 7), (5, 1)])
def test_looks_come_every_epoch_and_at_least_ten_a_phase(rounds, every):
    from types import SimpleNamespace

    from sparring.training import epoch_of

    game = SimpleNamespace(rounds_in=lambda epochs, phase: 40 * epochs)
    assert epoch_of(game, SimpleNamespace(rounds=rounds)) == every


def test_looks_follow_the_epochs_of_their_phase():
    from sparring.models import find
    from sparring.protocol import Spec
    from sparring.training import epoch_of

    entry = find("ognet")
    game = entry.game(Spec((9,), 64 * 30), entry.recipe(second=600))
    assert [epoch_of(game, phase) for phase in game.phases()] == [30, 10]
    entry = find("fanogan")
    game = entry.game(Spec((9,), 64 * 30), entry.recipe())
    assert [epoch_of(game, phase) for phase in game.phases()] == [6, 30]
