"""The stream: seeded, sharded, resumable, and in the range that models expect."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.data import Stream, batches, open_source, to_tensor
from sparring.errors import UserError


def numbered(count):
    """A source whose single feature is the number of the example."""
    return open_source((np.arange(count, dtype=np.float32)[:, None], np.arange(count) % 3))


def drawn(stream, batches):
    return [stream().x[:, 0].int().tolist() for _ in range(batches)]


@given(count=st.integers(1, 60), own=st.integers(1, 8), world=st.integers(1, 4), seed=st.integers(0, 2**40))
@settings(deadline=None, max_examples=50)
def test_shards_are_disjoint_and_epochs_are_permutations(count, own, world, seed):
    batch = own * world
    shards = [Stream(numbered(count), batch, seed=seed, rank=r, world=world) for r in range(world)]
    whole = Stream(numbered(count), batch, seed=seed)
    per_epoch = max(1, count // batch)
    for _ in range(2):
        seen = []
        for _ in range(per_epoch):
            parts = [drawn(shard, 1)[0] for shard in shards]
            together = [number for part in parts for number in part]
            assert together == drawn(whole, 1)[0]
            assert len(together) == batch
            seen += together
        counts = np.bincount(seen, minlength=count)
        if count >= batch:
            assert counts.max() <= 1
            assert counts.sum() == per_epoch * batch
        else:
            assert counts.max() - counts.min() <= 1


@given(st.integers(0, 40), st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_resume_by_position(position, seed):
    source = numbered(23)
    stream, resumed = Stream(source, 5, seed=seed), Stream(source, 5, seed=seed)
    whole = drawn(stream, position + 6)
    resumed.position = position
    assert drawn(resumed, 6) == whole[position:]
    assert resumed.position == stream.position


def pairs(stream, batches):
    return [(b.x[:, 0].int().tolist(), b.partner[:, 0].int().tolist()) for b in (stream() for _ in range(batches))]


def test_a_second_source_is_shuffled_on_its_own():
    a, b = numbered(12), numbered(7)
    stream, resumed = (Stream(a, 3, seed=1, beside={"partner": b}) for _ in range(2))
    whole = pairs(stream, 9)
    assert sorted(number for x, _ in whole[:4] for number in x) == list(range(12))
    epochs = [whole[k][1] + whole[k + 1][1] for k in range(0, 8, 2)]  # 7 examples are two batches of 3
    assert all(len(set(epoch)) == 6 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    same = Stream(a, 3, seed=1, beside={"partner": a})
    assert all(x != y for x, y in pairs(same, 4)), "partners of a source with itself are not its pairs"
    resumed.position = 4
    assert pairs(resumed, 5) == whole[4:]
    halves = [Stream(a, 4, seed=1, rank=rank, world=2, beside={"partner": b}) for rank in range(2)]
    both = zip(pairs(halves[0], 3), pairs(halves[1], 3), strict=True)
    together = [(x + u, y + v) for (x, y), (u, v) in both]
    assert together == pairs(Stream(a, 4, seed=1, beside={"partner": b}), 3)


def test_seeds_and_epochs_differ():
    source = numbered(64)
    assert drawn(Stream(source, 64), 2)[0] != drawn(Stream(source, 64, seed=1), 1)[0]
    first, second = drawn(Stream(source, 64), 2)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(64))


def test_batch_of_images():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 6, 3), dtype=np.uint8)
    stream = Stream(open_source((images, np.arange(10))), 10)
    batch = stream()
    assert batch.x.dtype == torch.float32
    assert batch.x.shape == (10, 3, 4, 6)
    assert batch.label.dtype == torch.int64
    assert batch.x.is_contiguous(memory_format=torch.channels_last)
    expected = torch.from_numpy(images[batch.label.numpy()]).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert torch.equal(batch.x, expected)
    assert batch.x.abs().max() <= 1
    assert stream.position == 1
    assert stream.waited > 0


def test_features_and_absent_labels():
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    batch = Stream(open_source(x), 6)()
    assert batch.label is None
    assert torch.equal(batch.x.sum(0).round(decimals=4), torch.from_numpy(x).sum(0).round(decimals=4))


def test_subsets_are_drawn_by_their_own_numbers():
    source = numbered(30).of(["2"])
    stream = Stream(source, 5)
    for _ in range(6):
        batch = stream()
        assert (batch.x[:, 0] % 3 == 2).all()
        assert (batch.label == 0).all()


@pytest.mark.parametrize(("batch", "world"), [(5, 2), (0, 1)])
def test_batch_must_be_shared_out(batch, world):
    with pytest.raises(UserError, match="cannot be shared out"):
        Stream(numbered(10), batch, world=world)


def test_batches_in_order():
    source = open_source(np.random.default_rng(0).integers(0, 256, (7, 2, 2), dtype=np.uint8)).take([6, 0, 3])
    parts = list(batches(source, 2))
    assert [len(part) for part in parts] == [2, 1]
    assert torch.equal(torch.cat(parts), to_tensor(source.read([0, 1, 2])))


def test_drawing_is_cheap():
    images = np.zeros((60_000, 32, 32, 1), np.uint8)
    stream = Stream(open_source(images), 64)
    stream()
    best = min(timed(stream) for _ in range(200))
    assert best < 1e-3  # a training step takes 10 ms and more; a tenth of this is usual


def timed(stream):
    start = time.perf_counter()
    stream()
    return time.perf_counter() - start


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_cpu():
    source = open_source((np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8), np.arange(20)))
    here, there = Stream(source, 8)(), Stream(source, 8, device="cuda")()
    assert there.x.is_cuda
    assert torch.equal(here.label, there.label.cpu())
    assert there.x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(here.x, there.x.cpu(), rtol=0, atol=1e-6)
