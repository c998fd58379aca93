"""Pixels of feature maps: labels at their size, draws, score maps, and the AUROC of open pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparring import load, train
from sparring.errors import UserError
from sparring.segments import pixel_recognition, pixels, score_maps, shrunk


def scene(seed):
    """A feature map whose right half is of another kind, its label map at four times the size, void in a corner."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(6, 8, 12)).astype(np.float32)
    features[:, :, 6:] += 4
    labels = np.zeros((32, 48), np.int8)
    labels[:, 24:] = 1
    labels[:8, :8] = -1
    return features, labels


def test_labels_at_the_size_of_a_map():
    labels = np.arange(24).reshape(4, 6)
    assert np.array_equal(shrunk(labels, (4, 6)), labels)
    assert shrunk(labels, (2, 3)).tolist() == [[7, 9, 11], [19, 21, 23]]
    assert np.array_equal(shrunk(np.kron(labels, np.ones((4, 4), int)), (4, 6)), labels)


def test_a_draw_of_pixels():
    closed, opened = pixels([scene(0), scene(1)], each=30)
    assert (closed.shape, opened.shape) == ((60, 6), (60, 6))
    assert closed.mean() < 1 < 3 < opened.mean()
    everything = pixels([scene(0)], each=10**6)
    assert [len(part) for part in everything] == [48 - 4, 48]  # void pixels are left out


def test_from_maps_to_a_map(tmp_path):
    closed, opened = pixels([scene(k) for k in range(3)])
    np.save(tmp_path / "closed.npy", closed)
    np.save(tmp_path / "open.npy", opened)
    recipe = {"rounds": 60, "batch": 32, "latent": 4, "hidden": [8], "units": [16, 8], "rate": 3e-3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparring.run.has_onnx", lambda: False)
        run = train("opengan", tmp_path / "closed.npy", outliers=str(tmp_path / "open.npy"), variant="segmentation",
                    recipe=recipe, out=tmp_path / "run")  # fmt: skip
    features, labels = scene(9)
    (found,) = score_maps(load(run.folder), [features])
    assert (found.shape, found.dtype) == ((8, 12), np.float32)
    alone = run.score_eagerly(torch.from_numpy(features[:, 5, 7][None]))
    assert found[5, 7] == pytest.approx(alone[0], rel=1e-5)
    assert pixel_recognition([found], [labels]) > 0.95
    with pytest.raises(UserError, match="5 features a pixel, and the run 6"):
        next(score_maps(run, [features[:5]]))


def test_refusals():
    features, labels = scene(0)
    with pytest.raises(UserError, match="One map has 6 features a pixel, another 5"):
        pixels([(features, labels), (features[:5], labels)])
    with pytest.raises(UserError, match="no maps to judge"):
        pixel_recognition([], [])
    with pytest.raises(UserError, match="got shape"):
        pixels([(features[0], labels)])
    with pytest.raises(UserError, match="finite numbers"):
        pixels([(np.full_like(features, np.nan), labels)])
    with pytest.raises(UserError, match="no closed pixels"):
        pixels([(features, np.ones_like(labels))])
    with pytest.raises(UserError, match="give both"):
        pixel_recognition([features[0]], [np.zeros_like(labels)])
