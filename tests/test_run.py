"""A run: what is in its folder, and what holds of the scores that it gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open

from sparring import evaluate, load, train
from sparring.data import open_source
from sparring.errors import UserError
from sparring.job import Job, read_run
from tiny import TINY

pytestmark = pytest.mark.usefixtures("eager")


def test_what_a_run_holds(detector):
    there = {path.name for path in detector.iterdir()}
    assert there == {
        "calibration.npy", "checkpoint", "journal.jsonl", "map_scale.npy", "model.safetensors", "run.yaml", "samples",
    }  # fmt: skip
    lines = [json.loads(text) for text in (detector / "journal.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == list(range(1, 13))
    assert set(lines[0]) >= {"phase", "seconds", "images_per_second", "waited", "generator/contextual"}
    grids = sorted(path.name for path in (detector / "samples").iterdir())
    assert grids == [f"{done:07d}.png" for done in (2, 4, 6, 8, 10, 12)]
    with Image.open(detector / "samples" / grids[0]) as grid:
        assert grid.mode == "L"
    with safe_open(detector / "model.safetensors", "pt") as weights:
        assert weights.metadata() == {"model": "GANomaly"}


def test_run_yaml_describes_the_job_completely(detector):
    job, facts = read_run(detector)
    assert Job.model_validate(yaml.safe_load((detector / "run.yaml").read_text())["job"]) == job
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert (job.model, job.data, job.normal, job.size, job.seed) == ("ganomaly", "digits", ("0",), 16, 0)
    assert set(job.recipe) == set(load(detector).game.recipe.as_dict())
    assert facts["spec"] == {"shape": [1, 16, 16], "count": 100, "classes": ["0"], "caption": 0}
    assert (facts["normal"], facts["held_out"], facts["rounds"], facts["skipped"]) == (["0"], 25, 12, [])
    assert set(facts["versions"]) == {"python", "sparring", "torch", "numpy", "lightning-fabric"}
    assert {"machine", "git"} <= set(facts)


def test_the_same_job_ends_with_the_same_weights(detector, tmp_path):
    job, _ = read_run(detector)
    settings = job.model_dump(exclude={"model", "data", "recipe"})
    again = train(job.model, job.data, out=tmp_path / "again", recipe=job.recipe, **settings)
    for name in ("model.safetensors", "calibration.npy", "map_scale.npy"):
        assert (again.folder / name).read_bytes() == (detector / name).read_bytes()
    other = train(job.model, job.data, out=tmp_path / "other", recipe=job.recipe, **{**settings, "seed": 1})
    assert (other.folder / "model.safetensors").read_bytes() != (detector / "model.safetensors").read_bytes()


def test_a_run_is_opened_as_it_was_trained(detector, generator, on_features):
    run = load(str(detector))
    assert run.normal == ("0",)
    assert run.spec.shape == (1, 16, 16)
    assert not run.game.training
    assert len(run.calibration) == 25
    assert load(on_features).spec.shape == (6,)
    assert load(on_features).normal == ()
    assert load(generator).facts["held_out"] == 0


def test_samples_follow_from_the_seed(generator):
    run = load(generator)
    state = torch.get_rng_state()
    made = run.sample(70, seed=3)
    assert made.shape == (70, 1, 16, 16)
    assert made.dtype == torch.float32
    assert made.abs().max() <= 1
    assert torch.equal(made, load(generator).sample(70, seed=3))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_scores_do_not_depend_on_the_batch(detector, on_features, features, monkeypatch, size):
    for folder, data in ((detector, "digits"), (on_features, features)):
        run = load(folder)
        source = run.open(data, split="test" if data == "digits" else None, limit=100)
        expected = run.raw_scores(source)
        order = np.random.default_rng(0).permutation(len(source))
        with monkeypatch.context() as patch:
            patch.setattr("sparring.run.BATCH", size)
            np.testing.assert_allclose(run.raw_scores(source), expected, rtol=1e-6)
            np.testing.assert_allclose(run.raw_scores(source.take(order)), expected[order], rtol=1e-6)


def test_verdicts_agree_with_each_other(detector):
    run = load(detector)
    for rate in (0.04, 0.05, 0.3):
        found = run.score("digits", rate, limit=150)
        assert ((found.p_value > 0) & (found.p_value <= 1)).all()
        assert np.array_equal(found.flagged, found.p_value <= rate)
        assert np.array_equal(found.flagged, found.score > found.threshold)
        assert np.array_equal(np.argsort(-found.p_value, kind="stable")[:1], [np.argmax(found.p_value)])
        assert (np.diff(found.p_value[np.argsort(found.score)]) <= 0).all()
    assert found.anomalous(["0"]).tolist() == [kind != "0" for kind in found.kinds]
    assert found.anomalous([]) is None


def test_p_values_count_the_calibration_scores(detector):
    run = load(detector)
    found = run.score("digits", limit=50)
    held = run.calibration.scores
    expected = [(1 + (held >= score).sum()) / (len(held) + 1) for score in found.score]
    np.testing.assert_allclose(found.p_value, expected)


def test_calibration_examples_were_never_trained_on(detector):
    from sparring.preparation import set_up

    setup = set_up(read_run(detector)[0])
    fit, held = set(setup.fit.names), set(setup.held.names)
    assert not fit & held
    zeros = open_source("digits", classes=["0"])
    assert fit | held == set(zeros.names)
    np.testing.assert_allclose(np.sort(load(detector).raw_scores(setup.held)), load(detector).calibration.scores)


def test_maps_are_residuals(detector):
    run = load(detector)
    source = run.open("digits", limit=5)
    maps = np.stack(list(run.maps(source)))
    x = torch.from_numpy(source.read(slice(None))).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        expected = (x - run.game.reconstruct(x)).abs().mean(1).numpy()
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    low, high = run.map_scale
    assert 0 < low < high


def test_data_of_another_form_are_refused(detector, features):
    with pytest.raises(UserError, match=r"of shape \(6,\), and the run was trained on \(1, 16, 16\)"):
        load(detector).score(features, split=None)


def test_colour_is_turned_into_what_the_run_saw(detector, photos):
    assert load(detector).open(photos, split=None).spec().shape == (1, 16, 16)


def test_bf16_trains_and_scores(tmp_path):
    settings = {"normal": ("0",), "size": 16, "recipe": {**TINY, "rounds": 3}, "precision": "bf16"}
    run = train("ganomaly", "digits", out=tmp_path / "run", **settings)
    assert run.job.precision == "bf16"
    assert np.isfinite(run.calibration.scores).all()
    assert all(parameter.dtype == torch.float32 for parameter in run.game.parameters())


def test_averaged_weights_are_what_a_run_keeps(tmp_path):
    recipe = {**TINY, "rounds": 3, "ema": 0.9}
    plain = train("dcgan", "digits", out=tmp_path / "plain", size=16, recipe={**recipe, "ema": 0.0}).game.state_dict()
    smooth = train("dcgan", "digits", out=tmp_path / "smooth", size=16, recipe=recipe).game.state_dict()
    moved = {key.partition(".")[0] for key in plain if not torch.equal(plain[key], smooth[key])}
    assert moved == {"generator"}


def test_tensorboard_events_are_written(tmp_path):
    pytest.importorskip("tensorboard")
    recipe = {**TINY, "rounds": 2}
    train("dcgan", "digits", out=tmp_path / "run", size=16, recipe=recipe, tensorboard=True)
    assert list((tmp_path / "run" / "events").glob("events.out.*"))


def test_tensorboard_that_is_missing_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("sparring.watch.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'sparring\[tensorboard\]'"):
        train("gan", "digits", out=tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("quick", "no_report")
def test_evaluation_on_data_without_classes_says_so(on_features, features):
    other = Path(on_features).parent / "other.npy"
    np.save(other, np.load(features) * 3)
    found = evaluate(load(on_features), other)
    assert "detection" not in found
    assert found["examples"] == 80


@pytest.mark.usefixtures("quick", "no_report")
def test_evaluation_counts_what_the_verdicts_say(detector):
    run = load(detector)
    found = evaluate(run, limit=200)["detection"]
    verdicts = run.score("digits", limit=200)
    anomalous = verdicts.anomalous(["0"])
    assert found["counts"]["found"] == (verdicts.flagged & anomalous).sum()
    assert found["false_alarms"]["count"] == (verdicts.flagged & ~anomalous).sum()
    wins = (verdicts.score[anomalous][:, None] > verdicts.score[~anomalous]).mean()
    ties = (verdicts.score[anomalous][:, None] == verdicts.score[~anomalous]).mean()
    assert found["auroc"]["value"] == pytest.approx(wins + ties / 2)
