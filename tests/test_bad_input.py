"""Every input that cannot be used gets one sentence, exit status 2, and leaves nothing half-written."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from sparring import models
from sparring.data import open_source
from sparring.errors import UserError
from sparring.evaluation import learnt_rows
from sparring.job import read_run
from sparring.metrics.baselines import BASELINES
from tiny import TINY_FLAGS

pytestmark = pytest.mark.usefixtures("eager", "no_report")


def left() -> list[str]:
    """What lies in the working folder, apart from what the test put there."""
    return sorted(path.name for path in Path().iterdir() if path.name not in ("in", "in.yaml", "in.npy", "in.png"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gann", "digits"], "There is no model 'gann': did you mean 'gan'?"),
        (["xyz", "digits"], f"There is no model 'xyz': choose one of {', '.join(models.names())}."),
        ([], "Say which model to train"),
        (["gan", "digit"], "There is no file or folder 'digit', and no data set of that name: did you mean 'digits'?"),
        (["gan", "./missing"], "There is no file or folder './missing'"),
        (["gan", "~photos"], "'~photos' begins with a user who has no home here: write ./~photos for a name."),
        (["gan", "a" * 300], "cannot be looked for (File name too long): give another path or name."),
        (["gan", "digits", "--out", "a" * 300], "a name in it is too long, choose a shorter one"),
        (["gan", "digits", "--variant", "mpl"], "There is no variant of gan 'mpl': did you mean 'mlp'?"),
        (["dcgan", "digits", "--set", "widht=8"], "There is no hyper-parameter 'widht': did you mean 'width'?"),
        (["dcgan", "digits", "--set", "width"], "--set takes key=value"),
        (["dcgan", "digits", "--set", "width=[8"], "is not readable as YAML"),
        (["dcgan", "digits", "--set", "width=wide"], "The 'width' of DCGANRecipe cannot be 'wide'"),
        (["dcgan", "digits", "--batch", "0"], "The 'batch' of DCGANRecipe must be a number >= 1; got 0 instead."),
        (["ganomaly", "digits", "--normal", "0", "--set", "norm=l3"], "must be one of l1, l2; got 'l3' instead."),
        (["gan", "digits", "--split", "tset"], "no split 'tset': choose one of train, test."),
        (["gan", "digits", "--seed", "-1"], "The setting 'seed' cannot be -1"),
        (["gan", "digits", "--seed", "99999999999999999999"], "The setting 'seed' cannot be 99999999999999999999"),
        (["gan", "digits", "--epochs", "inf"], "The 'epochs' of GANRecipe must be a finite number; got inf instead."),
        (["dcgan", "digits", "--set", "rate=2020-13-45"], "The value in --set rate=2020-13-45 is not readable as YAML"),
        (["dcgan", "digits", "--batch", "1"], "normalises over the examples of a minibatch and needs 2 of them"),
        (["gan", "digits", "--limit", "0"], "The setting 'limit' cannot be 0"),
        (["gan", "digits", "--layer", "body"], "--layer body is of a --backbone, and none is given"),
        (
            ["ganomaly", "digits", "--normal", "0", "--select", "classes"],
            "ganomaly chooses no weights here: leave --sel",
        ),
        (["gan", "digits", "--devices", "0"], "The setting 'devices' cannot be 0"),
        (["gan", "digits", "--devices", "4096"], "asks for more than the"),
        (["gan", "digits", "--checkpoint-seconds", "-1"], "The setting 'checkpoint_seconds' cannot be -1"),
        (["ganomaly", "digits"], "has 10 classes: say which are normal, such as --normal 0, or --normal all."),
        (["ganomaly", "digits", "--normal", "zero"], "There is no class 'zero'"),
        (["ganomaly", "digits", "--normal", "0", "--classes", "1,2"], "There is no class '0'"),
        (["gan", "digits", "--classes", "11"], "There is no class '11': did you mean '1'?"),
        (["gan", "digits", "--normal", "0"], "--normal is for detectors, and gan is none"),
        (["gan", "digits", "digits"], "gan has no use for a second domain, and 'digits' is given: leave it out."),
        (["gan", "digits", "--outliers", "digits"], "gan has no use for outliers, and 'digits' is given"),
        (["dcgan", "digits", "--size", "24"], "24"),
        (["gan", "digits", "--resume"], "name it with --out RUN."),
        (
            ["--resume", "--out", "nowhere"],
            "'nowhere' does not exist: give a folder that `sparring train` has written.",
        ),
        (["gan", "digits", "--config", "none.yaml"], "There is no file 'none.yaml': give the path of a YAML file."),
    ],
)
def test_train_refuses(call, arguments, sentence):
    assert sentence in call("train", *arguments, status=2).sentence
    assert left() == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_train_refuses_a_device_that_is_not_there(call):
    assert "use --device cpu." in call("train", "gan", "digits", "--device", "cuda", status=2).sentence
    assert left() == []


def test_train_refuses_a_batch_that_cannot_be_shared(call, monkeypatch):
    monkeypatch.setattr("sparring.training.cores", lambda: range(2))
    said = call("train", "gan", "digits", "--devices", "2", "--batch", "15", status=2)
    assert said.sentence == "A batch of 15 cannot be shared by 2 processes: change --batch."
    assert left() == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sise: 16", "There is no setting 'sise': did you mean 'size'?"),
        ("resume: true", "There is no setting 'resume'"),
        ("1: 2", "There is no setting '1'"),
        ("recipe: {widht: 8}", "There is no hyper-parameter 'widht': did you mean 'width'?"),
        ("recipe: {1: 2}", "There is no hyper-parameter '1'"),
        ("seed: 2020-13-45", "'in.yaml' is not readable as YAML"),
        ("recipe: fast", "The 'recipe' in 'in.yaml' must be hyper-parameters by name"),
        ("out: 5", "The 'out' in 'in.yaml' must be the path of a folder; got 5."),
        ("seed: often", "The setting 'seed' cannot be 'often'"),
        ("- size", "'in.yaml' holds a list where settings by name are wanted"),
        ("size: [1", "'in.yaml' is not readable as YAML"),
    ],
)
def test_train_refuses_a_config(call, text, sentence):
    Path("in.yaml").write_text(text)
    assert sentence in call("train", "dcgan", "digits", "--config", "in.yaml", status=2).sentence
    assert left() == []


def test_a_model_in_a_config_is_a_name(call):
    Path("in.yaml").write_text("model: 5")
    assert "There is no model '5'" in call("train", "--config", "in.yaml", status=2).sentence


def not_an_image(folder: Path) -> None:
    (folder / "a.png").write_text("this is text")


def nothing(folder: Path) -> None:
    pass


def no_images(folder: Path) -> None:
    (folder / "notes.txt").write_text("this is text")


def a_bomb(folder: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (nothing, "The folder 'in' is empty"),
        (no_images, "'in' has no image files"),
        (not_an_image, "not an image that Pillow can read"),
        (a_bomb, "pixels that Pillow takes for safe"),
    ],
)
def test_train_refuses_a_folder(call, make, sentence):
    Path("in").mkdir()
    make(Path("in"))
    assert sentence in call("train", "dcgan", "in", *TINY_FLAGS, status=2).sentence
    assert left() == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.full((30, 6), np.nan), "values that are NaN, infinite or beyond float32"),
        (np.full((30, 6), np.inf), "values that are NaN, infinite or beyond float32"),
        (np.full((30, 16, 16), 2.0), "floating-point images must be in [0, 1]"),
        (np.full((30, 16, 16), -1, np.int16), "give uint8, or floats in [0, 1]"),
        (np.zeros((30, 6), complex), "give real numbers"),
        (np.zeros((30, 16, 16, 2), np.uint8), "2 channels"),
        (np.zeros(30), "has shape (30,)"),
        (np.zeros((0, 6)), "has shape (0, 6)"),
    ],
)
def test_train_refuses_an_array(call, values, sentence):
    np.save("in.npy", values)
    assert sentence in call("train", "ganomaly", "in.npy", *TINY_FLAGS, status=2).sentence
    assert left() == []


def test_train_refuses_an_array_cut_short(call):
    np.save("in.npy", np.zeros((30, 6)))
    os.truncate("in.npy", 300)
    assert "in.npy" in call("train", "ganomaly", "in.npy", status=2).sentence
    assert left() == []


def test_dcgan_refuses_vectors(call, features):
    call("train", "dcgan", features, status=2).sentence  # noqa: B018  # it holds the form of the answer
    assert left() == []


def test_a_detector_refuses_a_single_image(call):
    Path("in").mkdir()
    Image.new("RGB", (32, 32)).save("in/a.png")
    assert "give at least 2, better 100." in call("train", "ganomaly", "in", *TINY_FLAGS, status=2).sentence
    assert left() == []


def test_a_generator_learns_from_a_single_image(call):
    Image.new("RGB", (32, 32)).save("in.png")
    assert call("train", "dcgan", "in.png", *TINY_FLAGS, "--rounds", "1", "--json").json["rounds"] == 1


def test_small_images_are_enlarged_and_grey_joins_colour(call, paint):
    paint(*(f"in/{k}.png" for k in range(10)), size=(9, 8))
    paint(*(f"in/{k}.png" for k in range(10, 20)), mode="L")
    call("train", "dcgan", "in", *TINY_FLAGS, "--rounds", "1", "--out", "run", "--json")
    facts = read_run(Path("run"))[1]
    assert (facts["spec"]["shape"], facts["spec"]["count"]) == ([3, 16, 16], 20)
    assert any("enlarged" in note for note in facts["notes"])


def test_images_that_are_far_too_small(call, paint):
    paint("in/0.png", "in/1.png", size=(9, 7))
    assert "too small for --size 16" in call("train", "dcgan", "in", *TINY_FLAGS, status=2).sentence
    assert left() == []


def test_truncated_images_are_skipped_and_listed(call, paint):
    paint(*(f"in/{k}.png" for k in range(20)))
    os.truncate("in/3.png", 200)
    Path("in/7.png").write_text("this is text")
    call("train", "dcgan", "in", *TINY_FLAGS, "--rounds", "1", "--out", "run", "--json")
    facts = read_run(Path("run"))[1]
    assert [name for name, _ in facts["skipped"]] == ["3.png", "7.png"]
    assert facts["skipped"][1][1] == "it is not an image that Pillow can read"
    assert facts["spec"]["count"] == 18


def test_strict_stops_at_a_truncated_image(call, paint):
    paint(*(f"in/{k}.png" for k in range(20)))
    os.truncate("in/3.png", 200)
    assert "3.png" in call("train", "dcgan", "in", *TINY_FLAGS, "--strict", status=2).sentence
    assert left() == []


def test_names_that_are_no_text(call, detector, paint):
    folder = os.fsencode(paint("in/a.png", mode="L"))
    os.rename(folder + b"/a.png", folder + b"/b\xe4r.png")
    said = call("score", detector, "in", "--out", "s.csv", "--maps", "maps", "--json")
    assert said.json["scored"] == 1
    assert Path("s.csv").read_text().splitlines()[1].startswith("b\\xe4r.png,")
    assert [path.name for path in Path("maps").iterdir()] == ["b\\xe4r.png"]
    call("train", "gan", "in", "--variant", "mlp", "--size", "16", "--batch", "1", "--rounds", "1", "--json")


def test_score_lists_what_it_skipped(call, detector, paint):
    paint(*(f"in/{k}.png" for k in range(5)), mode="L")
    os.truncate("in/3.png", 200)
    said = call("score", detector, "in", "--out", "s.csv", "--json")
    assert (said.json["scored"], [name for name, _ in said.json["skipped"]]) == (4, ["3.png"])
    assert "3.png" not in Path("s.csv").read_text()
    assert "3.png" in call("score", detector, "in", "--out", "t.csv", "--strict", status=2).sentence
    assert not Path("t.csv").exists()


@pytest.mark.parametrize("verb", [["sample"], ["score", "digits"], ["evaluate"], ["train", "--resume", "--out"]])
@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("missing", None, "'missing' does not exist"),
        ("in", None, "'in' is not a run (it has no run.yaml)"),
        ("in", "job: 5", "does not describe a run"),
        ("in", "job: {model: gan}\nfacts: {}", "does not describe a run"),
        ("in", "job: {modle: gan}\nfacts: {spec: 1}", "did you mean 'model'?"),
        ("in", "job: [", "is not readable as YAML"),
    ],
)
def test_a_folder_that_is_no_run(call, verb, name, text, sentence):
    Path("in").mkdir()
    if text is not None:
        Path("in/run.yaml").write_text(text)
    arguments = [verb[0], name, *verb[1:]] if verb[0] != "train" else [*verb, name]
    assert sentence in call(*arguments, status=2).sentence
    assert left() == []


@pytest.fixture
def copy(detector: Path, tmp_path: Path) -> Path:
    """A run of a detector that may be broken."""
    shutil.copytree(detector, tmp_path / "in" / "run")
    return Path("in/run")


def break_weights(run: Path) -> None:
    os.truncate(run / "model.safetensors", 5000)


def lose_weights(run: Path) -> None:
    (run / "model.safetensors").unlink()


def lose_calibration(run: Path) -> None:
    (run / "calibration.npy").unlink()


def break_calibration(run: Path) -> None:
    os.truncate(run / "calibration.npy", 20)


def other_recipe(run: Path) -> None:
    content = yaml.safe_load((run / "run.yaml").read_text())
    content["job"]["recipe"]["width"] = 16
    (run / "run.yaml").write_text(yaml.safe_dump(content))


def text_for_weights(run: Path) -> None:
    (run / "model.safetensors").write_text("these are no weights")


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (break_weights, "model.safetensors' is damaged or cut short"),
        (text_for_weights, "model.safetensors' is damaged or cut short"),
        (lose_weights, "model.safetensors' is not there: the training has not ended, go on with --resume."),
        (other_recipe, "model.safetensors' holds the weights of another model than GANomaly with this recipe"),
        (lose_calibration, "calibration.npy"),
        (break_calibration, "calibration.npy"),
    ],
)
def test_a_run_that_is_damaged(call, copy, harm, sentence):
    harm(copy)
    for verb in (["score", copy, "digits", "--out", "s.csv"], ["evaluate", copy]):
        assert sentence in call(*verb, status=2).sentence
    assert left() == []


def test_weights_of_another_model(call, copy, generator):
    shutil.copy(generator / "model.safetensors", copy)
    assert "holds the weights of another model" in call("score", copy, "digits", status=2).sentence


def test_maps_without_their_scale(call, copy):
    (copy / "map_scale.npy").unlink()
    assert "map_scale.npy' is missing" in call("score", copy, "digits", "--maps", "maps", status=2).sentence
    assert left() == []


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda path: os.truncate(path, 5000), "checkpoint' is damaged or cut short"),
        (lambda path: path.write_text("no checkpoint"), "checkpoint' is damaged or cut short"),
        (lambda path: torch.save({"format": 0}, path), "is not a checkpoint that this version reads"),
        (lambda path: torch.save([1], path), "is not a checkpoint that this version reads"),
    ],
)
def test_a_checkpoint_that_is_damaged(call, copy, harm, sentence):
    before = (copy / "model.safetensors").read_bytes()
    harm(copy / "checkpoint")
    assert sentence in call("train", "--resume", "--out", copy, "--json", status=2).sentence
    assert (copy / "model.safetensors").read_bytes() == before


def test_a_checkpoint_of_another_model(call, copy, generator):
    shutil.copy(generator / "checkpoint", copy)
    said = call("train", "--resume", "--out", copy, "--json", status=2)
    assert "is a checkpoint of DCGAN, not of GANomaly" in said.sentence


def test_a_checkpoint_of_another_recipe(call, copy):
    other_recipe(copy)
    assert "with another recipe" in call("train", "--resume", "--out", copy, "--json", status=2).sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["dcgan"], "is a run of ganomaly, not of dcgan"),
        (["ganomaly", "mnist"], "is a run on digits, not on mnist"),
        (["--rounds", "5"], "--resume goes on with the settings in run.yaml"),
        (["--seed", "5"], "--resume goes on with the settings in run.yaml"),
    ],
)
def test_resume_refuses_other_settings(call, copy, arguments, sentence):
    assert sentence in call("train", *arguments, "--resume", "--out", copy, status=2).sentence


def test_a_run_is_never_overwritten_unless_forced(call, copy):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    said = call("train", "gan", "digits", "--out", copy, status=2)
    assert said.sentence == "The output 'in/run' is already there: add --force to replace it, or --resume to go on."
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
    flags = ("--variant", "mlp", "--rounds", "1", "--limit", "50", "--out", copy, "--force", "--json")
    call("train", "gan", "digits", *flags)
    assert read_run(copy)[0].model == "gan"
    assert not (copy / "calibration.npy").exists()
    assert [path.name for path in Path("in").iterdir()] == ["run"]


def test_a_run_that_holds_the_data_is_not_replaced(call, copy, paint):
    folder = paint("in/run/photos/0.png", "in/run/photos/1.png")
    said = call("train", "gan", folder, "--variant", "mlp", "--size", "16", "--out", copy, "--force", status=2)
    assert said.sentence == f"'{folder}' lies in 'in/run', and would be replaced with it: choose another --out."
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_what_is_no_run_is_not_replaced(call, force):
    Path("in").mkdir()
    Path("in/thesis.txt").write_text("years of work")
    for out in ("in", "in/thesis.txt"):
        assert "is already there: choose another." in call("train", "gan", "--out", out, *force, status=2).sentence
    assert Path("in/thesis.txt").read_text() == "years of work"
    assert "a part of that path is a file" in call("train", "gan", "--out", "in/thesis.txt/run", status=2).sentence


def test_an_empty_folder_is_used(call):
    Path("in").mkdir()
    call("train", "gan", "digits", "--variant", "mlp", "--rounds", "1", "--limit", "50", "--out", "in", "--json")
    assert Path("in/model.safetensors").is_file()


FULL = OSError(errno.ENOSPC, "No space left on device")
DENIED = PermissionError(errno.EACCES, "Permission denied")


def fails(error: OSError):
    def fail(*arguments: object, **settings: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("where", "error", "sentence"),
    [
        ("os.fsync", FULL, "the disk is full, free some space; what was there is intact."),
        ("tempfile.mkstemp", DENIED, "the folder may not be written to, choose another; what was there is intact."),
        ("tempfile.mkdtemp", DENIED, "the folder may not be written to, choose another; what was there is intact."),
        ("tempfile.mkdtemp", OSError(errno.EROFS, "Read-only"), "the folder is read-only, choose another"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_nowhere_to_write_a_run(call, copy, monkeypatch, where, error, sentence, force):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    monkeypatch.setattr(where, fails(error))
    out = [copy, "--force"] if force else ["new"]
    flags = ("--variant", "mlp", "--rounds", "1", "--limit", "50", "--json", "--out")
    assert sentence in call("train", "gan", "digits", *flags, *out, status=2).sentence
    assert left() == []
    assert {path: path.read_bytes() for path in Path("in").rglob("*") if path.is_file()} == before


def test_a_disk_that_fills_up_during_the_training(call, monkeypatch):
    flags = ("train", "gan", "digits", "--variant", "mlp", "--limit", "200", "--rounds", "4", "--checkpoint-seconds", 0)
    save = os.fsync
    calls = []

    def full_at_last(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 6:
            raise FULL
        save(handle)

    monkeypatch.setattr(os, "fsync", full_at_last)
    assert "the disk is full" in call(*flags, "--out", "run", "--json", status=2).sentence
    assert not list(Path("run").rglob(".*"))
    assert torch.load("run/checkpoint", weights_only=True)["step"] >= 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_too_little_memory(call, monkeypatch, error):
    monkeypatch.setattr("sparring.engine.Engine.play", fails(error))
    said = call("train", "gan", "digits", "--rounds", "1", "--limit", "50", "--json", status=2)
    assert said.sentence == "There is too little memory for this: lower --batch or --size, or --limit the data."


@pytest.mark.parametrize("error", [FULL, DENIED])
def test_results_that_cannot_be_written(call, detector, generator, monkeypatch, error):
    monkeypatch.setattr("tempfile.mkstemp", fails(error))
    for verb in (
        ["score", detector, "digits", "--limit", "20", "--out", "s.csv"],
        ["sample", generator, "--n", "2", "--out", "made"],
        ["sample", generator, "--n", "2", "--out", "made.png"],
    ):
        said = call(*verb, status=2)
        assert said.err.splitlines()[-1].startswith(f"sparring: '{verb[-1]}")
        assert "could not be written: the " in said.err
    assert not [path for path in Path().rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "s.xlsx"], "give a file that ends in .csv or .parquet."),
        (["--out", "scores"], "give a file that ends in .csv or .parquet."),
        (["--false-alarms", "0"], "0"),
        (["--false-alarms", "1.5"], "1.5"),
        (["--split", "dev"], "no split 'dev'"),
        (["--limit", "0"], "--limit is the number of examples to use"),
    ],
)
def test_score_refuses(call, detector, arguments, sentence):
    assert sentence in call("score", detector, "digits", *arguments, status=2).sentence
    assert left() == []


def test_a_split_that_is_not_there_is_refused(call, detector, translator, photos):
    for verb in (["score", detector], ["evaluate", detector], ["translate", translator]):
        for split in ("tset", "test", "test[:5]"):
            assert "has no splits: leave" in call(*verb, photos, "--split", split, status=2).sentence
    flags = ("--split", "train[:5]", "--out", "s.csv", "--json")
    assert call("score", detector, photos, *flags).json["scored"] == 5


@pytest.mark.parametrize(
    ("data", "options", "sentence"),
    [
        ("in", ["--maps", "in"], "The maps in 'in' would lie among the images of 'in' and be judged"),
        ("in", ["--maps", "in/maps"], "The maps in 'in/maps' would lie among the images of 'in' and be judged"),
        ("in/0.png", ["--maps", "in"], "'in/0.png' is already there, and no earlier result"),
        ("in.parquet", ["--out", "in.parquet"], "'in.parquet' holds the data to judge, and would be written over"),
    ],
)
def test_score_never_writes_over_what_it_judges(call, detector, paint, data, options, sentence):
    paint("in/0.png", "in/1.png", mode="L")
    Path("in.parquet").write_bytes(b"PAR1")
    before = {path: path.read_bytes() for path in Path().rglob("*.p*") if path.is_file()}
    out = [] if "--out" in options else ["--out", "s.csv"]
    assert sentence in call("score", detector, data, *options, *out, status=2).sentence
    assert {path: path.read_bytes() for path in Path().rglob("*.p*") if path.is_file()} == before


def test_samples_take_the_place_of_samples_alone(call, generator, paint):
    folder = paint("in/00000.png")
    before = (folder / "00000.png").read_bytes()
    said = call("sample", generator, "--n", "2", "--out", "in", status=2)
    assert said.sentence == "'in/00000.png' is already there, and no earlier result: choose another folder, or move it."
    assert [path.read_bytes() for path in folder.iterdir()] == [before]
    for seed in (0, 1):
        call("sample", generator, "--n", "2", "--seed", seed, "--out", "made", "--json")


def test_demo_replaces_no_run_but_its_own(call, copy):
    before = (copy / "model.safetensors").read_bytes()
    assert "holds a training with other settings" in call("demo", "--out", copy, status=2).sentence
    assert (copy / "model.safetensors").read_bytes() == before


def test_a_picture_among_the_samples_of_a_run_is_left_alone(call, copy, paint):
    paint("in/run/samples/mine.png")
    call("evaluate", copy, "--limit", "30", "--json")


def test_verbs_need_a_model_that_can(call, detector, generator, on_features, features):
    said = call("sample", detector, status=2)
    assert said.sentence == "A run of ganomaly cannot generate: train a generator, such as dcgan."
    assert "A run of dcgan cannot score: train a detector" in call("score", generator, "digits", status=2).sentence
    maps = call("score", on_features, features, "--out", "s.csv", "--maps", "maps", status=2)
    assert "maps are for images: leave --maps out." in maps.sentence
    assert "of shape (1, 8, 8)" in call("score", on_features, "digits", status=2).sentence
    assert "of shape (6,)" in call("score", detector, features, status=2).sentence
    assert left() == []


def test_sample_refuses(call, generator):
    assert "must be 1 or more; got 0." in call("sample", generator, "--n", "0", status=2).sentence
    assert "give a file that ends in .png" in call("sample", generator, "--out", "a.jpg", status=2).sentence
    assert "a name in it is too long" in call("sample", generator, "--out", "a" * 300, status=2).sentence
    assert "(File name too long)" in call("sample", "a" * 300, status=2).sentence
    assert left() == []


def test_evaluate_refuses_what_the_run_was_trained_on(call, detector):
    for arguments in (["--split", "train"], ["digits", "--split", "train"], ["--split", "train[:50]"]):
        said = call("evaluate", detector, *arguments, status=2)
        assert said.sentence == "The run was trained on the split 'train': judge it on another one."


def test_leaky_distances_are_of_generators(call, detector):
    said = call("evaluate", detector, "--leaky", status=2)
    assert said.sentence == "--leaky is for generators alone, and ganomaly is none: leave it out."


def test_evaluate_wants_other_data_where_there_are_no_splits(call, photos):
    call("train", "ganomaly", photos, *TINY_FLAGS, "--rounds", "1", "--out", "run", "--json")
    for data in ([], [photos]):
        assert "has no test split: name the data to judge by" in call("evaluate", "run", *data, status=2).sentence
    assert not Path("run/report.html").exists()


def test_evaluate_asks_which_classes_are_normal(call, photos, detector, labelled):
    call("train", "ganomaly", photos, *TINY_FLAGS, "--rounds", "1", "--out", "run", "--json")
    asked = "say which are normal, such as --normal good, or --normal all."
    for run, learnt in (("run", "no classes"), (detector, "only 0 as normal")):
        said = call("evaluate", run, labelled, "--report", "r.html", status=2)
        assert f"has the classes bad, good, and the run knows {learnt}: {asked}" in said.sentence
    found = call("evaluate", "run", labelled, "--normal", "good", "--report", "r.html", "--json").json
    assert found["detection"]["counts"]["normal"] == 6


def test_calibrate_asks_which_classes_are_normal(call, photos, labelled):
    call("train", "ganomaly", photos, *TINY_FLAGS, "--rounds", "1", "--out", "run", "--json")
    before = Path("run/calibration.npy").read_bytes()
    said = call("calibrate", "run", labelled, status=2)
    assert "has 2 classes: say which are normal, such as --normal good, or --normal all." in said.sentence
    assert Path("run/calibration.npy").read_bytes() == before
    assert call("calibrate", "run", labelled, "--normal", "good", "--json").json["calibrated_on"] == 6
    assert "the run was calibrated on" in call("evaluate", "run", labelled / "good", status=2).sentence
    assert call("evaluate", "run", labelled / "bad", "--json").json["examples"] == 6


def test_simple_detectors_do_not_learn_from_a_single_example():
    with pytest.raises(UserError, match="leaves one example to learn from, and simple detectors need two: give more"):
        learnt_rows(open_source(np.zeros((1, 6))), tiled=False)
    for make in BASELINES.values():
        assert len(make(learnt_rows(open_source(np.eye(2)), tiled=False)).score(np.eye(2, dtype=np.float32))) == 2


def test_evaluate_refuses(call, detector, features):
    assert "There is no class 'zero'" in call("evaluate", detector, "--normal", "zero", status=2).sentence
    assert "must lie between 0 and 1" in call("evaluate", detector, "--false-alarms", "2", status=2).sentence
    Path("in").mkdir()
    said = call("evaluate", detector, "--limit", "30", "--report", "in", status=2)
    assert "it is a folder, name a file" in said.sentence
    assert left() == []
