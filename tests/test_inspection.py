"""Parts in the real world: large images, a region of interest, a calibration that is renewed, flat memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparring import compare, evaluate, load, train
from sparring.data import Grid, Region, open_source, open_tiled
from sparring.errors import UserError
from sparring.evaluation import of_pixels
from sparring.job import read_run
from sparring.metrics.detection import auroc
from sparring.preparation import set_up
from tiny import TINY

pytestmark = pytest.mark.usefixtures("eager")
RECIPE = {**TINY, "rounds": 3}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Striped parts in the MVTec layout, 48x36 pixels: 24 good ones to train on; 6 good and 6 dented ones to test."""
    root = tmp_path_factory.mktemp("parts")
    random = np.random.default_rng(0)

    def paint(name, dent=False):
        image = (random.normal(100, 5, (36, 48)) + 40 * (np.arange(48) % 8 < 4)).clip(0, 255).astype(np.uint8)
        mask = np.zeros_like(image)
        if dent:
            mask[2:8, 40:47] = 255  # a corner, which no central square sees whole
            image[mask > 0] = 255
            (root / "ground_truth/dent").mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(root / f"ground_truth/dent/{Path(name).stem}_mask.png")
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / name)

    for k in range(24):
        paint(f"train/good/{k}.png")
    for k in range(6):
        paint(f"test/good/{k}.png")
        paint(f"test/dent/{k}.png", dent=True)
    return root


@pytest.fixture(scope="module")
def mask(tmp_path_factory):
    """A region that leaves the right third out, where the dents are."""
    path = tmp_path_factory.mktemp("mask") / "roi.png"
    white = np.zeros((36, 48), np.uint8)
    white[:, :32] = 255
    Image.fromarray(white).save(path)
    return path


def run_on(parts, folder, **settings):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparring.run.has_onnx", lambda: False)
        return train("ganomaly", parts, out=folder, recipe=RECIPE, **settings)


@pytest.fixture(scope="module")
def on_tiles(parts, tmp_path_factory):
    return run_on(parts, tmp_path_factory.mktemp("tiles") / "run", tile=16).folder


def test_a_run_on_tiles_describes_itself(on_tiles):
    job, facts = read_run(on_tiles)
    assert (job.tile, job.overlap, job.size) == (16, 4, None)
    per_image = len(Grid(16, 4).corners(36, 48))
    assert facts["spec"] == {"shape": [1, 16, 16], "count": 12 * per_image, "classes": ["good"], "caption": 0}
    assert facts["held_out"] == 12  # images, not tiles
    assert len(load(on_tiles).calibration) == 12


def test_no_tile_of_a_held_out_image_is_learnt_from(on_tiles):
    setup = set_up(read_run(on_tiles)[0])
    run = load(on_tiles)
    np.testing.assert_allclose(np.sort(run.raw_scores(setup.held)), run.calibration.scores, rtol=1e-6)
    learnt = {tile.tobytes() for tile in setup.fit.read(slice(None))}
    held = {tile.tobytes() for tile in setup.held.cut().read(slice(None))}
    assert not learnt & held


def test_the_score_of_an_image_is_the_largest_of_its_tiles(on_tiles, parts):
    run = load(on_tiles)
    source = run.look(parts, limit=3)
    scores = run.raw_scores(source)
    for number in range(3):
        image = np.asarray(source.picture(number))[..., None]
        tiles = list(source.grid.cut(image, source.grid.corners(36, 48)))
        alone = run.raw_scores(open_tiled(np.stack(tiles), Grid(16, 0)))
        assert scores[number] == pytest.approx(alone.max(), rel=1e-6)


@pytest.mark.parametrize("size", [1, 7])
def test_scores_on_tiles_do_not_depend_on_the_batch(on_tiles, parts, monkeypatch, size):
    run = load(on_tiles)
    expected = run.raw_scores(run.look(parts))
    monkeypatch.setattr("sparring.run.BATCH", size)
    np.testing.assert_allclose(run.raw_scores(run.look(parts)), expected, rtol=1e-6)


