"""Every test has its own cache, and no test sees the user's data or the network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REAL = Path(os.environ.get("SPARRING_DATA") or Path(__file__).parents[3] / "shared" / "data")

Painter = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("SPARRING_DATA", str(tmp_path_factory.mktemp("data")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with real data; tests that need it are skipped where it is absent."""
    if not (REAL / "mnist").is_dir():
        pytest.skip(f"no real data under {REAL}; set SPARRING_DATA")
    monkeypatch.setenv("SPARRING_DATA", str(REAL))
    return REAL


@pytest.fixture
def paint(tmp_path: Path) -> Painter:
    """Write an image of random pixels under tmp_path."""
    random = np.random.default_rng(0)

    def paint(relative: str, size: tuple[int, int] = (16, 16), mode: str = "RGB", **save: object) -> Path:
        path = tmp_path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,)}[mode]
        pixels = random.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
        Image.fromarray(pixels, mode=None).save(path, **save)  # type: ignore[arg-type]
        return path

    return paint
