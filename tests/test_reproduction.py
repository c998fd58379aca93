"""The experiments of the papers: how they divide their data, and what leaks in what they report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from sparring import load, reproduce, studies
from sparring.data import batches, open_source
from sparring.errors import UserError
from sparring.job import read_run
from sparring.metrics.leaky import batch_statistics, equal_error, normal_f1, stretched
from sparring.preparation import set_up
from sparring.reproduction import NOT_ESTABLISHED, AuthorsEye, Judged, as_reported, numbers, patches
from tiny import TINY

pytestmark = pytest.mark.usefixtures("eager", "quick", "no_report")

SETTINGS = {"size": 16, "recipe": {**TINY, "rounds": 6, "epochs": None}}


def test_pooled_division_learns_from_80_per_cent_of_the_normal_ones(tmp_path):
    path, normal = studies.pooled("digits", "3", 0, tmp_path)
    train, test = (open_source(path, split=split) for split in ("train", "test"))
    assert normal == tuple("012456789")
    whole = [open_source("digits", split=split) for split in ("train", "test")]
    threes = sum(int((part.labels == 3).sum()) for part in whole)
    sound = sum(map(len, whole)) - threes
    assert len(train) == int(0.8 * sound)
    kinds = np.array(test.classes)[test.labels]
    assert (kinds == "3").sum() == threes
    assert (kinds[: len(test) - threes] != "3").all()  # normal ones first
    assert "3" not in np.array(train.classes)[train.labels]
    assert studies.pooled("digits", "3", 0, tmp_path / "again")[1] == normal
    same = open_source(str(tmp_path / "again" / "data.npz"), split="train")
    assert (same.read(slice(None)) == train.read(slice(None))).all()
    other = open_source(studies.pooled("digits", "3", 1, tmp_path / "other")[0], split="train")
    assert (other.read(slice(None)) != train.read(slice(None))).any()


def test_shares_of_outliers_are_nested_and_begin_with_all_normal_ones():
    study = studies.find("ognet-mnist")
    source = open_source("digits", split="test")
    judged = Judged.of(study, source, ("0",), 0)
    assert list(judged.parts) == ["0.1", "0.2", "0.3", "0.4", "0.5"]
    sound = int((source.labels == 0).sum())
    for share, part in judged.parts.items():
        assert judged.anomalous[part].mean() == pytest.approx(float(share), abs=0.01)
        assert (source.labels[part[:sound]] == 0).all()
        assert (judged.seen[: len(part)] == part).all()


def test_the_authors_numbers_of_known_scores():
    study = studies.find("ognet-mnist")
    odd = np.arange(40) >= 20
    judged = Judged(odd, {"0.5": np.arange(40)})
    score = np.random.default_rng(0).normal(size=40) + 2 * odd
    found = numbers(study, judged, score)
    assert found["auroc_0.5"] == roc_auc_score(odd, score)
    assert found["f1_0.5"] == normal_f1(odd, score >= equal_error(score, odd))


def test_egbad_is_ranked_by_the_area_under_precision_and_recall():
    odd = np.arange(40) >= 30
    score = np.random.default_rng(0).normal(size=40) + odd
    found = numbers(studies.find("egbad-mnist"), Judged(odd, {"all": np.arange(40)}), score)
    assert next(iter(found.items())) == ("auprc_all", average_precision_score(odd, score))


def test_trainings_are_repeated_as_often_as_by_the_authors(monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr("sparring.reproduction.one", lambda *given: done.append(given[1:3]) or FOUND)
    reproduce("ognet-caltech256", tmp_path, cases=["1"], out=tmp_path)
    reproduce("ognet-mnist", "digits", cases=["4"], out=tmp_path)
    reproduce("ognet-mnist", "digits", cases=["5"], seeds=2, out=tmp_path)
    assert done == [("1", 0), ("1", 1), ("1", 2), ("4", 0), ("5", 0), ("5", 1)]


FOUND = {
    "authors": {"auroc_all": 0.5}, "clean": {"auroc_all": 0.5},
    "detection": {"average_precision": {"value": 0.5}, "false_alarms": {"value": 0.1}},
}  # fmt: skip


def test_the_best_epoch_of_the_last_phase_is_what_they_report():
    journal = [
        {"phase": "one", "round": 1, "auroc_all": 0.99, "seconds": 1},
        {"phase": "two", "round": 2, "auroc_all": 0.7, "f1_all": 0.6},
        {"phase": "two", "round": 3, "auroc_all": 0.9, "f1_all": 0.8},
        {"phase": "two", "round": 4, "auroc_all": 0.8, "f1_all": 0.7},
    ]
    study = studies.find("ognet-ped2")
    assert as_reported(study, journal) == {"auroc_all": 0.9, "f1_all": 0.8, "round": 3}
    assert as_reported(replace(study, best=False), journal)["round"] == 4


@pytest.fixture
def as_ganomaly(monkeypatch):
    """Every study with ganomaly on small digits."""
    for name in ("ognet-mnist", "ganomaly-mnist"):
        study = replace(studies.find(name), model="ganomaly", data="digits")
        monkeypatch.setitem(studies.STUDIES, name, study)


def test_ganomaly_is_evaluated_as_its_authors_do_and_cleanly(as_ganomaly, tmp_path, monkeypatch):
    found = reproduce("ganomaly-mnist", cases=["0"], seeds=1, out=tmp_path, **SETTINGS)
    assert found["leaky"]
    assert len(found["leaks"]) == 3
    row = found["rows"]["0"]
    assert row["published"] == NOT_ESTABLISHED
    run = load(tmp_path / "0-0/run")
    assert (run.spec.count, run.facts["held_out"]) == (len(run.open(split="train")), 0), "80 %, and not a fifth less"
    lines = [json.loads(text) for text in (tmp_path / "0-0/run/journal.jsonl").read_text().splitlines()]
    assert row["authors"]["auroc_all"] == max(line["auroc_all"] for line in lines)
    assert row["clean"]["auroc_all"] == pytest.approx(row["detection"]["auroc"]["value"], abs=1e-12)
    assert len({line["auroc_all"] for line in lines}) > 1
    eye = AuthorsEye(set_up(read_run(run.folder)[0]), studies.find("ganomaly-mnist"), run.normal)
    whole = len(eye.source) // 64 * 64
    with batch_statistics(run.game), torch.no_grad():
        score = np.concatenate([run.game.score(x) for x in batches(eye.source.take(slice(whole)), 64)])
    odd = eye.judged.anomalous[eye.judged.seen[:whole]]
    assert lines[-1]["auroc_all"] == pytest.approx(roc_auc_score(odd, score), abs=1e-3)
    assert lines[-1]["f1_all"] == pytest.approx(f1_score(odd, stretched(score) >= 0.2), abs=1e-3)
    (tmp_path / "0-0/reproduction.json").unlink()
    with pytest.raises(UserError, match="holds a training with other settings"):
        reproduce("ganomaly-mnist", cases=["0"], seeds=1, out=tmp_path, **SETTINGS | {"recipe": {**TINY, "rounds": 7}})
    again = reproduce("ganomaly-mnist", cases=["0"], seeds=1, out=tmp_path, **SETTINGS)
    assert again["rows"] == found["rows"]
    monkeypatch.setattr("sparring.reproduction.train", None)
    assert reproduce("ganomaly-mnist", cases=["0"], seeds=1, out=tmp_path, **SETTINGS)["rows"] == found["rows"]
    assert json.loads((tmp_path / "reproduction.json").read_text())["leaky"] is True


def test_looking_as_the_authors_do_leaves_the_weights_alone(as_ganomaly, tmp_path, monkeypatch):
    for folder, alike in (("with", True), ("without", False)):
        study = replace(studies.find("ganomaly-mnist"), batches=alike)
        monkeypatch.setitem(studies.STUDIES, "ganomaly-mnist", study)
        reproduce("ganomaly-mnist", cases=["0"], seeds=1, out=tmp_path / folder, **SETTINGS)
    one, other = ((tmp_path / folder / "0-0/run/model.safetensors").read_bytes() for folder in ("with", "without"))
    assert one == other


def test_ognet_protocol_prints_every_share(as_ganomaly, call):
    flags = ("--size", "16", "--set", "width=8", "--set", "latent=8", "--set", "rounds=3", "--set", "batch=16")
    said = call("reproduce", "ognet-mnist", "--cases", "0", *flags)
    assert "f1 0.5" in said.out
    assert NOT_ESTABLISHED in said.out
    assert "the epoch is the one that is best on the judged examples" in said.out
    assert "0, seed 0: auroc 0.5, by the authors' evaluation" in said.err


def test_protocols_that_do_not_exist_or_lack_data(call):
    assert "There is no protocol 'ognet': " in call("reproduce", "ognet", status=2).sentence
    said = call("reproduce", "ognet-ped2", "--model", "ganomaly", status=2)
    assert said.sentence == "ognet-ped2 does not say where its data are: name the folder with --data."
    said = call("reproduce", "ognet-ped2", "--model", "ganomaly", "--data", "digits", status=2)
    assert "'digits' is not UCSD Ped2" in said.sentence
    said = call("reproduce", "ognet-caltech256", "--data", "digits", "--cases", "two", status=2)
    assert said.sentence == "There is no case of this protocol 'two': choose one of 1, 3, 5."
    assert (
        "There is no class '12'"
        in call("reproduce", "ognet-mnist", "--data", "digits", "--cases", "12", status=2).sentence
    )
    said = call("reproduce", "ognet-caltech256", "--model", "ganomaly", "--data", "digits", status=2)
    assert "'digits' is not Caltech-256" in said.sentence


def test_a_misspelt_hyper_parameter_leaves_nothing_behind(call):
    said = call("reproduce", "ganomaly-mnist", "--data", "digits", "--set", "latnt=3", "--out", "out", status=2)
    assert "There is no hyper-parameter 'latnt'" in said.sentence
    assert not Path("out").exists()


def draw(path, value=90, marked=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((40, 48), value, np.uint8)
    pixels[10:20, 20:30] = 255 if marked else value
    Image.fromarray(pixels).save(path)


def test_caltech_protocol_halves_the_normal_images_and_matches_them_with_clutter(tmp_path):
    for number, name in enumerate(("001.ak47", "002.flag", "003.back", "257.clutter")):
        for k in range(12):
            draw(tmp_path / "256_ObjectCategories" / name / f"{name[:3]}_{k:04d}.jpg", 40 * number + k)
    path, normal = studies.categories(str(tmp_path), "3", 0, tmp_path / "out")
    assert normal == ("001.ak47", "002.flag", "003.back")
    train, test = (open_source(path, split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (18, 30)
    assert (np.array(test.classes)[test.labels] == "257.clutter").sum() == 12  # all there are
    assert "257.clutter" not in np.array(train.classes)[train.labels]


def test_ped2_protocol_runs_on_its_layout(tmp_path):
    root = tmp_path / "UCSDped2"
    for k in range(1, 31):
        draw(root / f"Train/Train001/{k:03d}.tif", 80 + k)
    for k in range(1, 11):
        draw(root / f"Test/Test001/{k:03d}.tif", 80 + k, marked=k > 5)
        draw(root / f"Test/Test001_gt/{k:03d}.bmp", 0, marked=k > 5)
    recipe = {**SETTINGS["recipe"], "rounds": 2}
    found = reproduce("ognet-ped2", root, model="ganomaly", out=tmp_path / "out", recipe=recipe, tile=16)
    job, facts = read_run(tmp_path / "out/frames-0/run")
    assert (job.tile, facts["spec"]["shape"]) == (16, [1, 16, 16])
    row = found["rows"]["frames"]
    assert row["published"] == "0.981"
    assert patches(studies.find("ognet-ped2"), {}, {}) == {"tile": 45}
    assert patches(replace(studies.find("ognet-ped2"), model="ognet:light"), {}, {}) == {"tile": 64}
    assert patches(studies.find("ognet-ped2"), {}, {"size": 64}) == {}
    assert 0 <= row["authors"]["auroc_all"] <= 1
    assert 0 <= row["clean"]["f1_all"] <= 1