@pytest.mark.usefixtures("quick")
def test_the_whole_walk_on_tiles(call, on_tiles, parts):
    found = call("evaluate", on_tiles, "--baselines", "--report", "r.html", "--json").json
    assert found["detection"]["counts"]["examples"] == 12
    assert 0 <= found["pixel_auroc"] <= 1
    assert 0 <= found["aupro"] <= 1
    assert found["baselines"]["mean image"]["aupro"] is not None
    page = Path("r.html").read_text()
    assert "AUPRO" in page
    assert "16 pixels, which overlap by 4" in page
    said = call("score", on_tiles, parts, "--maps", "maps", "--out", "s.csv", "--json").json
    assert (said["scored"], said["maps"]) == (12, 12)
    with Image.open("maps/test/dent/0.png") as picture:
        assert picture.width * 36 == picture.height * 48  # all of the image, enlarged


def test_damage_outside_of_the_central_square_is_told(parts, tmp_path):
    run = run_on(parts, tmp_path / "run", size=16)
    with pytest.MonkeyPatch.context() as patch:
        pages = []
        patch.setattr("sparring.evaluation.write_report", lambda path, evidence: pages.append(evidence))
        evaluate(run)
    assert any("71.4% of the damaged pixels lie outside of the central squares" in note for note in pages[0].notes)


@pytest.mark.parametrize("settings", [{"tile": 16}, {"size": 16}])
@pytest.mark.usefixtures("quick", "no_report")
def test_a_region_of_interest_goes_with_its_run(parts, mask, tmp_path, settings):
    spare = tmp_path / "roi.png"
    spare.write_bytes(mask.read_bytes())
    run = load(run_on(parts, tmp_path / "run", roi=str(spare), **settings).folder)
    spare.unlink()  # the run has its own
    images = np.stack([np.asarray(Image.open(path)) for path in sorted(parts.glob("test/good/*.png"))])
    other = images.copy()
    other[:, :, 33:] = 3
    assert np.array_equal(run.raw_scores(run.look(images, None)), run.raw_scores(run.look(other, None)))
    assert not np.array_equal(run.raw_scores(run.look(images, None)), run.raw_scores(run.look(images[:, ::-1], None)))
    source = run.look(parts)
    for anomaly, number in zip(run.maps(source), range(len(source)), strict=True):
        inside = source.inside(number)
        assert anomaly.shape == inside.shape
        assert (anomaly[~inside] == 0).all()
    found = evaluate(run)
    assert found["aupro"] is None  # all damage lies outside
    sentence = "'0.png' is 20x20 pixels and the mask of --roi 48x36"
    Image.new("L", (20, 20)).save(tmp_path / "0.png")
    with pytest.raises(UserError, match=sentence):
        run.look(tmp_path / "0.png", None)


@pytest.mark.parametrize("open_them", [partial(open_source, size=16), partial(open_tiled, grid=Grid(16, 4))])
def test_a_region_is_taken_at_the_size_of_the_masks(parts, tmp_path, open_them):
    shutil.copytree(parts, tmp_path / "parts")
    for path in (tmp_path / "parts/ground_truth/dent").iterdir():
        Image.open(path).resize((24, 18)).save(path)
    white = np.ones((36, 48), bool)
    white[:, :8] = False
    source = open_them(tmp_path / "parts", split="test", region=Region(white))
    kinds = [source.classes[k] for k in source.labels]
    found = of_pixels(lambda seen: seen.maps(lambda rows: rows[..., 0].astype(np.float32), 8), source, kinds, ("good",))
    assert found["pixel_auroc"] > 0.7


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--tile", "16", "--size", "16"), "give one of the two"),
        (("--overlap", "4"), "say how large they are with --tile"),
        (("--tile", "16", "--overlap", "16"), "from 0 to less than --tile 16; got 16"),
        (("--tile", "64"), "is 48x36 pixels, less than a tile of 64"),
        (("--tile", "20"), "20"),
        (("--roi", "nothing.png"), "The mask 'nothing.png' cannot be read"),
    ],
)
def test_what_does_not_go_together(call, parts, flags, sentence):
    said = call("train", "ganomaly", parts, *flags, "--rounds", "1", "--out", "run", status=2)
    assert sentence in said.sentence
    assert not Path("run").exists()


