"""The measuring programs run, are resumed, and say what they say."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1] / "benchmarks"


def test_ognet_stability(tmp_path, monkeypatch, capsys):
    small = ("width=4", "latent=4", "batch=32", "second=2")
    flags = [flag for pair in small for flag in ("--set", pair)]
    flags += ["--normal", "0", "--variant", "light", "--epochs", "3", "--last", "2", "--most", "20"]
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (120, 32, 32), np.uint8), np.arange(120) % 2
    np.savez(tmp_path / "data.npz", x_train=x[:100], y_train=np.zeros(100, int), x_test=x[80:], y_test=y[80:])
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "data.npz"), *flags, "--out", str(tmp_path)])
    runpy.run_path(str(ROOT / "ognet_stability.py"), run_name="__main__")
    *_, ratio, told = capsys.readouterr().out.splitlines()
    path = tmp_path / "data_npz_0_light_0/forks.json"
    found = json.loads(path.read_text())
    assert list(found) == ["2", "3"]
    assert found["2"]["before"] != found["2"]["after"]
    assert json.loads(told)["after"]["mean"] == pytest.approx((found["2"]["after"] + found["3"]["after"]) / 2)
    assert f"{json.loads(told)['ratio']:.3f}" in ratio
    path.write_text(json.dumps({"2": found["2"]}))
    (path.parent / "checkpoint").unlink()
    runpy.run_path(str(ROOT / "ognet_stability.py"), run_name="__main__")
    assert json.loads(path.read_text()) == found, "a fork leaves phase one alone"
