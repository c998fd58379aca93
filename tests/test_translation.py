"""Models that translate: trained, applied and measured from the command line, and refused what they cannot do."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import pairwise_distances_argmin

from sparring import evaluate, load
from sparring.data import open_source
from sparring.errors import UserError
from sparring.metrics.modes import mapped_modes
from sparring.translation import Domains, file_names

FLAGS = ("--size", "16", "--batch", "8", "--rounds", "3", "--set", "width=4", "--json")


@pytest.fixture
def negative(monkeypatch):
    """Let the model translate perfectly."""
    monkeypatch.setattr("sparring.models.discogan.DiscoGAN.translate", lambda self, x, to: -x)


def test_round_trips_are_painted(translator):
    *_, last = sorted((translator / "samples").glob("*.png"))
    with Image.open(last) as grid:  # 8 tiles in a row of 64 pixels each, 6 rows
        assert grid.width / grid.height == pytest.approx(8 / 6, rel=0.02)


def test_two_folders(call, paint):
    paint(*(f"a/{k}.png" for k in range(12)))
    paint(*(f"b/{k}.png" for k in range(9)))
    call("train", "discogan", "a", "b", *FLAGS, "--out", "run")
    assert load("run").facts["beside"] == {"partner": 9}
    said = call("translate", "run", "a", "--to", "b", "--out", "made", "--json")
    assert said.json["translated"] == 12
    assert sorted(path.name for path in Path("made").iterdir()) == sorted(f"{k}.png" for k in range(12))
    name, image = next(load("run").translate("a", "b"))
    saved = torch.from_numpy(np.array(Image.open(Path("made") / name))).permute(2, 0, 1) / 127.5 - 1
    assert image.shape == (3, 16, 16)
    assert (saved - image).abs().max() < 0.01


def test_splits_and_parts_hold_for_both_domains(call, paint):
    paint(*(f"a/{k}.png" for k in range(12)))
    paint(*(f"b/{k}.png" for k in range(9)))
    call("train", "discogan", "a", "b", *FLAGS, "--split", "train[:-4]", "--out", "run")
    assert load("run").spec.count == 8
    assert load("run").facts["beside"] == {"partner": 5}


@pytest.mark.usefixtures("no_report", "quick")
def test_a_perfect_translation(translator, negative):
    found = evaluate(load(translator), samples=60, features="pixels")["translation"]
    assert found["pairs"] == 60
    for way in ("to_a", "to_b"):
        one = found[way]
        assert one["partner_rate"] == {"value": 1.0, "among": 60}
        assert one["cycle_error"]["value"] == pytest.approx(0, abs=1e-6)
        distance = abs(one["measures"]["kernel_distance"]["value"])
        assert one["untranslated"]["kernel_distance"]["value"] > 10 * distance


@pytest.mark.usefixtures("no_report", "quick")
def test_no_more_translations_are_kept_than_partners_are_looked_for(translator, negative, monkeypatch):
    kept = []

    def nearest(x, y):
        kept.append(len(x))
        return pairwise_distances_argmin(x, y)

    monkeypatch.setattr("sparring.translation.NUMBERS", 16 * 16 * 7)
    monkeypatch.setattr("sparring.translation.BATCH", 5)
    monkeypatch.setattr("sparring.translation.pairwise_distances_argmin", nearest)
    found = evaluate(load(translator), samples=60, features="pixels")["translation"]
    assert kept == [7, 7]
    assert found["to_b"]["partner_rate"] == {"value": 1.0, "among": 7}


def test_numbers_are_no_names():
    x = open_source(np.zeros((4, 2), np.float32))
    domains = Domains({"a": x, "b": x}, {})
    assert domains.partners(of_one_set=True)[0].tolist() == [0, 1, 2, 3]
    assert not len(domains.partners(of_one_set=False)[0])


def test_files_of_equal_names_are_pairs(paint):
    paint(*(f"a/{k}.png" for k in range(5)))
    paint(*(f"b/{k}.png" for k in (3, 1)))
    a, b = (open_source(paint(f"{name}/3.png"), size=16) for name in "ab")
    here, there = Domains({"a": a, "b": b}, {}).partners(of_one_set=False)
    assert [(a.names[i], b.names[j]) for i, j in zip(here, there, strict=True)] == [("1.png",) * 2, ("3.png",) * 2]
    odd = Domains({"a": a.take([0, 1]), "b": b}, {})
    assert not len(odd.partners(of_one_set=False)[0]), "neither 0.png nor 3.png has a partner"


@pytest.mark.usefixtures("no_report", "quick")
def test_classes_are_kept(translator, negative):
    found = evaluate(load(translator), samples=80)["translation"]["to_b"]
    assert found["class_agreement"]["value"] == pytest.approx(found["class_agreement"]["accuracy"])


def test_translated_files_keep_their_names():
    assert file_names(["a/1.jpg", "a/2.png", "b/1.jpg"]) == ["a/1.png", "a/2.png", "b/1.png"]
    assert file_names(["1.jpg", "1.png", "mnist/test/7"]) == ["1.jpg.png", "1.png.png", "mnist/test/7.png"]


def test_the_runs_own_data_are_those_of_the_domain(translator):
    run, digits = load(translator), open_source("digits", split="test", size=16, limit=3)
    shown = next(rows for _, rows in run.flow("digits", "b", split="test", limit=3))
    back = next(rows for _, rows in run.flow("digits", "a", split="test", limit=3))
    assert np.array_equal(shown, digits.read(slice(None)))
    assert np.array_equal(back, 255 - shown)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "discogan", "a"], "discogan needs a second domain, and none is given: sparring train discogan A B"),
        (["train", "discogan", "a", "empty"], "The folder 'empty' is empty"),
        (["train", "discogan", "a", "grey"], "'a' holds colour images and 'grey' grey images, .* add --channels 3"),
        (
            ["train", "discogan", "a", "b", "--domains", "halves"],
            "--domains makes two domains of 'a', and 'b' is given",
        ),
        (["train", "discogan", "a", "--domains", "turned"], "There is no way to make two domains 'turned'"),
        (["train", "dcgan", "a", "--domains", "halves"], "dcgan has no use for a second domain, and --domains halves"),
        (
            ["train", "discogan", "a", "b", "--judge-every", "2"],
            "--judge-every is for generators, and discogan generates",
        ),
    ],
)
def test_train_refuses(call, paint, arguments, sentence):
    paint(*(f"a/{k}.png" for k in range(4)))
    paint(*(f"b/{k}.png" for k in range(4)))
    paint(*(f"grey/{k}.png" for k in range(4)), mode="L")
    Path("empty").mkdir()
    said = call(*arguments, "--size", "16", "--rounds", "1", "--json", status=2)
    assert re.search(sentence, said.sentence)
    assert not Path("runs").exists()


def test_grey_and_colour_together(call, paint):
    paint(*(f"a/{k}.png" for k in range(8)))
    paint(*(f"grey/{k}.png" for k in range(8)), mode="L")
    call("train", "discogan", "grey", "a", *FLAGS, "--channels", "3", "--out", "run")
    assert load("run").spec.shape == (3, 16, 16)


def test_translate_refuses(call, generator, translator, paint):
    paint("small/0.png", size=(6, 6))
    paint("a/0.png", mode="L")
    assert "A run of dcgan cannot translate" in call("translate", generator, "digits", status=2).sentence
    assert "would be written over" in call("translate", translator, "a", "--out", "a", status=2).sentence
    for data, out in (("a/0.png", "a"), ("a/b", "a")):
        paint("a/b/0.png", mode="L")
        said = call("translate", translator, data, "--out", out, status=2)
        assert said.sentence.startswith("'a/0.png' is already there, and no earlier result")
    assert "give a folder, not 'b.png'" in call("translate", translator, "a", "--out", "b.png", status=2).sentence
    assert "too small for --size 16" in call("translate", translator, "small", "--out", "b", status=2).sentence
    paint("cut/0.png", "cut/1.png", mode="L", size=(90, 90))
    for path in Path("cut").iterdir():
        os.truncate(path, 200)
    assert (
        "Not one of the 2 images of 'cut' can be read"
        in call("translate", translator, "cut", "--out", "b", status=2).sentence
    )
    assert not Path("b").exists()
    with pytest.raises(UserError, match="There is no domain 'c'"):
        load(translator).translate("a", "c")


def test_evaluate_refuses(call, translator, generator, paint):
    paint(*(f"a/{k}.png" for k in range(4)), mode="L")
    said = call("evaluate", translator, "a", status=2)
    assert "A translation is judged by examples of both domains" in said.sentence
    assert "has no second domain" in call("evaluate", generator, "digits", "a", status=2).sentence


def test_modes_that_a_translation_reaches():
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]])
    start = np.repeat([0, 1], 50)
    apart = np.concatenate([centres[[0, 1]].repeat(25, 0), centres[[2]].repeat(50, 0)])
    found = mapped_modes(start, apart, centres, 1.0)
    assert (found["value"], found["shared"], found["one_to_one"], found["high_quality"]) == (3, 0, True, 1.0)
    assert found["table"] == [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    merged = mapped_modes(start, centres[[1]].repeat(100, 0), centres, 1.0)
    assert (merged["value"], merged["shared"], merged["one_to_one"]) == (1, 1, False)
    assert (merged["merged"], merged["collapsed"], found["merged"], found["collapsed"]) == (1, True, 0, False)
    few = np.concatenate([centres[[0] * 48 + [1] * 2], centres[[1] * 50]])
    touching = mapped_modes(start, few, centres, 1.0)
    assert (touching["shared"], touching["merged"], touching["collapsed"]) == (1, 0, False), "4 % are not much"
    lost = mapped_modes(start, np.full((100, 2), 5.0), centres, 1.0)
    assert (lost["value"], lost["one_to_one"], lost["high_quality"]) == (0, False, 0.0)
    assert not lost["collapsed"], "what reaches nothing has failed"
    away = np.concatenate([centres[[1]].repeat(40, 0), np.full((60, 2), 5.0)])
    assert mapped_modes(start, away, centres, 1.0)["collapsed"] is False, "most points are nowhere"
