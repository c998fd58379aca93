"""A watched folder: each image once, whatever happens to its file, to the ledger or to the process."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparring import load
from sparring.errors import UserError
from sparring.inbox import COLUMNS, Entry, Inbox, Ledger
from sparring.metrics.drift import Drift

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture
def run(detector):
    return load(detector)


@pytest.fixture
def folder(paint):
    return paint(*(f"in/{name}.png" for name in ("1", "2", "10", "deep/a")), mode="L")


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def entries(events):
    return [event for event in events if isinstance(event, Entry)]


@pytest.mark.parametrize("name", ["ledger.csv", "ledger.jsonl"])
def test_each_image_is_judged_once_and_after_it_has_settled(run, folder, tmp_path, name):
    inbox = Inbox(run, folder, Ledger(tmp_path / name))
    assert list(inbox.look()) == []  # it may still be written
    found = entries(inbox.look())
    assert [entry.name for entry in found] == ["1.png", "2.png", "10.png", "deep/a.png"]
    assert list(inbox.look()) == []
    verdicts = run.score(folder, split=None)
    np.testing.assert_allclose([entry.score for entry in found], verdicts.score, rtol=1e-6)
    assert [entry.p_value for entry in found] == verdicts.p_value.tolist()
    lines = (
        rows(tmp_path / name)
        if name.endswith("csv")
        else list(map(json.loads, (tmp_path / name).read_text().splitlines()))
    )
    assert [line["name"] for line in lines] == [entry.name for entry in found]
    assert tuple(lines[0]) == COLUMNS
    again = Inbox(run, folder, Ledger(tmp_path / name))
    assert [*again.look(), *again.look()] == []
    shutil.copy(folder / "1.png", folder / "3.png")
    again.waiting.clear()
    assert [event.name for event in (*again.look(), *again.look())] == ["3.png"]


def test_a_file_that_grows_is_waited_for(run, folder, tmp_path):
    inbox = Inbox(run, folder, Ledger(tmp_path / "ledger.csv"))
    content = (folder / "1.png").read_bytes()
    for path in folder.rglob("*.png"):
        path.unlink()
    for end in (50, 200, len(content)):
        (folder / "new.png").write_bytes(content[:end])
        assert list(inbox.look()) == []
    (entry,) = inbox.look()
    assert entry.verdict in ("normal", "strange")


def test_an_unreadable_file_is_noted_once_and_judged_when_it_is_mended(run, folder, tmp_path):
    ledger = Ledger(tmp_path / "ledger.csv")
    inbox = Inbox(run, folder, ledger)
    content = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(content[:200])
    list(inbox.look())
    first = entries(inbox.look())[0]
    assert (first.name, first.verdict, first.score) == ("1.png", "unreadable", None)
    assert "'1.png' cannot be read because" in first.note
    assert list(inbox.look()) == []
    (folder / "1.png").write_bytes(content)
    assert [event.verdict != "unreadable" for event in (*inbox.look(), *inbox.look())] == [True]
    assert [line["name"] for line in rows(ledger.path)].count("1.png") == 2


def test_a_file_that_vanishes_or_changes_meanwhile_is_left_alone(run, folder, tmp_path, monkeypatch):
    inbox = Inbox(run, folder, Ledger(tmp_path / "ledger.csv"))
    list(inbox.look())
    score = type(run).score

    def meddle(self, path, *arguments, **options):
        found = score(self, path, *arguments, **options)
        if path.name == "1.png":
            path.unlink()
        if path.name == "2.png":
            path.write_bytes(path.read_bytes() + b"more")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(type(run), "score", meddle)
        assert [entry.name for entry in inbox.look()] == ["10.png", "deep/a.png"]
    assert [event.name for event in (*inbox.look(), *inbox.look())] == ["2.png"]


def test_half_a_line_is_cut_off(run, folder, tmp_path):
    path = tmp_path / "ledger.csv"
    inbox = Inbox(run, folder, Ledger(path))
    list(inbox.look()), list(inbox.look())
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    again = Inbox(run, folder, Ledger(path))
    assert [entry.name for entry in (*again.look(), *again.look())] == ["deep/a.png"]
    assert [line["name"] for line in rows(path)] == ["1.png", "2.png", "10.png", "deep/a.png"]


def test_drift_is_asked_about_in_disjoint_windows_also_after_a_restart(run, folder, tmp_path):
    def look(inbox):
        return [event for event in (*inbox.look(), *inbox.look()) if isinstance(event, Drift)]

    path = tmp_path / "ledger.csv"
    ours = []
    for start in range(0, 12, 3):  # 4 images are there, and 3 more come before each start but the first
        for k in range(start, start + 3) if start else ():
            Image.fromarray(np.full((20, 20), k, np.uint8)).save(folder / f"n{k}.png")
        ours += look(Inbox(run, folder, Ledger(path, window=5)))
    assert [drift.examples for drift in ours] == [5, 5]
    assert len(rows(path)) == 13


def test_a_name_that_is_no_text_is_noted_as_one(run, folder, tmp_path):
    (folder / "1.png").rename(os.fsdecode(os.fsencode(folder) + b"/\xe4.png"))
    ledger = Ledger(tmp_path / "ledger.csv")
    inbox = Inbox(run, folder, ledger)
    list(inbox.look())
    assert "\\xe4.png" in {entry.name for entry in entries(inbox.look()) if entry.verdict != "unreadable"}
    assert "\\xe4.png" in {line["name"] for line in rows(ledger.path)}


def test_maps_keep_their_folders(run, folder, tmp_path):
    inbox = Inbox(run, folder, Ledger(tmp_path / "ledger.csv"), maps=tmp_path / "maps")
    list(inbox.look()), list(inbox.look())
    assert {str(path.relative_to(tmp_path / "maps")) for path in (tmp_path / "maps").rglob("*.png")} == {
        "1.png", "2.png", "10.png", "deep/a.png",
    }  # fmt: skip


def test_what_cannot_be_watched(run, folder, tmp_path):
    ledger = Ledger(tmp_path / "ledger.csv")
    with pytest.raises(UserError, match="is no folder"):
        Inbox(run, folder / "1.png", ledger)
    with pytest.raises(UserError, match="would lie among the images of"):
        Inbox(run, folder, ledger, maps=folder / "maps")
    with pytest.raises(UserError, match=r"ends in .csv or .jsonl"):
        Ledger(tmp_path / "ledger.txt")
    others = {
        "a.csv": "name,score\n",
        "b.csv": "text",
        "a.jsonl": "{}\n",
        "b.jsonl": "text\n",
        "c.jsonl": "text",
        "d.jsonl": "[]\n",
    }
    for name, text in others.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match="is no ledger of images, or damaged"):
            Ledger(tmp_path / name)
        assert (tmp_path / name).read_text() == text


def test_the_command_line_refuses_what_does_not_go_together(call, detector, folder):
    assert "--watch watches one" in call("score", detector, "digits", "--watch", "--out", "l.csv", status=2).sentence
    sentence = call("score", detector, folder, "--watch", "--limit", "3", status=2).sentence
    assert "leave --limit, --split and --strict out" in sentence
    assert "--every above 0" in call("score", detector, folder, "--watch", "--every", "0", status=2).sentence


def test_ctrl_c_ends_a_watch_and_the_same_command_goes_on(detector, folder, tmp_path):
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # not in the background
        "import sparring.run; sparring.run.has_onnx = lambda: False; from sparring.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "score", detector, folder, "--watch", "--every", "0.1",
               "--out", tmp_path / "ledger.csv", "--json"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for expected in (4, 1):
        with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            lines = [json.loads(process.stdout.readline()) for _ in range(expected)]
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
        assert process.returncode == 0
        assert {line["verdict"] for line in lines} <= {"normal", "strange"}
        summary = json.loads(rest)
        assert summary["normal"] + summary["strange"] == expected
        shutil.copy(folder / "1.png", folder / f"copy{time.time_ns()}.png")
    assert len(rows(tmp_path / "ledger.csv")) == 5
    assert Path(summary["out"]) == tmp_path / "ledger.csv"
