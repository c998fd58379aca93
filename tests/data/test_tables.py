"""Parquet files, folders of the `datasets` library, and the hub without a connection."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sparring.data import open_source, splits_of
from sparring.data.door import open_examples
from sparring.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3), dtype=np.uint8)


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def table(count=200, struct=True, **columns):
    content = [encoded(pixels) for pixels in IMAGES[:count]]
    cells = [{"bytes": c, "path": None} for c in content] if struct else content
    return pa.table({"id": list(range(count)), "image": cells, **{k: v[:count] for k, v in columns.items()}})


def named(table, names):
    told = {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}}}
    return table.replace_schema_metadata({"huggingface": json.dumps(told)})


@pytest.mark.parametrize("struct", [True, False])
def test_bytes_are_found_by_type_and_read_across_groups(tmp_path, struct):
    pq.write_table(table(struct=struct, label=[k % 3 for k in range(200)]), tmp_path / "x.parquet", row_group_size=70)
    source = open_source(tmp_path / "x.parquet")
    assert np.array_equal(source.items, IMAGES)
    assert source.names[7] == "x.parquet/7"
    assert source.labels.tolist() == [k % 3 for k in range(200)]
    assert source.classes == ("0", "1", "2")
    some = open_source(tmp_path / "x.parquet", classes=["2"], limit=9)
    numbers = [int(name.split("/")[1]) for name in some.names]
    assert np.array_equal(some.items, IMAGES[numbers])
    assert numbers == sorted(numbers)
    assert len(some) == 9


def test_rows_in_any_order(tmp_path):
    for name, part in {"train-00000-of-00002": slice(0, 120), "train-00001-of-00002": slice(120, 200)}.items():
        whole = table(label=[0, 1] * 100)
        pq.write_table(whole.slice(part.start, part.stop - part.start), tmp_path / f"{name}.parquet", row_group_size=7)
    order = np.random.default_rng(0).permutation(200)[:50]
    pictures = open_examples(tmp_path, "train")
    found = [np.asarray(Image.open(io.BytesIO(cell))) for cell in pictures.opened(order)]
    assert np.array_equal(found, IMAGES[order])


def test_splits_shards_and_declared_classes(tmp_path):
    label = [0, 1] * 100
    for name, part in {"train-00000-of-00002": slice(0, 120), "train-00001-of-00002": slice(120, 200)}.items():
        whole = named(table(label=label), ["cat", "dog"])
        pq.write_table(whole.slice(part.start, part.stop - part.start), tmp_path / f"{name}.parquet")
    pq.write_table(named(table(5, label=[0] * 5), ["cat", "dog"]), tmp_path / "test.parquet")
    assert splits_of(tmp_path) == ("train", "test")
    train, test = open_source(tmp_path), open_source(tmp_path, split="test")
    assert np.array_equal(train.items, IMAGES)
    assert train.labels.tolist() == label
    assert train.classes == test.classes == ("cat", "dog")
    assert len(test) == 5
    assert train.names[0] == f"{tmp_path.name}/train/0"


def test_labels_that_are_names_are_numbered_over_all_splits(tmp_path):
    pq.write_table(table(3, label=["b", "b", "c"]), tmp_path / "train.parquet")
    pq.write_table(table(2, label=["a", "b"]), tmp_path / "test.parquet")
    assert open_source(tmp_path).classes == ("a", "b", "c")
    assert open_source(tmp_path, split="test").labels.tolist() == [0, 1]


def test_named_columns_and_paths(tmp_path, paint):
    paint("pictures/a.png", (8, 8))
    cells = [{"bytes": None, "path": "pictures/a.png"}]
    pq.write_table(pa.table({"photo": cells, "thumb": cells, "kind": ["x"]}), tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet", image_column="thumb", label_column="kind")
    assert len(source) == 1
    assert source.classes == ("x",)
    assert open_source(tmp_path / "x.parquet").labels is None
    with pytest.raises(UserError, match="no column 'thum': did you mean 'thumb'"):
        open_source(tmp_path / "x.parquet", image_column="thum")
    with pytest.raises(UserError, match=r"column 'kind' .* has the type string"):
        open_source(tmp_path / "x.parquet", image_column="kind")


def test_missing_labels_and_broken_cells(tmp_path):
    pq.write_table(table(3, label=[-1, -1, -1]), tmp_path / "test.parquet")
    assert open_source(tmp_path / "test.parquet").labels is None
    pq.write_table(table(3, label=[0, None, 1]), tmp_path / "some.parquet")
    with pytest.raises(UserError, match=r"Some examples of .* have no label"):
        open_source(tmp_path / "some.parquet")
    content = [encoded(IMAGES[0]), b"", b"text", None, encoded(IMAGES[1])]
    pq.write_table(pa.table({"image": content, "label": [0, 1, 2, 3, 4]}), tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet")
    assert source.labels.tolist() == [0, 4]
    assert [name for name, _ in source.skipped] == [f"x.parquet/{k}" for k in (1, 2, 3)]


def test_bad_tables(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_text("hello")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        open_source(path)
    pq.write_table(pa.table({"id": [1], "text": ["a"]}), path)
    with pytest.raises(UserError, match="no column of images, only id, text"):
        open_source(path)
    pq.write_table(table().slice(0, 0), path)
    with pytest.raises(UserError, match=r"x.parquet' holds no examples: give some\."):
        open_source(path)
    pq.write_table(table(), path)
    content = bytearray(path.read_bytes())
    content[100:5000] = bytes(4900)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"not a readable Parquet file|Not one of"):
        open_source(path)


@pytest.mark.filterwarnings("ignore")  # of the library and what it imports
def test_folder_saved_by_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    images = [Image.fromarray(pixels) for pixels in IMAGES[:10]]
    train = datasets.Dataset.from_dict({"img": images, "label": [0, 1] * 5}, features=features)
    both = datasets.DatasetDict({"train": train, "test": train.select([1, 3, 5])})
    both.save_to_disk(str(tmp_path / "both"))
    train.save_to_disk(str(tmp_path / "one"))
    assert splits_of(tmp_path / "both") == ("train", "test")
    assert splits_of(tmp_path / "one") == ()
    source, test = open_source(tmp_path / "both"), open_source(tmp_path / "both", split="test")
    assert np.array_equal(source.items, IMAGES[:10])
    assert source.classes == ("cat", "dog")
    assert np.array_equal(test.items, IMAGES[[1, 3, 5]])
    assert test.labels.tolist() == [1, 1, 1]
    assert np.array_equal(open_source(tmp_path / "one", classes=["dog"]).items, IMAGES[1:10:2])


@pytest.mark.filterwarnings("ignore")
def test_hub_without_a_connection():
    pytest.importorskip("datasets")
    with pytest.raises(UserError, match=r"'hf://nobody/nothing' cannot be had .*: check its name and the connection"):
        open_source("hf://nobody/nothing")
    with pytest.raises(UserError, match="not the address of a data set: write hf://org/name"):
        open_source("hf://nobody")
    with pytest.raises(UserError, match=r"There is no folder '.*mnist' \(see SPARRING_DATA\), and 'hf://ylecun/mnist'"):
        open_source("mnist")


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"not installed: pip install sparring\[hub\]"):
        open_source("hf://ylecun/mnist")
