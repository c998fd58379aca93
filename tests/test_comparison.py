"""Detectors compete on the same terms, once, and the table says how sure it is."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from sparring import compare
from sparring.comparison import SCORES
from sparring.contest import entrants, plain
from sparring.errors import UserError
from sparring.standings import calm, standings
from tiny import TINY

pytestmark = pytest.mark.usefixtures("eager", "quick", "no_report")

SETTINGS = {"size": 16, "recipe": {**TINY, "ganomaly.rounds": 6}}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A comparison of ganomaly and two simple detectors, 0 and 1 normal in turn, two seeds: folder and table."""
    from functools import partial

    from sparring.metrics.detection import judge

    folder = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparring.run.has_onnx", lambda: False)
        patch.setattr("sparring.evaluation.judge", partial(judge, resamples=20))
        patch.setattr("sparring.evaluation.write_report", lambda path, evidence: None)
        names = ["ganomaly", "knn", "mean"]
        return folder, compare("digits", names, normal=("each:0", "1"), seeds=2, out=folder, **SETTINGS)


def outcomes(folder: Path) -> dict[str, dict]:
    return {str(p.parent.relative_to(folder)): json.loads(p.read_text()) for p in folder.glob("*/*/evaluation.json")}


def test_there_is_an_outcome_for_every_task(found):
    folder, table = found
    assert set(outcomes(folder)) == {
        f"{normal}/{name}-{seed}" for normal in "01" for name in ("ganomaly", "knn", "mean") for seed in (0, 1)
    }
    assert table["groups"] == ["0", "1"]
    assert table["seeds"] == [0, 1]
    values = [one["auroc"]["value"] for one in table["entrants"].values()]
    assert values == sorted(values, reverse=True)
    assert table["entrants"]["knn"]["auroc"]["value"] > 0.9


def test_means_are_of_the_outcomes_and_intervals_hold_them(found):
    folder, table = found
    for name, one in table["entrants"].items():
        own = [o for o in outcomes(folder).values() if o["entrant"] == name]
        assert one["auroc"]["value"] == pytest.approx(np.mean([o["detection"]["auroc"]["value"] for o in own]))
        assert one["auroc"]["low"] <= one["auroc"]["value"] <= one["auroc"]["high"]
        assert one["auroc"]["spread"] >= 0
        assert set(one["groups"]) == {"0", "1"}
        alarms = [o["detection"]["false_alarms"] for o in own]
        assert one["false_alarms"]["value"] == pytest.approx(
            sum(a["count"] for a in alarms) / sum(a["of"] for a in alarms)
        )
    best = next(one["ahead"]["of"] for one in table["entrants"].values() if one["ahead"])
    assert table["entrants"][best]["ahead"] is None
    ahead = table["entrants"]["ganomaly"]["ahead"]
    assert ahead["low"] < ahead["value"] < ahead["high"]


def test_all_are_judged_and_calibrated_on_the_same_examples(found):
    import pyarrow.parquet

    folder, _ = found
    for normal in "01":
        for seed in (0, 1):
            own = [folder / normal / f"{name}-{seed}" for name in ("ganomaly", "knn", "mean")]
            tables = [pyarrow.parquet.read_table(f / SCORES).to_pydict() for f in own]
            assert all(t["name"] == tables[0]["name"] and t["class"] == tables[0]["class"] for t in tables)
            smallest = [min(t["p_value"]) for t in tables]
            assert len({round(1 / p) for p in smallest}) == 1  # one more than there are calibration examples


def test_every_epoch_of_a_training_was_looked_at(found):
    folder, table = found
    looks = outcomes(folder)["0/ganomaly-0"]["looks"]
    assert [look["round"] for look in looks] == list(range(1, 7))
    assert all(0 <= look[part] <= 1 for look in looks for part in ("select", "report"))
    assert set(table["entrants"]["ganomaly"]["phases"]["train"]) == {"select", "report"}
    assert table["entrants"]["knn"]["phases"] == {}


