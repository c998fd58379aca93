"""From images to "known: 3" or "unknown": a classifier, its features, OpenGAN on them, and scores."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sparring import load, models, train
from sparring.data import open_source
from sparring.encoders import of_player, of_timm, open_encoder
from sparring.errors import UserError
from sparring.inbox import Inbox, Ledger
from sparring.job import read_run
from sparring.metrics.novelty import NOVELTY
from sparring.models.wgan_gp import MNIST
from sparring.preparation import ask, set_up
from sparring.protocol import Spec
from sparring.report.unknown import recognition
from sparring.testing.rig import cases
from sparring.turns import curve

pytestmark = pytest.mark.usefixtures("eager", "no_report")
KNOWN = ("0", "1", "2", "3", "4", "5")
GAN = {"rounds": 20, "batch": 32, "latent": 8, "hidden": (16,), "units": (16, 8)}
FLAGS = ("--rounds", "20", "--batch", "32", "--set", "latent=8", "--set", "hidden=[16]", "--set", "units=[16,8]")


@pytest.fixture(scope="session")
def backbone(tmp_path_factory) -> Path:
    """A run of classifier on six digits; not to be changed."""
    out = tmp_path_factory.mktemp("classifier") / "run"
    recipe = {"rounds": 80, "batch": 32, "width": 8}
    return train("classifier", "digits", out=out, known=KNOWN, recipe=recipe).folder


@pytest.fixture(scope="session")
def features_file(tmp_path_factory, backbone) -> Path:
    from sparring.cli import main

    path = tmp_path_factory.mktemp("features") / "digits.npz"
    main(["features", str(backbone), "digits", "--out", str(path)])
    return path


@pytest.fixture(scope="session")
def recogniser(tmp_path_factory, backbone) -> Path:
    """A run of opengan on the features of the classifier; not to be changed."""
    out = tmp_path_factory.mktemp("opengan") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparring.run.has_onnx", lambda: False)
        return train("opengan", "digits", out=out, backbone=str(backbone), open_validation="digits", recipe=GAN).folder


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_classifier_learns_its_classes(backbone):
    run = load(backbone)
    test = run.open("digits", "test").of(KNOWN)
    encoded = open_encoder(str(backbone)).encode(test)
    assert run.spec.classes == encoded.outputs == KNOWN
    assert (encoded.logits_now().argmax(1) == test.labels).mean() > 0.8
    assert encoded.items.shape == (len(test), 64)
    assert encoded.unseen_now() is None  # of another split it can say nothing


def test_features_bring_all_that_is_known(backbone, features_file):
    with np.load(features_file) as file:
        assert {"features_train", "labels_train", "logits_train", "unseen_train", "classes_test"} <= set(file.files)
    source = open_source(str(features_file))
    classes = [source.classes[k] for k in source.labels]
    unseen = source.unseen_now()
    assert all(unseen[k] for k, name in enumerate(classes) if name not in KNOWN)
    share = np.mean([unseen[k] for k, name in enumerate(classes) if name in KNOWN])
    assert 0.05 < share < 0.15  # a tenth is held out of the classifier's training
    assert source.encoder == open_encoder(str(backbone)).hash
    part = source.of(("3", "8")).limited(10)
    assert len(part.logits_now()) == len(part.unseen_now()) == 10


def test_features_are_computed_once(backbone, monkeypatch):
    encoder, source = open_encoder(str(backbone)), open_source("digits", split="test[:40]")
    first = encoder.encode(source)
    monkeypatch.setattr("sparring.encoders.batches", None)
    assert np.array_equal(encoder.encode(source).items, first.items)


def test_a_run_on_a_backbone_names_or_refuses(call, recogniser):
    run = load(recogniser)
    assert run.recognised == KNOWN
    assert "real open ones" in run.facts["selected_by"]
    said = call("score", recogniser, "digits", "--out", "scores.csv", "--json", "--limit", "60").json
    table = rows_of(Path("scores.csv"))
    assert said["scored"] == len(table) == 60
    for row in table:
        flagged = float(row["p_value"]) <= 0.05
        assert row["verdict"] == ("unknown" if flagged else f"known: {row['predicted']}")
        assert row["predicted"] in KNOWN
        assert 1 / 6 <= float(row["probability"]) <= 1


def test_an_evaluation_says_what_was_recognised(call, recogniser, quick, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("sparring.evaluation.write_report", lambda path, evidence: seen.append(evidence))
    said = call("evaluate", recogniser, "--baselines", "--json", "--report", "r.html")
    found = json.loads(said.out)["recognition"]
    measures = set(found) - {"baselines"}
    assert {"auroc", "oscr", "f1", "closed_accuracy"} <= measures
    assert set(found["baselines"]) == {*NOVELTY, "ODIN"}
    for part in (found, *found["baselines"].values()):
        assert all(0 <= part[name] <= 1 for name in measures)
    assert found["closed_accuracy"] == found["baselines"]["energy"]["closed_accuracy"] > 0.8
    (evidence,) = seen
    for one in evidence.unknown:
        assert one.p_value <= 0.05
        assert one.image.size == evidence.unknown[0].nearest[0][2].size
        assert {kind for _, kind, _ in one.nearest} <= set(KNOWN)
    html = recognition(evidence)
    assert "Called unknown" in html
    assert html.count("<li>") == 3 * len(evidence.unknown)


def test_a_classifier_is_evaluated(call, backbone):
    found = call("evaluate", backbone, "--json", "--report", "r.html").json
    assert found["accuracy"]["value"] > 0.8
    assert 300 < found["accuracy"]["of"] < 340  # six of ten digits


def test_features_and_images_are_judged_alike(call, recogniser, features_file):
    call("score", recogniser, "digits", "--out", "images.csv", "--limit", "30")
    call("score", recogniser, features_file, "--out", "features.csv", "--limit", "30")
    assert [row["score"] for row in rows_of(Path("images.csv"))] == [
        row["score"] for row in rows_of(Path("features.csv"))
    ]


def test_training_on_a_file_of_features(call, features_file):
    said = call("train", "opengan", features_file, "--known", "0,1,2", *FLAGS, "--out", "run", "--json")
    assert "mixtures" in said.err
    facts = read_run(Path("run"))[1]
    assert facts["recognised"] == ["0", "1", "2"]
    call("evaluate", "run", "--json")


def test_features_without_logits_get_a_linear_classifier(call):
    x, y = (np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32), np.arange(90) % 3)
    x[:, 0] += 5 * y
    np.savez("f.npz", x=x, y=y)
    call("train", "opengan", "f.npz", "--known", "0,1,2", *FLAGS, "--out", "run")
    call("score", "run", "f.npz", "--out", "s.csv")
    assert np.mean([row["predicted"] == str(k % 3) for k, row in enumerate(rows_of(Path("s.csv")))]) > 0.9
    os.truncate("run/head.npz", 200)
    assert "head.npz' is damaged" in call("score", "run", "f.npz", "--out", "t.csv", status=2).sentence


def test_epochs_chosen_by_classes_left_out(call, features_file):
    said = call("train", "opengan", features_file, "--known", "0,1,2", "--select", "classes", "--epochs", "4",
                *FLAGS[2:], "--out", "run", "--json")  # fmt: skip
    assert "left out in turn" in said.err
    job, _ = read_run(Path("run"))
    assert job.recipe["rounds"] % 10 == said.json["rounds"] % 10
    assert 1 <= job.recipe["rounds"] <= 80


def test_other_features_are_refused(call, tmp_path, recogniser, features_file):
    x = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    np.save("five.npy", x)
    assert "shape (5,)" in call("score", recogniser, "five.npy", status=2).sentence
    with np.load(features_file) as file:
        other = dict(file) | {"encoder": np.array("0123456789ab")}
    np.savez("other.npz", **other)
    assert "features of the encoder 0123456789ab" in call("score", recogniser, "other.npz", status=2).sentence
    np.savez("nan.npz", **(other | {"features_test": np.full_like(other["features_test"], np.nan)}))
    assert "NaN" in call("score", recogniser, "nan.npz", status=2).sentence
    for classes in ((), ("a", "b")):
        np.savez("hand.npz", features=x, labels=np.arange(8), classes=np.array(classes, str), encoder=np.array(""))
        assert "labels that are no numbers of its classes" in call("train", "opengan", "hand.npz", status=2).sentence


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--known", "0,11"), "There is no class '11'"),
        (("--known", "3"), "has examples to learn from of 3 alone: name two such classes or more with --known"),
        (("--open-validation", "{file}", "--known", "0,1,2,3,4,5,6,7,8,9"), "are of known classes"),
        (("--outliers", "{file}", "--known", "0,1,2,3,4,5,6,7,8,9"), "are of known classes"),
        (("--known", "0,1", "--outliers", "{file}", "--open-validation", "{file}"), "are outliers to learn from, too"),
        (("--known", "0,1", "--outliers", "{file}", "--variant", "authors_code"), "has no use for outliers"),
        (("--known", "0,1", "--outliers", "{file}@train[9999:]"), "is empty"),
        (("--known", "0,1", "--select", "classes"), "there are 2: 3 at least"),
        (("--known", "0,1", "--outliers", "none"), "There is no file or folder 'none'"),
        (("--known", "0,1", "--backbone", "gone"), "There is no backbone 'gone'"),
        (("--known", "0,1", "--set", "fake=0"), "opengan needs outliers, and none is given"),
        (("--known", "0,1", "--set", "fake=0", "--set", "outlier=0"), "one weight must be above 0"),
    ],
)
def test_train_refuses(call, features_file, more, sentence):
    more = [text.format(file=features_file) for text in more]
    assert sentence in call("train", "opengan", features_file, *more, *FLAGS, "--out", "run", status=2).sentence
    assert not Path("run").exists()


def test_a_classifier_refuses_one_class(call):
    assert "have 1: give 2 or more" in call("train", "classifier", "digits", "--known", "3", status=2).sentence


def test_outliers_of_known_classes_are_left_out(call, features_file):
    """By the names of their classes, which is said; a fifth of the others is not learnt from, and selects."""
    source = open_source(str(features_file))
    inside = int(np.isin(source.labels, [0, 1]).sum())
    said = call("train", "opengan", features_file, "--known", "0,1", "--outliers", features_file, *FLAGS, "--out", "r")
    assert f"{inside:,} examples of" in said.err
    assert "called as known ones are (0, 1)" in said.err
    assert "outliers that are not learnt from" in said.err
    outliers = len(source) - inside
    assert read_run(Path("r"))[1]["beside"]["outlier"] == outliers - round(outliers / 5)


def test_outliers_among_the_known_are_told(call):
    """Those that were held out of the training too."""
    x = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    np.savez("known.npz", x=x, y=np.arange(100) % 2)
    job = ask("opengan", "known.npz", GAN, known=("0", "1"))
    np.save("outliers.npy", np.concatenate([set_up(job).select.read(slice(None)), x[:10] + 9]))
    call("train", "opengan", "known.npz", "--known", "0,1", "--outliers", "outliers.npy", *FLAGS, "--out", "r")
    note = [note for note in read_run(Path("r"))[1]["notes"] if "among the known" in note]
    assert "of the outliers are" in note[0]


def test_parts_of_one_set_learn_and_select(call, features_file):
    """A split stands behind the data; what is in both parts selects nothing."""
    parts = "--outliers", f"{features_file}@test[:100]", "--open-validation", f"{features_file}@test[60:]"
    said = call("train", "opengan", features_file, "--known", "0,1", *parts, *FLAGS, "--out", "r")
    test = open_source(str(features_file), split="test")
    opened = ~np.isin(test.labels, [0, 1])
    job, facts = read_run(Path("r"))
    assert job.outliers == f"{features_file}@test[:100]"
    assert facts["beside"]["outlier"] == opened[:100].sum()
    assert f"{opened[100:].sum():,} real open ones" in facts["selected_by"]
    assert f"{opened[60:100].sum()} open examples choose no weights" in said.err


def test_each_known_class_is_learnt(features_file):
    """The backbone saw none of 8, which is held out in part all the same; of 0 and 1, what it did not see."""
    setup = set_up(ask("opengan", str(features_file), GAN, known=("0", "1", "8")))
    learnt, held = setup.fit, [setup.held, setup.select]
    assert set(learnt.labels) == {0, 1, 2}
    assert not any(part.unseen_now()[part.labels < 2].any() for part in (learnt,))
    assert all(part.unseen_now().all() for part in held)
    eights = len(open_source(str(features_file)).of(("8",)))
    assert sum((part.labels == 2).sum() for part in held) == round(0.2 * eights)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_logits_without_names_are_tried(call, order):
    """They name the classes if they do it as well as a linear model, which takes their place where they do not."""
    random, y = np.random.default_rng(0), np.arange(300) % 3
    x = random.normal(size=(300, 4)).astype(np.float32)
    x[:, 0] += 9 * y
    logits = -np.abs(x[:, :1] - 9 * np.array(order)).astype(np.float32)
    np.savez("f.npz", features=x, labels=y, logits=logits, classes=np.array(["a", "b", "c"]), encoder=np.array(""))
    call("train", "opengan", "f.npz", "--known", "a,b,c", *FLAGS, "--out", "run")
    run = load(Path("run"))
    told = [note for note in run.facts["notes"] if "logits have no names" in note]
    assert len(told) == (order != (0, 1, 2))
    names, _ = run.named(run.open("f.npz", None))
    assert names == [("a", "b", "c")[k] for k in y]


def test_left_out_classes_of_any_size_have_curves_of_one_length():
    y = np.repeat([0, 1, 2], [150, 40, 9])
    source = open_source((np.random.default_rng(0).normal(size=(len(y), 4)).astype(np.float32), y))
    for recipe in (GAN | {"batch": 16}, GAN | {"batch": 16, "rounds": None, "epochs": 3}):
        job = ask("opengan", "array", recipe, known=("0", "1", "2"), select="classes", normal=("all",))
        setup = set_up(job, source)
        assert len({len(curve(setup, k)) for k in range(3)}) == 1


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU())
        self.last = nn.Linear(10, 3)

    def forward(self, x):
        return self.last(self.body(x))


def make_net():
    torch.manual_seed(0)
    return Net().eval()


def describe(x):
    return x.flatten(1)[:, :7]


def test_a_run_that_was_stopped_is_no_backbone(call, generator, tmp_path):
    shutil.copytree(generator, tmp_path / "cut")
    (tmp_path / "cut/model.safetensors").unlink()
    for verb in (["features", "cut", "digits"], ["train", "opengan", "digits", "--backbone", "cut", "--known", "0,1"]):
        said = call(*verb, status=2)
        assert "stopped before its end, and a backbone is trained already: go on with" in said.sentence
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


def test_a_watched_folder_is_told_names(recogniser, paint, tmp_path):
    folder = paint("in/1.png", "in/2.png", mode="L")
    inbox = Inbox(load(recogniser), folder, Ledger(tmp_path / "ledger.csv"))
    assert not list(inbox.look())
    expected = load(recogniser).score(folder, split=None).table()["verdict"]
    assert [entry.verdict for entry in inbox.look()] == expected
    assert all(said == "unknown" or said.startswith("known: ") for said in expected)


@pytest.mark.parametrize("name", [name for name in models.names() if not hasattr(models.find(name).game, "classify")])
def test_a_run_of_any_model_is_a_backbone_or_says_why_not(name):
    for case in cases(models.find(name)):
        if not case.spec.is_image:
            continue
        game, x = case.trained(), torch.rand(3, *case.spec.shape) * 2 - 1
        if name in ("anogan", "cgan", "cdcgan", "discogan", "cyclegan", "stackgan"):
            with pytest.raises(UserError, match=f"A run of {name} has no network that describes images by themselves"):
                of_player(game, None, name)
            continue
        features, logits = of_player(game, None, name)(x)
        assert features.ndim == 2
        assert len(features) == 3
        assert torch.isfinite(features).all()
        assert logits is None


def test_a_backbone_sees_images_as_it_learnt_to():
    game = models.find("wgan_gp").game(Spec((1, 28, 28), 100), replace(MNIST, width=4)).eval()
    heard = []  # by a critic that sees [0, 1]
    game.critic.register_forward_pre_hook(lambda network, given: heard.append(given[0]))
    of_player(game, None, "wgan_gp")(torch.full((2, 1, 28, 28), -1.0))
    assert float(heard[0].abs().max()) == 0


def test_files_and_functions_as_backbones(tmp_path, monkeypatch):
    net, source = make_net(), open_source("digits", split="test[:9]")
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(net, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    whole = open_encoder(str(tmp_path / "net.pt2")).encode(source)
    direct = open_encoder("test_open_set_cli:make_net").encode(source)
    named = open_encoder("test_open_set_cli:make_net", "body.1").encode(source)
    plain = open_encoder("test_open_set_cli:describe").encode(source)
    assert np.allclose(whole.items, direct.items, atol=1e-6)
    assert np.allclose(whole.logits, direct.logits, atol=1e-6)
    assert whole.items.shape == (9, 10)
    assert named.items.min() < 0 <= direct.items.min()
    assert plain.items.shape == (9, 7)
    assert plain.logits is None
    with pytest.raises(UserError, match="There is no layer 'boddy': did you mean 'body'"):
        open_encoder("test_open_set_cli:make_net", "boddy")
    for name in ("test_open_set_cli:gone", ":f"):
        with pytest.raises(UserError, match="to import"):
            open_encoder(name)
    with pytest.raises(UserError, match="is of type dict"):
        open_encoder("test_open_set_cli:GAN")


def test_timm_that_fails(monkeypatch):
    """Without a network timm raises what the hub does."""

    class Timm:
        @staticmethod
        def create_model(name, pretrained):
            raise OSError("no network")

    monkeypatch.setitem(sys.modules, "timm", Timm)
    with pytest.raises(UserError, match=r"timm cannot make 'resnet18' \(no network\)"):
        of_timm("resnet18", None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_networks_that_do_not_take_the_images(call, paint):
    paint("photos/0.png")
    torch.jit.trace(make_net().body, torch.zeros(2, 1, 8, 8)).save("body.pt")
    for backbone in ("body.pt", "test_open_set_cli:make_net"):
        said = call("features", backbone, "photos", status=2).err.splitlines()[-1]
        assert "This network does not take 1 images of shape (3, 20, 20) (mat1 and mat2 shapes" in said
        assert said.endswith("open images of its own with --size and --channels.")
        call("features", backbone, "photos", "--size", "8", "--channels", "1", "--json")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_as_a_backbone(tmp_path):
    torch.jit.trace(make_net().body, torch.zeros(2, 1, 8, 8)).save(str(tmp_path / "body.pt"))
    source = open_source("digits", split="test[:9]")
    found = open_encoder(str(tmp_path / "body.pt")).encode(source)
    assert np.allclose(found.items, open_encoder("test_open_set_cli:make_net").encode(source).items, atol=1e-6)
