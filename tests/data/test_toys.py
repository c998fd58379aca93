"""Points in the plane: as many as promised, always the same, of the distribution they claim."""

from __future__ import annotations

import numpy as np
import pytest

from sparring.data import open_source, splits_of
from sparring.data.toys import MODES


@pytest.mark.parametrize(("name", "count", "deviation"), [("8gaussians", 8, 1.0001), ("25gaussians", 25, 1.0003)])
def test_mixtures(name, count, deviation):
    source, modes = open_source(name), MODES[name]
    assert splits_of(name) == ("train", "test")
    assert source.items.shape == (100_000, 2)
    assert source.items.dtype == np.float32
    assert len(source.classes) == len(modes.centres) == count
    assert np.array_equal(open_source(name).items, source.items)
    residue = (source.items - modes.centres[source.labels]) / modes.sigma
    assert np.abs(residue.mean(0)).max() < 0.02
    assert np.abs(residue.std(0) - 1).max() < 0.01
    inside = (np.linalg.norm(residue, axis=1) <= 3).mean()
    assert inside == pytest.approx(1 - np.exp(-4.5), abs=1e-3)
    assert source.items.std(0) == pytest.approx([deviation] * 2, abs=2e-3)
    assert np.ptp(np.bincount(source.labels)) <= 1
    gaps = np.linalg.norm(modes.centres[:, None] - modes.centres, axis=2)
    assert gaps[gaps > 0].min() > 12 * modes.sigma, "no point is near two modes"


def test_centres_are_those_of_the_authors():
    root = 2 / np.sqrt(2)
    circle = {(2, 0), (0, 2), (-2, 0), (0, -2), (root, root), (root, -root), (-root, root), (-root, -root)}
    found = MODES["8gaussians"].centres * 1.414
    assert all(np.abs(found - point).sum(1).min() < 1e-12 for point in circle)
    grid = MODES["25gaussians"].centres * 2.828
    assert sorted(map(tuple, grid.round(9))) == [(2.0 * x, 2.0 * y) for x in range(-2, 3) for y in range(-2, 3)]
    assert MODES["8gaussians"].sigma * 1.414 == pytest.approx(0.02)
    assert MODES["25gaussians"].sigma * 2.828 == pytest.approx(0.05)


def test_roll():
    source = open_source("swissroll", split="test")
    assert source.items.shape == (10_000, 2)
    assert source.labels is None
    radius = np.linalg.norm(source.items * 7.5, axis=1)
    assert 1.5 * np.pi - 1.2 < radius.min()
    assert radius.max() < 4.5 * np.pi + 1.2
    angle = np.arctan2(source.items[:, 1], source.items[:, 0])
    off = (radius - angle + np.pi) % (2 * np.pi) - np.pi  # on the roll, radius and angle are one number
    assert off.std() == pytest.approx(0.25, abs=0.01)


def test_train_and_test_are_apart():
    for name in ("8gaussians", "swissroll"):
        train, test = (open_source(name, split=split).items for split in ("train", "test"))
        assert not {row.tobytes() for row in train} & {row.tobytes() for row in test}
