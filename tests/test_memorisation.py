"""Copies of training images: who is nearest, in how much memory, and what the report shows."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from sparring import evaluate, load
from sparring.data import open_source
from sparring.features import Described, Extractor, choose
from sparring.memorisation import SHOWN, memorisation, pixels, reduced, verdict
from sparring.report import Evidence, charts, write_report


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (300, 16, 16, 3), dtype=np.uint8)


def compared(made, real, learnt, extractor=None):
    """Compare arrays of images as an evaluation does."""
    source, training = open_source(real), open_source(learnt)
    extractor = extractor or choose("pixels", training)
    described = [extractor.describe(open_source(x)) for x in (made, real)]
    return memorisation(made, described[0], source, described[1], training, training, extractor)


def test_the_closest_pairs(images):
    made = images[:40].copy()
    made[30:] = images[200:210]  # 10 of 40 are copies
    found, shown = compared(made, images[100:200], images[200:])
    assert set(found) == {"verdict", "made", "real", "pixels"}, "pixels are their own features"
    assert found["pixels"]["beyond"] == 10
    pairs = found["pixels"]["closest"]
    assert len(pairs) == SHOWN
    assert all(pair["made"] >= 30 and pair["training"] == f"array/{pair['made'] - 30}" for pair in pairs)
    assert (
        "By pixels, 10 made images lie closer than any real one, where chance explains about 0.4." in found["verdict"]
    )
    picture = np.asarray(shown["pictures"]["pixels"])
    assert picture.shape == (2 * 66 + 2, SHOWN * 66 + 2, 3)
    for row in (picture[2:66:4, 2:66:4], picture[68:132:4, 2:66:4]):
        np.testing.assert_array_equal(row, made[pairs[0]["made"]])


def test_features_are_compared_too(images):
    def network(x):
        return x.mean((2, 3)), None

    slow = Extractor("means", "f" * 12, network, quick=False)
    found, shown = compared(images[:50], images[50:100], images[100:], slow)
    assert list(shown["pictures"]) == ["pixels", "features"]
    means = images.mean((1, 2)) / 127.5 - 1
    away = np.linalg.norm(means[:50, None] - means[None, 100:], axis=2).min(1)
    assert found["features"]["closest"][0]["distance"] == pytest.approx(away.min(), abs=1e-5)
    assert found["features"]["closest"][0]["made"] == int(away.argmin())


def test_slow_features_are_those_that_there_are(images):
    """Inception is not asked about every training image."""
    training, asked = open_source(images[100:]), []

    def network(x):
        asked.append(len(x))
        return x.mean((2, 3)), None

    some = training.limited(20)
    for quick, count in ((False, 20), (True, 200)):
        extractor = Extractor("means", f"{quick:012d}", network, quick=quick)
        rows = Described(np.zeros((50, 3), np.float32))
        asked.clear()
        found, _ = memorisation(images[:50], rows, open_source(images[50:100]), rows, training, some, extractor)
        assert found["features"]["training"] == sum(asked) == count
        assert found["pixels"]["training"] == 200


def test_large_images_are_compared_by_means_of_areas():
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1), dtype=np.uint8)
    found = reduced(images)
    assert found.shape == (3, 32 * 32)
    np.testing.assert_allclose(found[0].reshape(32, 32)[1, 2], images[0, 2:4, 4:6].mean() / 255, atol=1e-6)
    assert reduced(images[:, :32, :32]).shape == (3, 1024)
    np.testing.assert_allclose(reduced(images[:, :8, :8])[1], images[1, :8, :8].ravel() / 255, atol=1e-6)


def test_sixty_thousand_training_images_never_fill_the_memory():
    stored = np.random.default_rng(0).integers(0, 256, (60_000, 8, 8, 1), dtype=np.uint8)
    parts = pixels(open_source(stored))
    tracemalloc.start()
    try:
        rows = sum(len(part) for part in parts)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 60_000
    assert peak < 5e6, "all rows at once would be 15 MB"


def test_the_sentence():
    near = {"share": 0.71, "p_value": 1e-9, "beyond": 3, "training": 60_000}
    far = {"share": 0.31, "p_value": 1.0, "beyond": 0, "training": 10_000}
    said = verdict({"pixels": near, "features": far}, 500, 500)
    assert said == (
        "Made images lie closer to training images than unseen real ones do: by pixels the made one is the closer in "
        "71% of pairs (p = 1e-09, 60,000 training images); by features the made one is the closer in 31% of pairs (p "
        "= 1, 10,000 training images). That is a rank test of 500 made and 500 real images; who copies nothing comes "
        "to 50% or less. Copies do so, and so do blurred and empty images: look at the closest pairs."
    )
    assert verdict({"pixels": far}, 500, 500).startswith("Made images lie no closer to")


def test_the_report_shows_it(tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "render", lambda draw, theme: b"")
    pictures = {"pixels": Image.new("L", (20, 10)), "features": Image.new("RGB", (20, 10))}
    write_report(tmp_path / "r.html", Evidence("x", nearest={"verdict": "None <copied>.", "pictures": pictures}))
    text = (tmp_path / "r.html").read_text()
    assert "<p>None &lt;copied&gt;.</p>" in text
    assert text.count("<img") == 2
    assert "each above that training image" in text
    write_report(tmp_path / "none.html", Evidence("x"))
    assert "Closest to the training images" not in (tmp_path / "none.html").read_text()


@pytest.mark.usefixtures("eager", "quick")
def test_an_evaluation_ends_with_it(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "render", lambda draw, theme: b"")
    found = evaluate(load(generator), report=tmp_path / "r.html")
    assert (found["memorisation"]["made"], found["memorisation"]["real"]) == (50, 50)
    assert found["memorisation"]["features"]["training"] == 1258
    assert "training images than unseen real ones do" in (tmp_path / "r.html").read_text()