def test_tables_and_report_are_written(found):
    folder, table = found
    assert json.loads((folder / "comparison.json").read_text())["entrants"] == table["entrants"]
    text = (folder / "comparison.md").read_text()
    assert "| ganomaly | " in text
    assert "| Normal | " in text
    with (folder / "comparison.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12
    page = (folder / "report.html").read_text()
    assert "AUROC while they learn" in page
    assert page.count("<picture>") == 1


def test_what_is_done_is_not_done_again(found, monkeypatch):
    folder, table = found
    monkeypatch.setattr("sparring.comparison.of_model", None)
    monkeypatch.setattr("sparring.comparison.of_simple", None)
    names = ["ganomaly", "knn", "mean"]
    again = compare("digits", names, normal=("each:0", "1"), seeds=2, out=folder, **SETTINGS)
    assert again["entrants"] == table["entrants"]


def test_a_stopped_comparison_goes_on(found, tmp_path, monkeypatch):
    from sparring.engine import Interrupted
    from sparring.judging import Inspector

    look = Inspector.__call__

    def stop(self, game, phase, done):
        if done == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return look(self, game, phase, done)

    monkeypatch.setattr(Inspector, "__call__", stop)
    with pytest.raises(Interrupted, match="the same command goes on"):
        compare("digits", ["ganomaly"], normal=("0",), seeds=1, out=tmp_path, **SETTINGS)
    assert len((tmp_path / "0/ganomaly-0/journal.jsonl").read_text().splitlines()) == 3
    monkeypatch.setattr(Inspector, "__call__", look)
    compare("digits", ["ganomaly"], normal=("0",), seeds=1, out=tmp_path, **SETTINGS)
    whole = outcomes(found[0])["0/ganomaly-0"]
    assert outcomes(tmp_path)["0/ganomaly-0"]["looks"] == whole["looks"]
    assert outcomes(tmp_path)["0/ganomaly-0"]["detection"] == whole["detection"]


def test_looks_change_nothing(found, tmp_path):
    compare("digits", ["ganomaly"], normal=("0",), seeds=1, out=tmp_path, looks=False, **SETTINGS)
    weights = [(f / "0/ganomaly-0/model.safetensors").read_bytes() for f in (tmp_path, found[0])]
    assert weights[0] == weights[1]


def test_other_examples_have_other_outcomes(defects, paint, tmp_path):
    settings = {"seeds": 1, "out": tmp_path / "out", "size": 16}
    recipe = {**TINY, "rounds": 2}
    compare(defects, ["mean", "ganomaly"], recipe=recipe, **settings)
    paint("mvtec/test/scratch/6.png", mode="L")
    compare(defects, ["mean", "ganomaly"], recipe=recipe, **settings)
    assert {one["examples"] for one in outcomes(tmp_path / "out").values()} == {13}
    paint("mvtec/train/good/24.png", mode="L")
    compare(defects, ["mean"], **settings)
    with pytest.raises(UserError, match="holds a training on other examples: choose another --out"):
        compare(defects, ["knn", "ganomaly"], recipe=recipe, **settings)
    assert not list((tmp_path / "out").rglob("knn*"))


def test_photographs_with_masks_have_pixels_judged(defects, tmp_path):
    found = compare(defects, ["ganomaly", "pca", "forest"], seeds=1, out=tmp_path / "out", false_alarms=0.2, **SETTINGS)
    assert found["groups"] == ["good"]
    assert 0 <= found["entrants"]["ganomaly"]["pixel_auroc"] <= 1
    assert 0 <= found["entrants"]["pca"]["pixel_auroc"] <= 1
    assert found["entrants"]["forest"]["pixel_auroc"] is None
    assert set(found["entrants"]["ganomaly"]["phases"]["train"]) == {"report"}  # train/ holds no anomalies


def test_features_are_compared(tmp_path):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(300, 6)).astype(np.float32), np.repeat([0, 1], [200, 100])
    x[y == 1] += 3
    order = random.permutation(300)
    np.savez(tmp_path / "f.npz", x_train=x[order[:150]], y_train=y[order[:150]], x_test=x[order[150:]],
             y_test=y[order[150:]])  # fmt: skip
    found = compare(tmp_path / "f.npz", ["lof", "pca", "ganomaly"], normal=("0",), seeds=1, out=tmp_path / "out",
                    recipe={**TINY, "rounds": 3})  # fmt: skip
    assert found["entrants"]["lof"]["auroc"]["value"] > 0.95


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--models", "ganomlay"], "There is no detector 'ganomlay': did you mean 'ganomaly'?"),
        (["--models", "gan"], "There is no detector 'gan'"),
        (["--models", "ganomaly:authors", "--normal", "0"], "There is no variant of ganomaly 'authors'"),
        (["--models", "knn", "--set", "ganomaly.width=8"], "There is no model in this comparison 'ganomaly'"),
        (["--models", "ganomaly", "--normal", "0", "--set", "widht=8"], "did you mean 'width'?"),
        (["--models", "knn"], "say which are normal"),
        (["--models", "knn", "--normal", "all"], "has nothing to tell apart"),
        (["--models", "knn", "--normal", "each:11"], "There is no class '11'"),
        (["--models", "knn", "--normal", "0", "--on", "train"], "share examples"),
        (["--models", "knn", "--normal", "0", "--seeds", "0"], "--seeds is how often"),
        (["--models", "knn", "--normal", "0", "--false-alarms", "1"], "must lie between 0 and 1"),
    ],
)
def test_compare_refuses_before_it_trains(call, arguments, sentence):
    assert sentence in call("compare", "digits", *arguments, status=2).sentence
    assert not Path("runs").exists()


