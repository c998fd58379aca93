"""Captions: where they are found, which is drawn, and what they do not describe."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sparring.data import Stream, open_source, splits_of
from sparring.data.captions import Told, need_captions, tell
from sparring.data.shapes import ATTRIBUTES, CAPTIONS, COUNTS, UNSEEN, asked, attributes
from sparring.errors import UserError

ROWS = [{"file_name": "a.png", "text": "a cat"}, {"file_name": "b.png", "text": "a dog"},
        {"file_name": "a.png", "text": "some animal"}]  # fmt: skip


def jsonl(folder, rows):
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_image_folder_of_datasets(tmp_path, paint):
    paint("set/a.png")
    paint("set/b.png")
    jsonl(tmp_path / "set", ROWS)
    found = open_source(tmp_path / "set")
    assert dict(zip(found.names, found.captions, strict=True)) == {
        "a.png": ("a cat", "some animal"),
        "b.png": ("a dog",),
    }
    assert found.take([1]).captions == (("a dog",),)


def test_metadata_as_csv_in_each_split(tmp_path, paint):
    for split, text in {"train": "seen", "test": '"quoted, with a comma"'}.items():
        paint(f"set/{split}/x.png")
        (tmp_path / f"set/{split}/metadata.csv").write_text(f"file_name,text\nx.png,{text}\n")
    assert open_source(tmp_path / "set").captions == (("seen",),)
    assert open_source(tmp_path / "set", split="test").captions == (("quoted, with a comma",),)


def test_lists_of_captions_in_a_line(tmp_path, paint):
    paint("set/deep/a.png")
    jsonl(tmp_path / "set", [{"file_name": "deep/a.png", "captions": ["one", "two"]}])
    assert open_source(tmp_path / "set").captions == (("one", "two"),)


@pytest.mark.parametrize("texts", [["one", "two"], [["one", "1"], ["two"]]])
def test_tables(tmp_path, paint, texts):
    images = [paint(f"{k}.png").read_bytes() for k in range(2)]
    table = pa.table({"image": images, "text": texts})
    (tmp_path / "table").mkdir()
    pq.write_table(table, tmp_path / "table" / "train.parquet")
    found = open_source(tmp_path / "table" / "train.parquet")
    assert found.captions == tuple((t,) if isinstance(t, str) else tuple(t) for t in texts)


def test_folder_saved_by_datasets(tmp_path, paint):
    datasets = pytest.importorskip("datasets")
    images = [{"bytes": paint(f"{k}.png").read_bytes(), "path": None} for k in range(2)]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    datasets.Dataset.from_dict({"image": images, "text": ["one", "two"]}, features=features).save_to_disk(
        tmp_path / "saved"
    )
    assert open_source(tmp_path / "saved").captions == (("one",), ("two",))


def test_bad_metadata(tmp_path, paint):
    paint("set/a.png")
    jsonl(tmp_path / "set", [{"file_name": "lost.png", "text": "a ghost"}])
    with pytest.raises(UserError, match=r"Line 1 of .*names the image 'lost.png', which is not there"):
        open_source(tmp_path / "set")
    jsonl(tmp_path / "set", [{"file_name": "a.png"}, {"text": "of nothing"}])
    with pytest.raises(UserError, match=r"Line 2 of .*has no file_name"):
        open_source(tmp_path / "set")
    (tmp_path / "set" / "metadata.jsonl").write_text("{half a line\n")
    with pytest.raises(UserError, match="is not readable"):
        open_source(tmp_path / "set")
    jsonl(tmp_path / "set", [{"file_name": "a.png", "text": 7}])
    with pytest.raises(UserError, match="is no text"):
        open_source(tmp_path / "set")


@pytest.mark.parametrize(
    ("name", "text"), [("metadata.csv", "patient,age\n1,40\n"), ("metadata.jsonl", '{"age": 40}\n')]
)
def test_metadata_of_another_kind_are_left_alone(tmp_path, paint, name, text):
    paint("set/a.png")
    (tmp_path / "set" / name).write_text(text)
    assert open_source(tmp_path / "set").captions is None


def test_captions_that_are_missing_or_empty(tmp_path, paint):
    paint("set/a.png")
    paint("set/b.png")
    with pytest.raises(UserError, match=r"has no captions: add a metadata\.jsonl"):
        need_captions(open_source(tmp_path / "set"))
    jsonl(tmp_path / "set", ROWS[:1])
    with pytest.raises(UserError, match=r"1 of the 2 images .* have no caption, such as 'b.png'"):
        need_captions(open_source(tmp_path / "set"))
    jsonl(tmp_path / "set", [*ROWS, {"file_name": "b.png", "text": " "}])
    with pytest.raises(UserError, match=r"'b.png' of .* has an empty caption"):
        need_captions(open_source(tmp_path / "set"))


def told(counts, kinds, average=1):
    """Caption c of example k is embedded as (k, c)."""
    rows = [(k, c) for k, count in enumerate(counts) for c in range(count)]
    return Told(np.array(rows, np.float32), np.cumsum([0, *counts]), np.array(kinds), np.arange(len(rows)), average)


def test_one_caption_of_its_own_is_drawn_for_each_example():
    drawn = told([1, 3, 2], [0, 1, 2])
    examples = np.array([2, 1, 0, 1] * 300)
    found = drawn.caption(examples, np.random.default_rng(0))
    assert found.dtype == np.float32
    assert (found[:, 0] == examples).all()
    seen = found[examples == 1, 1]
    assert np.bincount(seen.astype(int)).tolist() == pytest.approx([200, 200, 200], abs=45)


def test_several_captions_are_averaged_without_repetition():
    drawn = told([1, 3, 2], [0, 1, 2], average=2)
    found = drawn.caption(np.array([0, 1, 2] * 100), np.random.default_rng(0)).reshape(100, 3, 2)
    assert (found[:, 0, 1] == 0).all(), "the only one"
    assert set(found[:, 1, 1].tolist()) == {0.5, 1.0, 1.5}, "two different ones of three"
    assert (found[:, 2, 1] == 0.5).all(), "both"


def test_a_mismatch_is_of_another_kind_and_any_of_them():
    drawn = told([1] * 6, [0, 1, 0, 2, 1, 0])
    examples = np.repeat(np.arange(6), 600)
    others = drawn.mismatch(examples, np.random.default_rng(0)).reshape(6, 600)
    for k, own in enumerate(others):
        allowed = np.flatnonzero(drawn.kinds != drawn.kinds[k])
        counts = np.bincount(own, minlength=6)
        assert counts[allowed].sum() == 600
        assert counts[allowed].min() > 0.7 * 600 / len(allowed)


def test_near_mismatches_have_the_most_similar_captions_of_all_that_share_none(monkeypatch):
    monkeypatch.setattr("sparring.data.captions.CLOSE", 2)
    at = np.array([0, 1, 2, 3, 10, 20], np.float32)[:, None]  # example k has the captions 2k, embedded here, and
    texts = np.array([0, 100, 2, 100, 4, 102, 6, 103, 8, 104, 10, 105])  # one more: that of 0 is also that of 1
    near = Told(at.repeat(2, 0), np.arange(0, 13, 2), np.array([0, 1, 2, 2, 3, 4]), texts, near=1.0)
    examples = np.repeat(np.arange(6), 200)
    drawn = near.mismatch(examples, np.random.default_rng(0)).reshape(6, 200)
    assert [sorted(set(own.tolist())) for own in drawn] == [[2, 3], [2, 3], [0, 1], [0, 1], [2, 3], [3, 4]]
    half = replace(near, near=0.5).mismatch(np.zeros(2000, int), np.random.default_rng(0))
    assert np.bincount(half, minlength=6) / 2000 == pytest.approx([0, 0.1, 0.35, 0.35, 0.1, 0.1], abs=0.04)
    monkeypatch.setattr("sparring.data.captions.PART", 6)
    assert np.array_equal(replace(near, near=1.0)._close[:, :2].sum(1), near._close.sum(1)), "part by part"


def test_a_near_mismatch_where_all_share_a_caption_is_any():
    near = Told(np.zeros((4, 1), np.float32), np.arange(5), np.array([0, 1, 2, 3]), np.zeros(4, int), near=1.0)
    drawn = near.mismatch(np.zeros(400, int), np.random.default_rng(0))
    assert set(drawn.tolist()) == {1, 2, 3}


def test_kinds_are_classes_or_else_captions(tmp_path, paint):
    for name in "abc":
        paint(f"set/{name}.png")
    jsonl(tmp_path / "set", [{"file_name": f"{n}.png", "text": t} for n, t in zip("abc", "xxy", strict=True)])
    source = open_source(tmp_path / "set")
    embeddings = {text: np.ones(4) for text in "xy"}
    assert tell(source, embeddings).kinds.tolist() == [0, 0, 1]
    with pytest.raises(UserError, match="have the same caption"):
        tell(source.take([0, 1]), embeddings)
    for path in (tmp_path / "set").iterdir():
        path.unlink()
    for name in ("one/a", "one/b", "two/c"):
        paint(f"set/{name}.png")
    jsonl(tmp_path / "set", [{"file_name": f"{n}.png", "text": "x"} for n in ("one/a", "one/b", "two/c")])
    assert tell(open_source(tmp_path / "set"), embeddings).kinds.tolist() == [0, 0, 1]
    with pytest.raises(UserError, match="have the same class"):
        tell(open_source(tmp_path / "set", classes=["one"]), embeddings)


def test_the_stream_draws_by_seed_and_position():
    source = open_source((np.repeat(np.arange(7, dtype=np.uint8), 64).reshape(7, 8, 8), np.arange(7) % 3))
    words = told([2] * 7, source.labels)
    streams = [Stream(source, 3, seed=5, told=words, mismatched=True) for _ in range(2)]
    batches = [streams[0]() for _ in range(6)]
    streams[1].position = 4
    for expected, found in zip(batches[4:], (streams[1]() for _ in range(2)), strict=True):
        for name in ("x", "label", "caption", "mismatch"):
            assert getattr(expected, name).equal(getattr(found, name)), name
    for batch in batches:
        assert batch.caption.shape == (3, 2)
        rows = ((batch.mismatch[:, 0, 0, 0] + 1) * 127.5).round().int().numpy()  # the pixels are the number
        assert (source.labels[rows] != batch.label.numpy()).all()
        assert (words.kinds[batch.caption[:, 0].long().numpy()] == batch.label.numpy()).all()
    assert Stream(source, 3)().caption is None


def test_shapes_hold_pairs_out_of_training(monkeypatch):
    monkeypatch.setattr("sparring.data.shapes.COUNTS", {"train": 300, "test": 40, "all": 100})
    train, test = (attributes(split) for split in ("train", "test"))
    assert set(zip(test["colour"], test["shape"], strict=True)) == set(UNSEEN)
    assert not set(zip(train["colour"], train["shape"], strict=True)) & set(UNSEEN)
    for drawn in (train, test):
        assert all(colour != ground for colour, ground in zip(drawn["colour"], drawn["ground"], strict=True))
    assert all(set(train[name]) == set(values) for name, values in ATTRIBUTES.items())
    source, again = (open_source("shapes", split="test", size=32) for _ in range(2))
    assert source.items.shape == (40, 32, 32, 3)
    assert (source.items == again.items).all()
    for k, captions in enumerate(source.captions):
        assert len(captions) == len(CAPTIONS)
        for caption in captions:
            words = asked(caption)
            assert {"colour", "shape"} <= set(words)
            assert all(test[name][k] == value for name, value in words.items()), caption
    assert COUNTS["train"] == 10_000


def test_what_a_caption_asks_for():
    assert asked("A large red circle on blue") == {
        "shape": "circle",
        "size": "large",
        "colour": "red",
        "ground": "blue",
    }
    assert asked("a star, on a black background") == {"shape": "star", "ground": "black"}


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def birds(tmp_path, paint):
    """Four birds of two species in the layout of CUB-200-2011, 40x30 pixels."""
    names = ["001.Crow/Crow_1", "001.Crow/Crow_2", "002.Owl/Owl_1", "002.Owl/Owl_2"]
    root = tmp_path / "CUB_200_2011"
    for k, name in enumerate(names, 1):
        paint(f"CUB_200_2011/images/{name}.jpg", (40, 30))
        write(tmp_path / f"cvpr2016_cub/text_c10/{name}.txt", f"bird {k}\nsecond {k}\n\n")
    for file, values in {
        "images.txt": [f"{name}.jpg" for name in names], "image_class_labels.txt": [1, 1, 2, 2],
        "bounding_boxes.txt": ["10.0 8.0 16.0 12.0"] * 4, "train_test_split.txt": [1, 0, 1, 0],
    }.items():  # fmt: skip
        write(root / file, "".join(f"{k} {value}\n" for k, value in enumerate(values, 1)))
    return tmp_path


def test_birds_with_captions_and_classes_apart(tmp_path, paint):
    folder = birds(tmp_path, paint)
    seen = open_source(folder, size=16)
    assert [name.split("/")[-1] for name in seen.names] == ["Crow_1.jpg", "Owl_1.jpg"], "the official split"
    write(folder / "cvpr2016_cub/trainclasses.txt", "001.Crow\n")
    write(folder / "cvpr2016_cub/valclasses.txt", "001.Crow\n")
    write(folder / "cvpr2016_cub/testclasses.txt", "002.Owl\n")
    assert splits_of(folder) == ("train", "val", "test")
    write(folder / "cvpr2016_cub/trainvalclasses.txt", "001.Crow\n")
    assert splits_of(folder) == ("train", "test"), "what validates is trained on"
    train, test = (open_source(folder, split=split, size=16) for split in ("train", "test"))
    assert train.captions == (("bird 1", "second 1"), ("bird 2", "second 2"))
    assert test.labels.tolist() == [1, 1]
    assert train.classes == ("001.Crow", "002.Owl")
    with Image.open(folder / "CUB_200_2011/images/001.Crow/Crow_1.jpg") as image:
        crop = image.crop((6, 2, 30, 26)).resize((16, 16), Image.Resampling.LANCZOS)  # 0.75 x 16 around (18, 14)
    assert np.abs(train.read([0])[0].astype(int) - np.asarray(crop).astype(int)).mean() < 2


def test_flowers_with_captions_and_classes_apart(tmp_path, paint):
    savemat = pytest.importorskip("scipy.io").savemat
    for k in range(1, 5):
        paint(f"oxford/jpg/image_{k:05d}.jpg", (20, 20))
        write(tmp_path / f"oxford/text_c10/class_{(k + 1) // 2:05d}/image_{k:05d}.txt", f"flower {k}\n")
    savemat(tmp_path / "oxford/imagelabels.mat", {"labels": [[1, 1, 2, 2]]})
    savemat(tmp_path / "oxford/setid.mat", {"trnid": [[1]], "valid": [[3]], "tstid": [[2, 4]]})
    official = open_source(tmp_path / "oxford", split="test")
    assert official.captions == (("flower 2",), ("flower 4",))
    write(tmp_path / "oxford/trainvalclasses.txt", "class_00001\n")
    write(tmp_path / "oxford/testclasses.txt", "class_00002\n")
    train = open_source(tmp_path / "oxford")
    assert train.captions == (("flower 1",), ("flower 2",))
    assert train.classes == ("class_00001", "class_00002")
    (tmp_path / "oxford/jpg/image_00004.jpg").unlink()
    with pytest.raises(UserError, match="lacks the image"):
        open_source(tmp_path / "oxford")


def test_emoji(real):
    if not (real / "emoji").is_dir():
        pytest.skip(f"no emoji under {real}")
    found = open_source("emoji", split="test", limit=20, size=16)
    assert len(found.captions) == 20
    assert all(len(own) == 1 and own[0].strip() for own in found.captions)
