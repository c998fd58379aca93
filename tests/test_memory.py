"""What is made goes to disk or into a measure as it comes: ten times as much takes hardly more memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sparring

MEASURED = """
import json, resource, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import torch
from PIL import Image
from sparring import train
from sparring.features import Extractor
from sparring.gallery import write_samples
from sparring.generation import make
from sparring.metrics.parzen import parzen
from sparring.protocol import Spec
from sparring.sampling import Sampler
from sparring.translation import write_translations

torch.set_num_threads(1)
folder, shape = Path(sys.argv[1]), (3, 32, 32)


class Noise:
    conditional, captioned, spec = False, False, Spec(shape, 1)

    def generate(self, n):
        return torch.rand(n, *shape) * 2 - 1


def peak():  # in MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


run = SimpleNamespace(game=Noise(), spec=Noise.spec, sampler=lambda seed: Sampler(Noise(), "noise", seed))
extractor = Extractor("means", "", lambda x: (x.mean((2, 3)), None), kept=False)
some = np.random.default_rng(0).random((20, 3072), np.float32)


def sampled(n):
    write_samples(run, folder / "samples.npy", n)


def measured(n):
    found = make(run, extractor, n, None, None)
    assert found.described.features.shape == (n, 3)
    parzen(found.pixels, some, some)


(folder / "images").mkdir()
for k in range(10_000):
    Image.new("L", (64, 64), k % 256).save(folder / f"images/{k}.png")
translator = train(
    "discogan", folder / "images", out=folder / "run", domains="inverted", size=64, limit=64,
    recipe={"batch": 8, "width": 4, "rounds": 1},
)


def translated(n):
    found = write_translations(translator, folder / "images", folder / f"translations-{n}", limit=n)
    assert found["translated"] == n


for work in (sampled, measured, translated):
    work(1000)
    before = peak()
    work(10_000)
    print(json.dumps([work.__name__, round(before), round(peak() - before)]))
"""


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """MB that the peak of a process rises from 1,000 to 10,000 images of 32x32x3 pixels, 123 MB as float32."""
    home = str(Path(sparring.__file__).parents[1])
    command = [sys.executable, "-c", MEASURED, str(tmp_path_factory.mktemp("memory"))]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": home}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {name: more for name, _, more in map(json.loads, done.stdout.splitlines())}


def test_samples_go_to_disk_as_they_come(grown):
    assert grown["sampled"] < 25


def test_translations_go_to_disk_as_they_come(grown):
    assert grown["translated"] < 25  # 10,000 images of 64x64 are 164 MB as float32


def test_what_is_measured_is_kept_once_for_the_density_and_not_at_all_for_features(grown):
    assert grown["measured"] < 123 + 90  # and some chunks of 25 in float64
