"""Measuring generators: perfect, noisy, collapsed and real ones."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparring import evaluate, features, generation, load, train
from sparring.data import open_source, to_tensor
from sparring.errors import UserError
from sparring.features import Lesson
from sparring.metrics import frechet_distance
from tiny import TINY, VECTORS

pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(features, "LESSON", Lesson(epochs=4, batch=32))


class Copies(nn.Module):
    """Makes what it was shown, by class where it is asked to."""

    def __init__(self, source: Any, conditional: bool, change: Any = None) -> None:
        super().__init__()
        self.x = to_tensor(source.read(slice(None)))
        self.labels = torch.from_numpy(source.labels)
        self.conditional, self.captioned, self.change = conditional, False, change
        self.sizes: list[int] = []
        self.asked: list[int] = []

    def generate(self, n: int, z: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        self.sizes.append(n)
        chosen = torch.randint(len(self.x), (n,))
        if label is not None:
            self.asked += label.tolist()
            weights = (self.labels == label[:, None]).float()
            chosen = torch.multinomial(weights, 1)[:, 0]
        x = self.x[chosen]
        return x if self.change is None else self.change(x)


def test_copies_of_training_images_are_told_from_new_ones():
    found, evidence, _ = measured(lambda source: Copies(source, False), 200)
    copies = found["memorisation"]
    assert (copies["made"], copies["real"]) == (200, 200)
    for space in ("pixels", "features"):
        assert copies[space]["training"] == 1258
        assert copies[space]["share"] > 0.99
        assert copies[space]["p_value"] < 1e-50
        assert copies[space]["beyond"] > 190
        assert all(pair["distance"] < 1e-3 for pair in copies[space]["closest"])
    assert copies["verdict"].startswith("Made images lie closer to training images than unseen real ones do: by pixels")
    assert copies["verdict"] in evidence["nearest"]["verdict"]
    assert "look at the closest pairs" in copies["verdict"]
    assert set(evidence["nearest"]["pictures"]) == {"pixels", "features"}
    fresh = open_source("digits", split="test").take(slice(1, None, 2))
    found, _, _ = measured(lambda source: Copies(fresh, False), 500)
    honest = found["memorisation"]
    for space in ("pixels", "features"):
        assert honest[space]["share"] == pytest.approx(0.5, abs=0.06)
        assert honest[space]["p_value"] > 0.01
    assert honest["verdict"].startswith("Made images lie no closer to training images than unseen real ones do: by pix")
    assert "look at" not in honest["verdict"]


def measured(
    game_of: Any, samples: int = 500, classes: tuple[str, ...] = (), asked: str = "default", leaky: bool = False
) -> Any:
    """Measure a game on the test split of `digits`, as a run of these classes would be."""

    def opened(data: Any, split: str | None = "test", **options: Any) -> Any:
        return open_source(data, split=split, **options)

    training = opened("digits", "train", classes=classes or None)
    job = SimpleNamespace(data="digits", split="train", classes=classes, limit=None, judge_every=None)
    game = game_of(training)
    run: Any = SimpleNamespace(game=game, job=job, spec=training.spec(), open=opened)
    evidence: dict[str, Any] = {"notes": []}
    found = generation.generation(run, opened("digits"), evidence, samples, asked, leaky=leaky)
    return found, evidence, game


def test_copies_of_the_training_images_reach_what_these_reach():
    found, evidence, game = measured(lambda source: Copies(source, True), 800)
    part = found["distances"]
    measures, best = part["measures"], part["training"]
    assert (part["real"], part["made"]) == (539, 800)
    assert part["accuracy"] > 0.93
    assert part["features"].startswith("classifier trained on digits")
    assert measures["frechet_distance"]["value"] < 3 * best["frechet_distance"]["value"]
    for name, slack in {"precision": 0.05, "recall": 0.1, "coverage": 0.15, "inception_score": 0.3}.items():
        assert measures[name]["value"] == pytest.approx(best[name]["value"], abs=slack)
    assert measures["class_accuracy"]["value"] > 0.98
    assert measures["transfer_accuracy"]["value"] > 0.9
    assert measures["modes"]["value"] == measures["modes"]["of"] == 10
    assert measures["modes"]["kl"] < 0.03
    assert max(game.sizes) == 64
    assert sum(game.sizes) == len(game.asked) == 800
    assert json.loads(json.dumps(found)) == found
    assert set(evidence["generation"]) == {m.heading for m in generation.MEASURES.values()} | {"Parzen log-likelihood"}
    assert any(f"hash {part['hash']}" in note for note in evidence["notes"])


def test_distances_to_what_was_learnt_stand_beside_the_clean_ones():
    clean, _, _ = measured(lambda source: Copies(source, False), 500)
    both, evidence, _ = measured(lambda source: Copies(source, False), 500, leaky=True)
    leaky = both["distances"].pop("leaky")
    assert both["distances"] == clean["distances"]
    assert set(leaky) == {"real", "frechet_distance", "kernel_distance"}
    assert leaky["real"] == 1258
    assert leaky["frechet_distance"]["value"] < clean["distances"]["measures"]["frechet_distance"]["value"] / 2
    assert any("Against the 1,258 examples that the run learnt from" in note for note in evidence["notes"])


def test_noise_blur_and_collapse_are_told_apart():
    def noise(x: Tensor) -> Tensor:
        return torch.rand_like(x) * 2 - 1

    def same(x: Tensor) -> Tensor:
        return x[:1].expand_as(x)

    good = measured(lambda source: Copies(source, False))[0]["distances"]["measures"]
    noisy = measured(lambda source: Copies(source, False, noise))[0]["distances"]["measures"]
    one = measured(lambda source: Copies(source.of(["3"]), False))[0]["distances"]["measures"]
    assert good["frechet_distance"]["value"] < one["frechet_distance"]["value"] / 5
    assert good["kernel_distance"]["value"] < min(one["kernel_distance"]["value"], noisy["kernel_distance"]["value"])
    assert noisy["precision"]["value"] < 0.5
    assert noisy["coverage"]["value"] < 0.2
    assert noisy["two_sample_accuracy"]["value"] > 0.95
    assert one["precision"]["value"] > 0.6
    assert one["recall"]["value"] < 0.3
    assert one["inception_score"]["value"] < 2 < 8 < good["inception_score"]["value"]
    assert one["modes"]["value"] < good["modes"]["value"] == 10
    assert "class_accuracy" not in good
    handful = measured(lambda source: Copies(source, False, same))[0]["distances"]["measures"]
    assert handful["coverage"]["value"] < 0.1


def test_collapse_is_said_of_images_of_any_size(monkeypatch):
    monkeypatch.setattr(generation, "PARZEN_NUMBERS", 10)
    _, evidence, _ = measured(lambda source: Copies(source, False, lambda x: x[:1].expand_as(x)))
    assert any("mode collapse" in note for note in evidence["notes"])


def test_classes_are_asked_for_as_often_as_the_data_have_them():
    def uneven(source: Any) -> Copies:
        return Copies(source, True)

    found, _, game = measured(uneven, 300, classes=("2", "7"))
    assert set(game.asked) == {0, 1}
    part = found["distances"]
    assert part["real"] == len(open_source("digits", split="test", classes=["2", "7"]))
    assert (part["measures"]["modes"]["value"], part["measures"]["modes"]["of"]) == (2, 2)
    assert part["measures"]["class_accuracy"]["value"] > 0.97


def test_too_few_for_a_covariance_are_said_and_the_rest_is_measured():
    found, evidence, _ = measured(lambda source: Copies(source, False), 60)
    measures = found["distances"]["measures"]
    assert measures["frechet_distance"] is None
    assert "A Frechet distance of 256 features needs at least 257 real and 257 made examples, and got 60 and 60: give "\
        "more." in evidence["notes"]  # fmt: skip
    assert np.isfinite(measures["kernel_distance"]["value"])
    assert 0 <= measures["recall"]["value"] <= 1
    assert "Fréchet distance" not in evidence["generation"]


def test_pixels_as_features_by_the_formula():
    found, _, _ = measured(lambda source: Copies(source, True), 400, asked="pixels")
    training, test = open_source("digits").limited(400), open_source("digits", split="test").limited(400)
    x, y = (source.read(slice(None)).reshape(400, -1) / 255 for source in (test, training))
    assert found["distances"]["features"] == "pixels in [0, 1]"
    assert found["distances"]["training"]["frechet_distance"]["value"] == pytest.approx(
        frechet_distance(x, y), rel=1e-4
    )
    assert {"inception_score", "class_accuracy", "modes"}.isdisjoint(found["distances"]["measures"])
    assert found["distances"]["measures"]["transfer_accuracy"]["value"] > 0.9  # that of DCGAN's appendix needs no judge


def test_what_is_not_finite_is_said():
    with pytest.raises(UserError, match="finite"):
        measured(lambda source: Copies(source, False, lambda x: x * torch.nan), 60)


def test_a_run_is_measured_the_same_twice(generator):
    settings: Any = {"samples": 300}
    one, other = (evaluate(load(generator), **settings) for _ in range(2))
    assert one["distances"] == other["distances"]
    assert one["distances"]["made"] == 300
    assert one["distances"]["measures"]["frechet_distance"]["value"] > 0
    assert np.isfinite(one["parzen"]["mean"])
    run = load(generator)
    source = run.open(split="train")
    found = generation.make(run, features.choose("pixels", source), 150, source, run.open())
    assert found.pixels.shape == (150, 256)
    assert len(np.unique(found.pixels, axis=0)) == 150
    assert np.allclose(found.described.features, found.pixels, atol=1 / 255)


def test_vectors_are_compared_as_they_are(tmp_path):
    random = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x_train=random.normal(size=(80, 6)), x_test=random.normal(size=(60, 6)))
    run = train("gan", tmp_path / "x.npz", out=tmp_path / "run", recipe=VECTORS)
    found = evaluate(run, samples=100)
    assert found["distances"]["features"] == "the values themselves"
    assert found["distances"]["real"] == 60
    assert "parzen" not in found


def test_what_a_run_was_trained_on_does_not_judge_it(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (120, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "x.npy", images)
    settings: Any = {"size": 16, "recipe": {**TINY, "rounds": 1}}
    whole = train("dcgan", tmp_path / "x.npy", out=tmp_path / "whole", **settings)
    assert not {"distances", "parzen"} & set(evaluate(whole))
    with pytest.raises(UserError, match="judge it on another one"):
        evaluate(whole, split="train[-20:]", samples=30)
    part = train("dcgan", tmp_path / "x.npy", out=tmp_path / "part", split="train[:-30]", **settings)
    found = evaluate(part, split="train[-30:]", samples=30)
    assert found["distances"]["real"] == 30
    assert "random weights" in found["distances"]["features"]
    with pytest.raises(UserError, match="judge it on another one"):
        evaluate(part, split="train[-40:]", samples=30)
    assert not {"distances", "parzen"} & set(evaluate(part))


def test_the_command_line_says_what_it_compares(call, generator):
    flags = ("evaluate", generator, "--samples", "40", "--features", "pixels", "--report", "r.html")
    found = call(*flags, "--json").json
    assert found["distances"]["features"] == "pixels in [0, 1]"
    assert found["distances"]["made"] == 40
    notes = found["notes"]
    assert any(note.startswith("Distances compare 40 made with") for note in notes)
    printed = " ".join(call(*flags).out.split())
    assert all(" ".join(note.split()) in printed for note in notes)
    said = call("evaluate", generator, "--features", "nothing.pt", "--report", "r.html", status=2)
    assert "--features takes default, pixels, or a file" in said.sentence
    said = call("evaluate", generator, "--samples", "1", "--report", "r.html", status=2)
    assert said.sentence == "--samples is how many to make and measure, and must be 2 or more; got 1."
