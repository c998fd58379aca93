import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sparring.errors import UserError
from sparring.metrics.pixels import pixel_auroc


def some(seed=0, count=6, decimals=None):
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for i in range(count):
        shape = (8 + i, 12 - i)
        mask = None if i % 3 == 0 else (rng.random(shape) < 0.2).astype(np.uint8) * 255
        values = rng.normal(size=shape) + (0 if mask is None else mask / 255)
        maps.append((values if decimals is None else values.round(decimals)).astype(np.float32))
        masks.append(mask)
    truth = np.concatenate(
        [np.zeros(m.size, bool) if k is None else k.ravel() > 0 for m, k in zip(maps, masks, strict=True)]
    )
    return maps, masks, truth, np.concatenate([m.ravel() for m in maps])


@pytest.mark.parametrize("decimals", [None, 0])
def test_it_is_the_auroc_of_all_pixels_together(decimals):
    maps, masks, truth, values = some(decimals=decimals)
    assert pixel_auroc(iter(maps), iter(masks)) == pytest.approx(roc_auc_score(truth, values), abs=1e-12)


def test_beyond_the_limit_a_sample_comes_within_its_error():
    rng = np.random.default_rng(1)
    masks = [rng.random((100, 100)) < 0.3 for _ in range(20)]
    maps = [rng.normal(size=(100, 100)) + i / 10 + mask for i, mask in enumerate(masks)]  # drifts along the stream
    exact, sampled = pixel_auroc(maps, masks), pixel_auroc(maps, masks, limit=10_000)
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=4 * 0.5 / np.sqrt(5_000))
    assert sampled == pixel_auroc(maps, masks, limit=10_000)


def test_a_map_is_brought_to_the_size_of_its_mask():
    mask = np.zeros((32, 32), bool)
    mask[:16] = True
    small = np.array([[1.0, 1.0], [0.0, 0.0]])
    assert pixel_auroc([small], [mask]) == 1
    with pytest.raises(UserError, match="crop"):
        pixel_auroc([small], [np.ones((32, 64))])


def test_one_kind_of_pixel_alone_gives_none():
    assert pixel_auroc([np.ones((2, 2))], [None]) is None
    assert pixel_auroc([np.ones((2, 2))], [np.ones((2, 2))]) is None
    assert pixel_auroc([], []) is None


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(UserError, match="fewer anomaly maps"):
        pixel_auroc([np.ones((2, 2))], [None, None])
    with pytest.raises(UserError, match="more anomaly maps"):
        pixel_auroc([np.ones((2, 2))] * 2, [None])
    with pytest.raises(UserError, match="map 1 holds NaN"):
        pixel_auroc([np.ones((2, 2)), np.full((2, 2), np.nan)], [None, None])
    with pytest.raises(UserError, match="height, width"):
        pixel_auroc([np.ones(4)], [None])
