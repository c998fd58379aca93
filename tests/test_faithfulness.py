"""How faithful images are to their texts: retrieval in closed form, attributes by name, and a whole evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sparring import faithfulness
from sparring.data import to_tensor
from sparring.data.shapes import ATTRIBUTES
from sparring.evaluation import evaluate
from sparring.features import Lesson
from sparring.text.characters import Lesson as TextLesson
from sparring.training import train


class Axes:
    """A judge to whom the k-th text of all is the k-th axis."""

    def __call__(self, texts):
        return np.eye(len(texts), 150, dtype=np.float32)


def test_r_precision_in_closed_form(monkeypatch):
    texts = [f"text {k:03d}" for k in range(150)]
    images = torch.eye(150)
    own = [[text] for text in texts]
    assert faithfulness.r_precision(Axes(), images, texts, own) == 1.0
    assert faithfulness.r_precision(Axes(), -images, texts, own) == 0.0
    assert faithfulness.r_precision(Axes(), torch.zeros(150, 150), texts, own) == 0.0, "a tie is not found"
    assert faithfulness.r_precision(Axes(), images[:1], ["the only one"], own[:1]) == 1.0
    noise = torch.rand(150, 150, generator=torch.Generator().manual_seed(0))
    assert faithfulness.r_precision(Axes(), noise, texts, own) < 0.05, "1 of 100 is chance"
    mixed = torch.cat([images[:75], -images[75:]])
    assert faithfulness.r_precision(Axes(), mixed, texts, own) == 0.5


def test_other_texts_of_the_same_image_are_none_that_it_is_to_be_told_from():
    texts = [f"text {k:03d}" for k in range(100)]
    twins = [[texts[k], texts[k ^ 1]] for k in range(100)]
    images = torch.eye(100, 150) + 2 * torch.eye(100, 150)[torch.arange(100) ^ 1]  # closer to the other text
    assert faithfulness.r_precision(Axes(), images, texts, [[text] for text in texts]) == 0.0
    assert faithfulness.r_precision(Axes(), images, texts, twins) == 1.0


def test_attributes_are_read_from_joint_classes():
    group = ("colour", "shape")
    sizes = [len(ATTRIBUTES[name]) for name in group]
    likely = torch.zeros(2, *sizes)
    likely[0, 3, 1] = 1.0
    likely[1, 0, 0], likely[1, 2, 4], likely[1, 5, 4] = 0.4, 0.35, 0.25  # "star" has more in all than "circle"
    found = faithfulness.named(likely.flatten(1), group)
    assert found == {"colour": ["green", "red"], "shape": ["square", "star"]}


def test_labels_name_what_a_render_shows(monkeypatch):
    monkeypatch.setattr("sparring.data.shapes.COUNTS", {"train": 40, "test": 20, "all": 30})
    source = faithfulness.labelled(("colour", "shape"), 16, 16, 3)
    assert source.items.shape == (30, 16, 16, 3)
    for label, (caption, *_) in zip(source.labels, source.captions, strict=True):
        words = faithfulness.asked(caption)
        assert source.classes[label] == f"{words['colour']} {words['shape']}"
    small = faithfulness.labelled(("colour", "shape"), 16, 8, 3)
    x, y = (to_tensor(one.read(slice(None))) for one in (source, small))
    assert (F.avg_pool2d(x, 2) - y).abs().max() <= 0.5 / 127.5 + 1e-6, "as stage I sees them"


def test_an_evaluation_on_shapes(tmp_path, monkeypatch, no_report):
    monkeypatch.setattr("sparring.data.shapes.COUNTS", {"train": 120, "test": 40, "all": 120})
    monkeypatch.setattr("sparring.text.characters.LESSON", TextLesson(rounds=5, batch=12, width=8, side=16))
    monkeypatch.setattr("sparring.features.LESSON", Lesson(epochs=1, batch=32))
    monkeypatch.setattr("sparring.faithfulness.VARIED", 3)
    recipe = {"batch": 4, "latent": 4, "condition": 4, "width": 4, "discriminator_width": 4, "blocks": 1, "rounds": 1}
    run = train("stackgan", "shapes", out=tmp_path / "run", size=32, recipe=recipe)
    found = evaluate(run, samples=24)["texts"]
    assert found["r_precision"]["judge"].split(", hash ")[1] != found["text_encoder"].split(", hash ")[1]
    assert 0 <= found["r_precision"]["value"] <= 1
    assert found["diversity"]["value"] >= 0
    assert list(found["attributes"]) == ["stage 1", "images"]
    for stage in found["attributes"].values():
        assert set(stage) == set(ATTRIBUTES)
        assert stage["colour"]["of"] == stage["shape"]["of"] == 24, "every caption names them"
        assert stage["size"]["of"] < 24
        share = stage["size"]["reference"] * stage["size"]["of"]
        assert share == pytest.approx(round(share)), "of the captions that name it, real images too"
    assert 1 <= found["class_score"]["images"]["value"] <= 40
    rows = faithfulness.rows(found)
    assert rows["Class score, stage 1"]["reference"] == found["class_score"]["stage 1"]["reference"]
    assert {"R-precision", "Colour as asked", "Colour as asked, stage 1"} <= set(rows)
