"""Scoring by onnxruntime: the same scores, in any batch, in any process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch

from sparring import load, models
from sparring.errors import UserError
from sparring.export import has_onnx, session, to_onnx
from sparring.protocol import Spec

onnx = pytest.mark.skipif(not has_onnx(), reason="the onnx extra is missing")


@pytest.fixture(scope="module")
def exported(detector: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run with its exported scorer."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(detector, folder)
    load(folder).score("digits", limit=2)
    return folder


@onnx
def test_onnx_scores_are_those_of_pytorch(exported):
    (file,) = exported.glob("scorer-*.onnx")
    run = load(exported)
    score = session(file)
    x = torch.rand(130, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = run.score_eagerly(x)
    for size in (1, 7, 64, 130):
        found = np.concatenate([score(part) for part in x.split(size)])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@onnx
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_score_is_the_same_in_every_batch(exported, monkeypatch, size):
    run = load(exported)
    source = run.open("digits", limit=150)
    expected = run.raw_scores(source)
    order = np.random.default_rng(0).permutation(len(source))
    monkeypatch.setattr("sparring.run.BATCH", size)
    np.testing.assert_allclose(run.raw_scores(source), expected, rtol=1e-6)
    np.testing.assert_allclose(run.raw_scores(source.take(order)), expected[order], rtol=1e-6)


def test_a_score_is_the_same_in_a_new_process(exported, tmp_path):
    out = tmp_path / "scores.parquet"
    arguments = ["score", exported, "digits", "--limit", "100", "--out", out, "--json"]
    subprocess.run([sys.executable, "-m", "sparring", *map(str, arguments)], check=True, capture_output=True)
    table = pyarrow.parquet.read_table(out).to_pydict()
    here = load(exported).score("digits", limit=100)
    np.testing.assert_allclose(table["score"], here.score, rtol=1e-6)
    assert table["name"] == list(here.source.names)
    assert table["p_value"] == here.p_value.tolist()


@onnx
def test_the_scorer_follows_the_weights(exported, tmp_path):
    """A scorer is named after the weights that it was made of, so that none outlives them."""
    run = tmp_path / "run"
    shutil.copytree(exported, run)
    before = {path.name for path in run.glob("scorer-*.onnx")}
    content = bytearray((run / "model.safetensors").read_bytes())
    content[-4:] = np.float32(0.5).tobytes()
    (run / "model.safetensors").write_bytes(content)
    changed = load(run)
    changed.score("digits", limit=5)
    assert len({path.name for path in run.glob("scorer-*.onnx")} - before) == 1


def test_without_the_extra_runs_score_by_pytorch(detector, monkeypatch):
    monkeypatch.setattr("sparring.export.find_spec", lambda name: None)
    run = load(detector)
    assert run.scorer == run.score_eagerly
    with pytest.raises(UserError, match=r"pip install 'sparring\[onnx\]'"):
        to_onnx(run.game)


def test_what_does_not_score_is_not_exported():
    entry = models.find("gan")
    game = entry.game(Spec((6,), 10), entry.recipe.read({"hidden": [4], "units": [4], "latent": 2}))
    with pytest.raises(UserError, match="GAN gives no scores: export a detector, such as ganomaly"):
        to_onnx(game)


def test_a_damaged_export_is_made_anew(detector):
    run = load(detector)
    expected = run.raw_scores(run.open())
    (exported,) = detector.glob("scorer-*.onnx")
    whole = exported.read_bytes()
    exported.write_bytes(whole[:100])
    assert np.array_equal(load(detector).raw_scores(run.open()), expected)
    assert len(exported.read_bytes()) == len(whole)


def test_a_run_that_cannot_be_written_to_is_scored(detector, monkeypatch):
    run = load(detector)
    expected = run.raw_scores(run.open())
    for exported in detector.glob("scorer-*.onnx"):
        exported.unlink()

    def refuse(path, data):
        raise UserError(f"'{path}' could not be written.")

    monkeypatch.setattr("sparring.run.write_bytes", refuse)
    assert np.array_equal(load(detector).raw_scores(run.open()), expected)
    assert not list(detector.glob("scorer-*.onnx"))
