"""What the tests stand on: a command line in this process, tiny runs, and folders of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tiny import TINY

if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core: more threads than that would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def session_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the user's data, cache or network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARRING_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SPARRING_DATA", str(tmp_path_factory.mktemp("data")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@dataclass(frozen=True)
class Said:
    """What a verb wrote to standard output and to standard error."""

    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one line of standard output."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The one sentence of standard error, as a failure says it."""
        assert self.out == ""
        assert self.err.startswith("sparring: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith((".\n", "?\n")), self.err
        return self.err.removeprefix("sparring: ").strip()


Call = Callable[..., Said]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a verb as from a terminal in an empty folder, and hold its exit status to `status`."""
    from sparring.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, status: int = 0) -> Said:
        capsys.readouterr()
        code: Any = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code or 0
        said = Said(*capsys.readouterr())
        assert code == status, said
        return said

    return run


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score by PyTorch: to export takes seconds, and test_export.py does."""
    monkeypatch.setattr("sparring.run.has_onnx", lambda: False)


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pages of an evaluation blank: its charts take seconds."""
    from sparring.files import write_text

    monkeypatch.setattr("sparring.evaluation.write_report", lambda path, evidence: write_text(path, evidence.title))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate with few resamples of the bootstrap, few samples of the generator and a hasty classifier."""
    from functools import partial

    from sparring.features import Lesson
    from sparring.metrics.detection import judge

    monkeypatch.setattr("sparring.evaluation.judge", partial(judge, resamples=20))
    monkeypatch.setattr("sparring.evaluation.SAMPLES", 50)
    monkeypatch.setattr("sparring.features.LESSON", Lesson(epochs=2, batch=32))


def trained(folder: Path, *arguments: Any, **settings: Any) -> Path:
    from sparring import train

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparring.run.has_onnx", lambda: False)
        return train(*arguments, out=folder, **settings).folder


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ganomaly on the zeros of `digits`; not to be changed."""
    settings: Any = {"normal": ("0",), "size": 16, "recipe": {**TINY, "rounds": 12}}
    return trained(tmp_path_factory.mktemp("detector") / "run", "ganomaly", "digits", **settings)


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of dcgan on `digits`; not to be changed."""
    settings: Any = {"size": 16, "recipe": {**TINY, "rounds": 4}}
    return trained(tmp_path_factory.mktemp("generator") / "run", "dcgan", "digits", **settings)


@pytest.fixture(scope="session")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of discogan on `digits` and their negatives; not to be changed."""
    settings: Any = {"domains": "inverted", "size": 16, "recipe": {"batch": 8, "width": 4, "rounds": 3}}
    return trained(tmp_path_factory.mktemp("translator") / "run", "discogan", "digits", **settings)


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 80 examples of 6 features."""
    path = tmp_path_factory.mktemp("features") / "features.npy"
    np.save(path, np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32))
    return path


@pytest.fixture(scope="session")
def on_features(tmp_path_factory: pytest.TempPathFactory, features: Path) -> Path:
    """A run of ganomaly on features; not to be changed."""
    recipe = {**TINY, "rounds": 3}
    return trained(tmp_path_factory.mktemp("vectors") / "run", "ganomaly", features, recipe=recipe)


Paint = Callable[..., Path]


@pytest.fixture
def paint(tmp_path: Path) -> Paint:
    """Write images of random pixels under tmp_path, and return the folder of the first."""
    random = np.random.default_rng(0)

    def paint(*names: str, size: tuple[int, int] = (20, 20), mode: str = "RGB") -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
            Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(path)
        return (tmp_path / names[0]).parent

    return paint


@pytest.fixture
def photos(paint: Paint) -> Path:
    """A folder of 24 colour images."""
    return paint(*(f"photos/{k:02d}.png" for k in range(24)))


@pytest.fixture
def labelled(paint: Paint) -> Path:
    """A folder with a class folder each of 6 good and 6 bad images."""
    return paint(*(f"labelled/{kind}/{k}.png" for kind in ("good", "bad") for k in range(6))).parent


@pytest.fixture
def defects(paint: Paint) -> Path:
    """A folder in the MVTec layout: 24 good images to train on; 6 good and 6 scratched ones, with masks, to test."""
    paint(*(f"mvtec/train/good/{k}.png" for k in range(24)), mode="L")
    paint(*(f"mvtec/test/good/{k}.png" for k in range(6)), *(f"mvtec/test/scratch/{k}.png" for k in range(6)), mode="L")
    return paint(*(f"mvtec/ground_truth/scratch/{k}_mask.png" for k in range(6)), mode="L").parents[1]
