"""Taking, choosing and naming examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.data import open_source
from sparring.data.rows import available_memory
from sparring.data.source import Numbered, natural
from sparring.errors import UserError

X = np.arange(12, dtype=np.float32)[:, None]
Y = np.array(list("abc") * 4)


@given(st.lists(st.integers(0, 11), max_size=20), st.data())
def test_taking_twice_is_taking_once(first, data):
    source = open_source((X, Y))
    second = data.draw(st.lists(st.integers(0, max(0, len(first) - 1)), max_size=20 if first else 0))
    once, twice = source.take([first[k] for k in second]), source.take(first).take(second)
    assert np.array_equal(once.read(slice(None)), twice.read(slice(None)))
    assert list(once.names) == list(twice.names)
    assert np.array_equal(once.labels, twice.labels)
    assert len(twice) == len(second)


def test_masks_slices_and_negative_numbers():
    source = open_source((X, Y))
    assert source.take(source.labels == 1).read(slice(None))[:, 0].tolist() == [1, 4, 7, 10]
    assert source.take(slice(2, 5)).read([-1])[0, 0] == 4
    assert source.take(slice(2, 5)).take([-1]).names[0] == "array/4"


def test_classes_are_renumbered_in_their_old_order():
    source = open_source((X, Y)).of(["c", "a"])
    assert source.classes == ("a", "c")
    assert source.labels.tolist() == [0, 1] * 4
    assert source.spec().count == 8
    assert source.spec().classes == ("a", "c")
    with pytest.raises(UserError, match="no class 'd'"):
        source.of(["d"])
    with pytest.raises(UserError, match="no example of a"):
        source.take([1]).of(["a"])
    with pytest.raises(UserError, match="no example of no class"):
        source.of([])


def test_reading_never_hands_out_the_stored_rows():
    source = open_source((X, Y))
    source.read(slice(None))[:] = -1
    assert source.read([3])[0, 0] == 3


def test_names_are_written_when_asked_for():
    names = Numbered("mnist/test", range(10**9))
    assert names[123] == "mnist/test/123"
    assert len(names) == 10**9
    assert list(names[5:7]) == ["mnist/test/5", "mnist/test/6"]


def test_limit_keeps_shares_in_expectation():
    labels = np.repeat([0, 1], [9000, 1000])
    source = open_source((np.zeros((10_000, 1)), labels), limit=2000)
    assert len(source) == 2000
    assert abs((source.labels == 1).sum() - 200) < 50
    assert len(open_source((X, Y), limit=100)) == 12


def test_natural_order():
    assert sorted(["10", "9", "a2", "a10", "B1"], key=natural) == ["9", "10", "a2", "a10", "B1"]


def test_some_memory_is_available():
    assert available_memory() > 2**20