def test_data_without_splits_are_compared_by_parts(call, labelled):
    sentence = call("compare", labelled, "--models", "mean", "--normal", "good", status=2).sentence
    assert "has no splits" in sentence
    assert "such as --split '[:-500]' --on '[-500:]'." in sentence
    parts = ("--split", "[-3:]", "--on", "[:-3]")  # bad ones come first
    found = call("compare", labelled, "--models", "mean", "--normal", "good", *parts, "--seeds", 1, "--json").json
    assert found["groups"] == ["good"]


def test_folders_have_names_that_any_disk_takes():
    long = [plain("+".join([kind] * 90)) for kind in ("scratch", "drüse", "scratch/")]
    assert len(set(long)) == 3
    assert all(len(name.encode()) <= 100 for name in long)
    assert plain("good+bad parts") == "good+bad_parts"


def test_another_training_is_not_taken_for_this_one(found):
    with pytest.raises(UserError, match="holds a training with other settings"):
        compare("digits", ["ganomaly"], normal=("0",), seeds=1, out=found[0], size=16, recipe={**TINY, "rounds": 3})


def test_the_verb_prints_a_table(call, found):
    flags = ("--models", "knn,mean", "--normal", "each:0,1", "--seeds", "2", "--size", "16", "--out", found[0])
    said = call("compare", "digits", *flags)
    assert "knn" in said.out
    assert "seed 1: AUROC" in said.err
    assert call("compare", "digits", *flags, "--json").json["groups"] == ["0", "1"]


def test_hyper_parameters_of_one_and_of_all():
    one, other, simple = entrants(
        ["ganomaly", "ganomaly:authors_code", "knn"],
        {"ganomaly:authors_code.width": 4, "width": 16, "ganomaly.latent": 5},
    )
    assert one.recipe == {"width": 16, "latent": 5}
    assert other.recipe == {"width": 4, "latent": 5}
    assert simple.recipe == {}


def test_a_detector_that_searches_is_not_looked_at_while_it_learns(tmp_path):
    recipe = {**TINY, "rounds": 2, "search_steps": 1}
    found = compare("digits", ["anogan"], normal=("0",), seeds=1, out=tmp_path, size=16, limit=60, recipe=recipe)
    assert found["entrants"]["anogan"]["phases"] == {}
    assert outcomes(tmp_path)["0/anogan-0"]["looks"] == []


def test_calmness_is_of_the_last_ten_looks_of_each_phase():
    values = [0.5] * 5 + [0.8, 0.9] * 5
    looks = [{"phase": "one", "round": k, "select": v, "report": None} for k, v in enumerate(values)]
    looks += [{"phase": "two", "round": 20 + k, "select": 0.9, "report": 0.7} for k in range(3)]
    found = calm([{"looks": looks, "epochs": {"one": 4, "two": 1}}])
    assert set(found["one"]) == {"select"}
    assert found["one"]["select"] == pytest.approx(
        {"mean": 0.85, "deviation": 0.0527, "looks": 10, "apart": 0.25}, abs=1e-4
    )
    assert found["two"]["report"] == pytest.approx({"mean": 0.7, "deviation": 0, "looks": 3, "apart": 1})


def test_outcomes_on_other_examples_are_refused(found, tmp_path):
    folder, _ = found
    own = outcomes(folder)
    names = ["0/knn-0", "0/mean-0"]
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder / names[1] / SCORES)
    pyarrow.parquet.write_table(table.slice(1), tmp_path / SCORES)
    with pytest.raises(UserError, match="was judged on other examples"):
        standings([own[name] for name in names], [folder / names[0] / SCORES, tmp_path / SCORES])


def test_phases_are_marked_in_the_chart():
    from matplotlib.figure import Figure

    from sparring.report.charts import LIGHT
    from sparring.report.comparison import over_rounds

    looks = [
        {"phase": name, "round": k, "select": 0.5 + k / 100, "report": None if k == 3 else 0.6}
        for k, name in enumerate(["one", "one", "two", "two"], 1)
    ]
    axes = Figure().add_subplot()
    over_rounds([looks, looks])(axes, LIGHT)
    assert [text.get_text() for text in axes.texts] == ["one", "two"]
    assert [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1] == [2]  # where one ends
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["held out", "reported on"]
