"""The cache: decoded once, whole or not there, right under two writers, flat in memory."""

from __future__ import annotations

import collections
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparring.data import cache, cache_folder, open_source, rows
from sparring.errors import UserError
from sparring.files import UMASK


@pytest.fixture
def photos(tmp_path, paint):
    for k in range(150):
        paint(f"photos/{'ab'[k % 2]}/{k}.png", (20, 16))
    return tmp_path / "photos"


@pytest.fixture
def decodes(monkeypatch):
    """Count the images that are decoded."""
    count = collections.Counter()
    decode = cache.decode

    def counted(picture, shape):
        count["images"] += 1
        return decode(picture, shape)

    monkeypatch.setattr(cache, "decode", counted)
    return count


def test_images_are_decoded_once(photos, decodes, monkeypatch):
    first = open_source(photos)
    assert decodes["images"] == 150
    monkeypatch.setattr(Image, "open", None)  # nor is a header read
    again = open_source(photos)
    assert decodes["images"] == 150
    assert np.array_equal(first.items, again.items)
    assert {path.suffix for path in cache_folder().iterdir()} == {".npy", ".json"}


def test_what_changed_is_decoded_anew(photos, decodes, paint):
    open_source(photos)
    open_source(photos, size=8)
    open_source(photos, channels=1)
    assert decodes["images"] == 450
    paint("photos/a/0.png", (20, 16))
    before = open_source(photos, size=8).items[0]
    assert decodes["images"] == 600
    path = paint("photos/a/0.png", (20, 16))
    os.utime(path, (0, 0))
    assert not np.array_equal(open_source(photos, size=8).items[0], before)


def test_a_damaged_cache_is_built_anew(photos, decodes):
    first = np.array(open_source(photos).items)
    (path,) = cache_folder().glob("*.npy")
    path.write_bytes(path.read_bytes()[:1000])
    assert np.array_equal(open_source(photos).items, first)
    path.with_suffix(".json").write_text("{")
    assert np.array_equal(open_source(photos).items, first)
    assert decodes["images"] == 450


def test_a_cache_is_for_all_who_may_read_its_folder(photos):
    open_source(photos)
    files = list(cache_folder().glob("*.*"))
    assert files
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~UMASK}


def test_mapped_equals_loaded(photos, monkeypatch):
    (photos / "a" / "0.png").write_text("broken")
    loaded = open_source(photos)
    monkeypatch.setattr(rows, "MEMORY_SHARE", 0)
    mapped = open_source(photos)
    assert mapped.on_disk
    assert not loaded.on_disk
    monkeypatch.setattr(rows, "RESIDENT", 10 * rows.AROUND)  # several parts a read, and pages handed back
    order = np.random.default_rng(0).permutation(len(loaded))
    for _ in range(3):
        assert np.array_equal(mapped.read(order), loaded.read(order))
    some = mapped.take(order[:40]).of(["b"])
    assert some.items is mapped.items
    assert some.on_disk
    assert np.array_equal(some.read(slice(2, 9)), loaded.take(order[:40]).of(["b"]).read(slice(2, 9)))


def test_own_arrays_are_mapped_too(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(1000, 7)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr(rows, "MEMORY_SHARE", 0)
    source = open_source(tmp_path / "x.npy")
    assert source.on_disk
    assert np.array_equal(source.read(slice(None)), x)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_resident_memory_stays_flat(tmp_path, monkeypatch):
    path = tmp_path / "x.npy"
    items = np.lib.format.open_memmap(path, "w+", np.uint8, (100_000, 64, 64, 1))  # 410 MB, sparse
    del items
    monkeypatch.setattr(rows, "MEMORY_SHARE", 0)
    source = open_source(path)

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    start = resident()
    random = np.random.default_rng(0)
    most = 0
    for _ in range(500):
        source.read(random.integers(0, len(source), 128))
        most = max(most, resident() - start)
    assert most < 2.5 * rows.RESIDENT


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fault", ["write", "space", "folder"])
def test_without_room_it_goes_on_in_memory_and_leaves_nothing(photos, monkeypatch, tmp_path, fault):
    if fault == "write":
        monkeypatch.setattr(cache.os, "fsync", full)
    elif fault == "space":
        usage = shutil.disk_usage(tmp_path)._replace(free=0)
        monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)
    else:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("SPARRING_CACHE", str(tmp_path / "file" / "cache"))
    source = open_source(photos)
    assert len(source) == 150
    assert "SPARRING_CACHE" in source.notes[-1]
    if fault != "folder":
        assert [path for path in cache_folder().iterdir() if path.suffix != ".json"] == []
    monkeypatch.setattr(rows, "MEMORY_SHARE", 0)
    with pytest.raises(UserError, match=r"cannot be written to .*: make room there, or set SPARRING_CACHE"):
        open_source(photos)


def test_an_interrupt_leaves_nothing(photos, monkeypatch):
    def interrupted(picture, shape):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_source(photos)
    assert list(cache_folder().glob("*.npy")) == list(cache_folder().glob("*.part")) == []
    monkeypatch.undo()


def test_what_a_killed_process_left_is_swept_up(photos):
    cache_folder().mkdir(exist_ok=True)
    old, new = cache_folder() / ".old.part", cache_folder() / ".new.part"
    old.touch(), new.touch()
    os.utime(old, (0, 0))
    open_source(photos)
    assert new.exists()
    assert not old.exists()


def test_two_processes_at_once(photos):
    code = (
        "import sys, hashlib; from sparring.data import open_source; sys.stdin.readline();"
        "print(hashlib.sha256(open_source(sys.argv[1]).items.tobytes()).hexdigest())"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, photos], stdin=-1, stdout=-1, text=True, env={**os.environ})
        for _ in range(2)
    ]
    answers = []
    for run in runs:
        run.stdin.write("\n")
        run.stdin.flush()
    for run in runs:
        answers.append(run.communicate(timeout=60)[0])
        assert run.returncode == 0
    assert answers[0] == answers[1]
    (path,) = cache_folder().glob("*.npy")
    assert json.loads(path.with_suffix(".json").read_text())["count"] == 150
    assert np.load(path).shape == (150, 16, 16, 3)


@pytest.mark.parametrize("count", [0, 1, 10**15])
def test_header_has_one_length_and_numpy_reads_it(tmp_path, count):
    header = cache.header((count, 64, 64, 3))
    assert len(header) == cache.HEADER
    (tmp_path / "x").write_bytes(header)
    with open(tmp_path / "x", "rb") as file:
        np.lib.format.read_magic(file)
        assert np.lib.format.read_array_header_1_0(file) == ((count, 64, 64, 3), False, np.dtype(np.uint8))
        assert file.tell() == cache.HEADER


def test_resized_arrays_are_kept_as_well(tmp_path, decodes):
    np.save(tmp_path / "x.npy", np.zeros((10, 8, 8), np.uint8))
    for _ in range(2):
        assert open_source(tmp_path / "x.npy", size=16).items.shape == (10, 16, 16, 1)
    assert decodes["images"] == 10
