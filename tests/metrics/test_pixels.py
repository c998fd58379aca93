from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score

from sparring.errors import UserError
from sparring.metrics.pixels import Histogram, judge_pixels


def some(seed=0, count=6, decimals=None):
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for i in range(count):
        shape = (8 + i, 12 - i)
        mask = None if i % 3 == 0 else (rng.random(shape) < 0.2).astype(np.uint8) * 255
        values = rng.normal(size=shape) + (0 if mask is None else mask / 255)
        maps.append((values if decimals is None else values.round(decimals)).astype(np.float32))
        masks.append(mask)
    return maps, masks


def truth_of(maps, masks):
    return [np.zeros(m.shape, bool) if k is None else k > 0 for m, k in zip(maps, masks, strict=True)]


def plain(maps, masks, limit=0.3):
    """AUROC by scikit-learn, and the area under the per-region overlap, threshold by threshold."""
    where = truth_of(maps, masks)
    truth, values = (np.concatenate([part.ravel() for part in parts]) for parts in (where, maps))
    regions = []
    for anomaly, mask in zip(maps, where, strict=True):
        numbered, count = label(mask, np.ones((3, 3)))
        regions += [anomaly[numbered == k + 1] for k in range(count)]
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(values)[::-1]:
        rates.append((values[~truth] >= threshold).mean())
        overlaps.append(np.mean([(region >= threshold).mean() for region in regions]))
    area = 0.0
    for k in range(len(rates) - 1):
        right = min(rates[k + 1], limit)
        if rates[k] < right:
            top = np.interp(right, rates[k : k + 2], overlaps[k : k + 2])
            area += (right - rates[k]) * (overlaps[k] + top) / 2
    return {"pixel_auroc": roc_auc_score(truth, values), "aupro": area / limit}


@pytest.mark.parametrize("decimals", [None, 0, 1])
@pytest.mark.parametrize("seed", range(3))
def test_both_agree_with_a_plain_account(seed, decimals):
    maps, masks = some(seed, decimals=decimals)
    found, expected = judge_pixels(iter(maps), iter(masks)), plain(maps, masks)
    assert found == pytest.approx(expected, abs=1e-12 if decimals is not None else 1e-4)


def test_regions_count_alike_whatever_their_size():
    mask = np.zeros((10, 10), bool)
    mask[:5, :5] = mask[8, 8] = True  # 25 pixels found, 1 missed
    values = np.zeros((10, 10))
    values[:5, :5] = 1
    found = judge_pixels([values], [mask])
    # Up to a rate of 0 half of the regions are found; the rest comes evenly with all sound pixels.
    assert found["aupro"] == pytest.approx((0.5 + 0.65) / 2)
    assert found["pixel_auroc"] == pytest.approx(25 / 26 + 1 / 26 / 2)


def test_regions_that_meet_at_a_corner_are_one():
    mask = np.eye(4, dtype=bool)
    values = np.zeros((4, 4))
    values[0, 0] = 1
    assert judge_pixels([values], [mask])["aupro"] == pytest.approx((0.25 + 0.25 + 0.75 * 0.3) / 2)


def test_a_perfect_map_and_a_blind_one():
    mask = np.zeros((6, 6), bool)
    mask[2:4, 2:4] = True
    assert judge_pixels([mask * 1.0], [mask]) == {"pixel_auroc": 1, "aupro": 1}
    blind = judge_pixels([np.zeros((6, 6))], [mask])
    assert blind == {"pixel_auroc": 0.5, "aupro": pytest.approx(0.15)}


def test_only_pixels_inside_the_region_count():
    maps, masks = some()
    regions = [np.zeros(m.shape, bool) for m in maps]
    for region in regions:
        region[2:, 3:] = True
    cut = [m[2:, 3:] for m in maps], [None if k is None else k[2:, 3:] for k in masks]
    assert judge_pixels(maps, masks, regions) == judge_pixels(*cut)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_values_are_known_to_one_part_in_65536(scale):
    rng = np.random.default_rng(0)
    values = (rng.normal(size=20_000) * scale).astype(np.float32)
    histogram = Histogram()
    for part in np.split(values, 10):
        histogram.add(part)
    for share in (0.001, 0.3, 0.5, 0.999, 1.0):
        exact = np.quantile(values, share, method="inverted_cdf")
        assert histogram.quantile(share) == pytest.approx(exact, rel=2**-15)
    assert histogram.total == len(values)


def test_zero_has_no_sign():
    histogram = Histogram()
    histogram.add(np.array([0.0, -0.0], np.float32))
    assert len(histogram.levels) == 1
    assert histogram.quantile(0.5) == 0


MEMORY = """
import resource, sys
import numpy as np
from sparring.metrics.pixels import judge_pixels
mask = np.zeros((400, 400), bool); mask[100:120, 100:120] = True
rng = np.random.default_rng(0)
def maps(n):
    for _ in range(n):
        yield rng.gamma(2.0, size=(400, 400)).astype(np.float32)
judge_pixels(maps(3), [mask] * 3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
judge_pixels(maps(60), [mask] * 60)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_memory_is_flat():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 12  # MB; the pixels of 60 maps take 38


def test_a_map_is_brought_to_the_size_of_its_mask():
    mask = np.zeros((32, 32), bool)
    mask[:16] = True
    small = np.array([[1.0, 1.0], [0.0, 0.0]])
    assert judge_pixels([small], [mask])["pixel_auroc"] == 1
    with pytest.raises(UserError, match="crop"):
        judge_pixels([small], [np.ones((32, 64))])


def test_one_kind_of_pixel_alone_gives_none():
    nothing = {"pixel_auroc": None, "aupro": None}
    assert judge_pixels([np.ones((2, 2))], [None]) == nothing
    assert judge_pixels([np.ones((2, 2))], [np.ones((2, 2))]) == nothing
    assert judge_pixels([], []) == nothing


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(UserError, match="fewer anomaly maps"):
        judge_pixels([np.ones((2, 2))], [None, None])
    with pytest.raises(UserError, match="more anomaly maps"):
        judge_pixels([np.ones((2, 2))] * 2, [None])
    with pytest.raises(UserError, match="map 1 holds NaN"):
        judge_pixels([np.ones((2, 2)), np.full((2, 2), np.nan)], [None, None])
    with pytest.raises(UserError, match="height, width"):
        judge_pixels([np.ones(4)], [None])