def test_tiles_are_for_detectors(call, parts):
    assert "are for detectors, and dcgan is none" in call("train", "dcgan", parts, "--tile", "16", status=2).sentence


def test_a_calibration_is_renewed(call, parts, tmp_path):
    run = run_on(parts, tmp_path / "run", size=16)
    before = run.calibration.scores
    found = call("calibrate", run.folder, parts, "--split", "test", "--json").json
    assert found["calibrated_on"] == 6  # the good ones
    again = load(run.folder)
    np.testing.assert_allclose(
        again.calibration.scores, np.sort(again.raw_scores(again.look(parts).of(["good"]))), rtol=1e-6
    )
    assert len(before) == 12
    assert again.facts["calibrated"]["examples"] == 6
    assert again.facts["spec"] == run.facts["spec"]
    for flags in ((parts,), (parts, "--split", "train[:5]"), (parts / "train",), (parts / "train/good",)):
        assert "holds examples that the run learnt from" in call("calibrate", run.folder, *flags, status=2).sentence
    said = call("evaluate", run.folder, status=2)
    assert "holds examples that the run was calibrated on" in said.sentence
    assert "that the run was calibrated on" in call("evaluate", run.folder, parts / "test", status=2).sentence
    assert "that the run was trained on" in call("evaluate", run.folder, parts / "train/good", status=2).sentence


@pytest.mark.usefixtures("quick", "no_report")
def test_detectors_on_tiles_compete(parts, tmp_path):
    names = ["ganomaly", "pca"]
    found = compare(parts, names, seeds=1, out=tmp_path / "out", tile=16, recipe=RECIPE, tell=(said := []).append)
    assert set(found["entrants"]) == set(names)
    run = load(tmp_path / "out/good/ganomaly-0")
    assert (run.job.tile, run.job.overlap) == (16, 4)
    looks = json.loads((run.folder / "evaluation.json").read_text())["looks"]
    source = run.look(parts)
    score, dent = run.raw_scores(source), source.labels == source.classes.index("dent")
    assert looks[-1]["report"] == pytest.approx(auroc(score[dent], score[~dent]), abs=0.03)
    assert found["notes"] == said[-1:]
    assert "that takes 19 normal examples for calibration and there are 12" in said[-1]


def test_score_tells_of_drift(call, on_tiles, tmp_path):
    (tmp_path / "odd").mkdir()
    random = np.random.default_rng(0)
    for k in range(25):
        Image.fromarray(random.integers(0, 256, (36, 48), dtype=np.uint8)).save(tmp_path / f"odd/{k}.png")
    said = call("score", on_tiles, "odd", "--false-alarms", "0.1", "--out", "s.csv", "--json")
    assert said.json["drift"]["drifted"]
    assert "Drift (p = " in said.err
    assert "calibrate anew" in said.err


MEMORY = """
import json, resource, sys
import sparring.run
sparring.run.has_onnx = lambda: False
from sparring.cli import main
main(["score", *sys.argv[1:], "--out", "s.csv"])
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
"""


def peak(*arguments, where):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *map(str, arguments)], capture_output=True, text=True, cwd=where
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_memory_is_flat_over_a_folder(detector, tmp_path):
    random = np.random.default_rng(0)
    for name, count in (("few", 200), ("many", 2000)):
        (tmp_path / name).mkdir()
        for k in range(count):
            Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"{name}/{k}.bmp")
    few, many = (peak(detector, name, where=tmp_path) for name in ("few", "many"))
    assert many - few < 12  # MB; the images take 24
