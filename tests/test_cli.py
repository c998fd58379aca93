"""The command line, verb by verb: what it answers, where it writes, and how it exits."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import yaml
from PIL import Image

from sparring import models
from sparring.cli import VERBS, Demo, main
from sparring.cli.words import listed
from sparring.job import Job, configured, read_run
from tiny import TINY, TINY_FLAGS, VECTORS

pytestmark = pytest.mark.usefixtures("eager", "quick")


def side(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


LAZY = """
import sys, sparring
from sparring.cli import main
assert dir(sparring) and sparring.__version__
for arguments in (["--help"], ["train", "--help"], ["score", "--help"]):
    try:
        main(arguments)
    except SystemExit as stop:
        assert stop.code == 0
assert not {"torch", "lightning_fabric", "sklearn", "matplotlib"} & set(sys.modules)
"""


def test_import_and_help_load_no_torch():
    found = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True, check=True)
    assert all(verb in found.stdout for verb in VERBS)
    assert "--checkpoint-seconds" in found.stdout
    assert found.stderr == ""


def test_models_are_listed(call):
    said = call("models", "--json").json["models"]
    assert list(said) == models.names()
    assert said["ganomaly"]["needs"] == ["x"]
    assert "arXiv:1805.06725" in said["ganomaly"]["paper"]
    assert set(said["gan"]["variants"]) >= {"default", "goodfellow2014_mnist", "mlp"}
    table = call("models")
    assert all(name in table.out for name in models.names())


def test_recipe_as_table_json_and_yaml(call):
    found = call("recipe", "ganomaly", "--json").json
    assert found == {"model": "ganomaly", "variant": "default", "recipe": models.find("ganomaly").recipe().as_dict()}
    table = call("recipe", "ganomaly").out
    assert "w_con" in table
    assert "section 3.2" in table
    assert yaml.safe_load(call("recipe", "gan", "--variant", "mlp", "--yaml").out)["recipe"]["hidden"] == [256, 256]


def test_train_accepts_what_recipe_prints(call, tmp_path):
    (tmp_path / "mine.yaml").write_text(call("recipe", "gan", "--variant", "mlp", "--yaml").out)
    call("train", "gan", "digits", "--config", "mine.yaml", "--rounds", "1", "--limit", "100", "--out", "run", "--json")
    recipe = models.find("gan").variant("mlp").as_dict()
    assert read_run(Path("run"))[0].recipe == {**recipe, "rounds": 1}


def test_train_says_one_json_object_and_the_rest_to_stderr(call):
    said = call("train", "gan", "digits", "--variant", "mlp", "--rounds", "2", "--set", "hidden=[8]", "--json")
    found = said.json
    assert (found["run"], found["rounds"], found["journal"]["round"]) == ("runs/gan-digits", 2, 2)
    assert set(found["journal"]) >= {"discriminator/real", "discriminator/fake", "generator/fooled"}
    assert said.err == "The run is in runs/gan-digits.\n"


def test_train_shows_a_bar_on_stderr_only(call):
    said = call("train", "gan", "digits", "--variant", "mlp", "--rounds", "2")
    assert said.out == ""
    assert "2/2" in said.err
    assert "generator/fooled=" in said.err


def test_default_folders_are_numbered(call):
    flags = ("train", "gan", "digits", "--variant", "mlp", "--rounds", "1", "--limit", "100", "--json")
    assert [call(*flags).json["run"] for _ in range(3)] == [f"runs/gan-digits{end}" for end in ("", "-2", "-3")]


@pytest.mark.parametrize("model", ["dcgan", "ganomaly"])
def test_train_on_a_folder_of_images(call, photos, model):
    call("train", model, photos, *TINY_FLAGS, "--rounds", "2", "--out", "run", "--json")
    job, facts = read_run(Path("run"))
    assert facts["spec"]["shape"] == [3, 16, 16]
    assert facts["spec"]["count"] + facts["held_out"] == 24
    assert facts["held_out"] == (12 if model == "ganomaly" else 0)  # 20 would leave less than half
    assert job.recipe["width"] == 8
    assert len(list(Path("run/samples").glob("*.png"))) == 2


def test_mvtec_layout_from_photographs_to_report(call, defects):
    flags = (*TINY_FLAGS, "--rounds", "3", "--out", "run", "--json")
    call("train", "ganomaly", defects, *flags)
    assert read_run(Path("run"))[1]["normal"] == ["good"]
    found = call("evaluate", "run", "--baselines", "--json").json
    assert (found["examples"], found["normal"], found["split"]) == (12, ["good"], "test")
    assert 0 <= found["pixel_auroc"] <= 1
    assert {kind["kind"] for kind in found["detection"]["kinds"]} == {"good", "scratch"}
    assert len(found["baselines"]) >= 3
    assert all(0 <= other["pixel_auroc"] <= 1 for other in found["baselines"].values() if "pixel_auroc" in other)
    page = Path(found["report"]).read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    call("score", "run", defects, "--maps", "maps", "--json")
    assert len(list(Path("maps").rglob("*.png"))) == 12


def test_the_layout_says_what_is_normal_where_the_training_had_no_classes(call, photos, defects):
    flags = (*TINY_FLAGS, "--channels", "1", "--rounds", "1", "--out", "run", "--json")
    call("train", "ganomaly", photos, *flags)
    found = call("evaluate", "run", defects, "--json").json
    assert (found["normal"], found["detection"]["counts"]["normal"]) == (["good"], 6)
    assert call("calibrate", "run", defects, "--split", "test", "--json").json["calibrated_on"] == 6


def test_train_on_features(call, features):
    settings = [f"--set={key}={value}" for key, value in VECTORS.items()]
    call("train", "gan", features, *settings, "--out", "run", "--json")
    made = call("sample", "run", "--n", "5", "--out", "made.npy", "--json").json
    assert np.load(made["files"][0]).shape == (5, 6)


def test_config_is_outweighed_by_set_and_by_options(call, tmp_path):
    text = "model: ganomaly\ndata: digits\nnormal: 0\nsize: 16\nprecision: 32\nbatch: 8\nrounds: 9\nout: here\n"
    (tmp_path / "job.yaml").write_text(text + "recipe: {rate: 1e-4, width: 16, latent: 8, encoder: 2}\n")
    call(
        "train",
        "--config",
        "job.yaml",
        "--set",
        "width=8",
        "--set=beta1=2e-1",
        "--rounds",
        "1",
        "--seed",
        "5",
        "--json",
    )
    job, facts = read_run(Path("here"))
    assert (job.model, job.normal, job.precision, job.seed) == ("ganomaly", ("0",), "32", 5)
    wanted = {"rate": 1e-4, "width": 8, "latent": 8, "encoder": 2.0, "beta1": 0.2, "batch": 8, "rounds": 1}
    assert {key: job.recipe[key] for key in wanted} == wanted
    assert isinstance(job.recipe["rate"], float)
    assert facts["normal"] == ["0"]


def test_epochs_outweigh_the_rounds_of_a_config(call, tmp_path):
    (tmp_path / "job.yaml").write_text("{rounds: 1000, limit: 64, size: 16, recipe: {width: 8, latent: 8}}")
    said = call("train", "dcgan", "digits", "--config", "job.yaml", "--epochs", "2", "--batch", "32", "--json").json
    assert said["rounds"] == 4


@pytest.mark.parametrize(("text", "names"), [("0", ("0",)), ("'0, 3'", ("0", "3")), ("[0, 3]", ("0", "3")), ("", ())])
def test_yaml_forms_of_class_names(tmp_path, text, names):
    (tmp_path / "c.yaml").write_text(f"normal: {text}\n")
    settings, recipe = configured(tmp_path / "c.yaml")
    assert Job(model="ganomaly", **settings).normal == names
    assert recipe == {}
    assert listed("0, 3,") == ("0", "3")


def test_sample_is_a_function_of_its_seed(call, generator):
    paths = [call("sample", generator, "--n", "9", "--seed", seed, "--out", f"{k}.png", "--json").json["files"][0]
             for k, seed in enumerate((3, 3, 4))]  # fmt: skip
    first, again, other = (np.asarray(Image.open(path)) for path in paths)
    assert first.shape == (3 * 66 + 2, 3 * 66 + 2)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_sample_into_a_folder(call, generator):
    said = call("sample", generator, "--n", "12", "--out", "made", "--json")
    names = sorted(path.name for path in Path("made").iterdir())
    assert names == [f"{k:05d}.png" for k in range(12)]
    assert said.json["files"] == [f"made/{name}" for name in names[:10]]
    assert {side(f"made/{name}") for name in names} == {(16, 16)}
    assert "12 sample(s) are in made." in said.err


def test_score_writes_csv_and_parquet(call, detector):
    found = call("score", detector, "digits", "--out", "s.csv", "--limit", "40", "--json").json
    call("score", detector, "digits", "--out", "s.parquet", "--limit", "40", "--json")
    with Path("s.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = pyarrow.parquet.read_table("s.parquet").to_pydict()
    assert list(rows[0]) == list(table) == ["name", "score", "p_value", "verdict", "class"]
    assert (len(rows), found["scored"]) == (40, 40)
    for column in ("score", "p_value"):
        assert [float(row[column]) for row in rows] == table[column]
    p_value = np.array(table["p_value"])
    assert ((p_value > 0) & (p_value <= 1)).all()
    assert table["verdict"] == ["strange" if p <= 0.05 else "normal" for p in p_value]
    assert found["flagged"] == table["verdict"].count("strange")
    assert all(name.startswith("digits/test/") for name in table["name"])


def test_false_alarms_move_the_verdict_alone(call, detector):
    for rate in (0.05, 0.5):
        call("score", detector, "digits", "--limit", "40", "--false-alarms", rate, "--out", f"{rate}.parquet", "--json")
    few, many = (pyarrow.parquet.read_table(f"{rate}.parquet").to_pydict() for rate in (0.05, 0.5))
    assert few["score"] == many["score"]
    assert many["verdict"] == ["strange" if p <= 0.5 else "normal" for p in few["p_value"]]
    assert many["verdict"].count("strange") > few["verdict"].count("strange")


def test_maps_are_one_heat_map_an_image_at_its_own_size(call, detector, paint):
    folder = paint("in/a.png", "in/deep/b.jpg", mode="L", size=(40, 30))
    said = call("score", detector, folder, "--maps", "maps", "--out", "s.csv", "--json")
    assert said.json["maps"] == 2
    assert sorted(str(path.relative_to("maps")) for path in Path("maps").rglob("*.png")) == [
        "a.png",
        "deep/b.jpg.png",
    ]
    assert side("maps/a.png") == (30, 30)


def test_evaluate_gives_numbers_and_a_report(call, detector):
    found = call("evaluate", detector, "--limit", "100", "--report", "out/r.html", "--json").json
    part = found["detection"]
    assert part["counts"]["examples"] == 100
    assert part["counts"]["normal"] == part["false_alarms"]["of"]
    for name in ("auroc", "average_precision", "fpr_at_95_tpr", "f1", "accuracy"):
        assert 0 <= part[name]["low"] <= part[name]["value"] <= part[name]["high"] <= 1
    assert found["calibrated_on"] == 25
    assert found["report"] == "out/r.html"
    page = Path("out/r.html").read_text()
    assert page.count("<html") == 1
    assert "ganomaly on digits" in page


@pytest.mark.usefixtures("no_report")
def test_evaluate_shows_a_table(call, detector):
    said = call("evaluate", detector, "--limit", "60", "--report", "r.html")
    assert "average precision" in said.out
    assert "The report is r.html." in said.out
    assert said.err == ""


@pytest.mark.usefixtures("no_report")
def test_evaluate_takes_other_normal_classes_by_name(call, detector):
    flags = ("evaluate", detector, "--limit", "60", "--report", "r.html", "--json")
    zeros, others = call(*flags).json, call(*flags, "--normal", "1,2").json
    assert (zeros["normal"], others["normal"]) == (["0"], ["1", "2"])
    assert zeros["detection"]["counts"]["normal"] < others["detection"]["counts"]["normal"]
    assert call(*flags, "--normal", "all").json["detection"]["counts"]["anomalous"] == 0


@pytest.mark.usefixtures("no_report")
def test_evaluate_a_generator(call, generator):
    found = call("evaluate", generator, "--limit", "40", "--report", "r.html", "--json").json
    assert np.isfinite(found["parzen"]["mean"])
    assert "detection" not in found


@pytest.mark.usefixtures("no_report")
def test_demo_is_the_main_job_in_little(call, monkeypatch):
    import sparring.training

    train = sparring.training.train

    def little(*arguments, **settings):
        return train(*arguments, **settings | {"size": 16, "recipe": {**TINY, "rounds": 4}})

    monkeypatch.setattr(sparring.training, "train", little)
    said = call("demo", "--out", "run", "--json")
    found = json.loads(said.out.splitlines()[-1])
    assert "auroc" in json.dumps(found)
    assert "false_alarms" in json.dumps(found)
    assert Path("run/report.html").is_file()
    assert Demo().out == Path("runs/demo")


def test_exit_status_1_is_not_the_users_input(call, monkeypatch, capsys):
    monkeypatch.setattr("sparring.models.names", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["models"])


def test_numbers_that_are_not_finite_stop_with_status_1(call):
    flags = ("train", "gan", "digits", "--limit", "100", "--rounds", "9", "--batch", "16", "--json")
    said = call(*flags, "--set", "rate=1e30", "--out", "run", status=1)
    assert "became" in said.sentence
    assert "round" in said.sentence
    assert not Path("run/model.safetensors").exists()


@pytest.mark.parametrize(
    "arguments", [["trian"], ["train", "gan", "--rouns", "3"], ["train", "gan", "--rounds", "x"], []]
)
def test_what_the_parser_refuses_exits_with_2(call, arguments):
    said = call(*arguments, status=2)
    assert said.out == ""
    assert said.err
