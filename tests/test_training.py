"""Training: interrupted, killed, resumed and shared by processes, it ends with the same weights."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sparring import train
from sparring.data import open_source
from sparring.engine import Interrupted
from sparring.errors import UserError
from sparring.job import read_run, write_run
from sparring.opening import hold_out, some
from sparring.training import cores
from tiny import TINY, TINY_FLAGS

pytestmark = pytest.mark.usefixtures("eager")

LONG = 120  # rounds: enough to be killed between them


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def rounds(folder: Path) -> list[int]:
    return [json.loads(line)["round"] for line in (folder / "journal.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("model", ["dcgan", "ganomaly"])
def test_a_stopped_training_says_how_to_go_on_and_ends_the_same(call, monkeypatch, sign, model):
    flags = ("train", model, "digits", *TINY_FLAGS, "--rounds", "9", "--json")
    flags += ("--normal", "0") if model == "ganomaly" else ()
    call(*flags, "--out", "whole")

    from sparring.judging import Painter

    paint = Painter.__call__

    def stop(self: Painter, game: object, phase: str, done: int) -> dict[str, float]:
        if done == 4:
            os.kill(os.getpid(), sign)
        return paint(self, game, phase, done)

    with monkeypatch.context() as patch:
        patch.setattr(Painter, "__call__", stop)
        said = call(*flags, "--out", "cut", status=1)
    assert said.sentence == "stopped at round 4 of 9: go on with 'sparring train --resume --out cut'."
    assert not Path("cut/model.safetensors").exists()
    assert rounds(Path("cut")) == [1, 2, 3, 4]
    if model == "dcgan":
        assert "stopped before its 9 rounds were done: this is its last checkpoint." in call("sample", "cut").err
    else:
        assert "the training has not ended, go on with --resume." in call("evaluate", "cut", status=2).sentence
    assert call("train", "--resume", "--out", "cut", "--json").json["rounds"] == 9
    names = ["model.safetensors"] + ["calibration.npy"] * (model == "ganomaly")
    assert all(Path("cut", name).read_bytes() == Path("whole", name).read_bytes() for name in names)
    assert rounds(Path("cut")) == list(range(1, 10))


def test_an_interrupt_before_the_first_round_can_be_resumed(call, monkeypatch):
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    flags = ("train", "dcgan", "digits", *TINY_FLAGS, "--rounds", "2", "--json")
    with monkeypatch.context() as patch:
        patch.setattr("sparring.training.start", stop)
        said = call(*flags, "--out", "cut", status=1)
    assert "go on with 'sparring train --resume --out cut'." in said.sentence
    call("train", "--resume", "--out", "cut", "--json")
    call(*flags, "--out", "whole")
    assert weights(Path("cut")) == weights(Path("whole"))


def test_resuming_what_has_ended_changes_nothing(call):
    call("train", "dcgan", "digits", *TINY_FLAGS, "--rounds", "3", "--out", "run", "--json")
    before = weights(Path("run"))
    call("train", "dcgan", "digits", "--resume", "--out", "run", "--json")
    assert weights(Path("run")) == before
    assert rounds(Path("run")) == [1, 2, 3]


def test_a_training_does_not_go_on_with_other_examples(call, photos):
    call("train", "ganomaly", photos, *TINY_FLAGS, "--rounds", "2", "--out", "run", "--json")
    before, first = Path("run/calibration.npy").read_bytes(), photos / "00.png"
    call("train", "--resume", "--out", "run", "--json")
    first.rename(photos / "zz.png")
    said = call("train", "--resume", "--out", "run", status=2)
    assert "are not those that the run 'run' began with" in said.sentence
    (photos / "zz.png").rename(first)
    shutil.copy(first, photos / "24.png")
    assert "restore them, or train anew" in call("train", "--resume", "--out", "run", status=2).sentence
    assert Path("run/calibration.npy").read_bytes() == before
    job, facts = read_run(Path("run"))
    del facts["examples"]  # as of a run that is older
    write_run(Path("run"), job, facts)
    call("train", "--resume", "--out", "run", "--json")


def test_baselines_are_not_calibrated_on_other_examples(call, photos, labelled, no_report):
    call("train", "ganomaly", photos, *TINY_FLAGS, "--rounds", "2", "--out", "run", "--json")
    flags = ("evaluate", "run", labelled, "--normal", "good")
    call(*flags, "--baselines")
    (photos / "00.png").unlink()
    assert "are not those that the run 'run' began with" in call(*flags, "--baselines", status=2).sentence
    call(*flags)


def killed(folder: Path, arguments: list[str], after: int, random_wait: float) -> None:
    """Start a training, and kill it for good a moment after the journal has so many lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sparring", "train", *arguments, "--json"], stderr=subprocess.DEVNULL
    )
    journal = folder / "journal.jsonl"
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if journal.exists() and journal.read_text().count("\n") >= after:
                break
            time.sleep(0.002)
        time.sleep(random_wait)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (0, -signal.SIGKILL)  # on a busy machine a kill can come too late


def test_kill_9_at_random_moments(tmp_path):
    """Two kills of one training: it ends as the undisturbed one."""
    settings = {"size": 16, "limit": 200}
    whole = train("dcgan", "digits", out=tmp_path / "whole", recipe={**TINY, "rounds": LONG}, **settings)
    cut = tmp_path / "cut"
    flags = ["dcgan", "digits", *TINY_FLAGS, "--limit", "200", "--rounds", str(LONG), "--checkpoint-seconds", "0"]
    chance = random.Random()
    killed(cut, [*flags, "--out", str(cut)], 1, chance.uniform(0, 0.3))
    done = len(rounds_whole(cut))
    killed(cut, ["--resume", "--out", str(cut)], done + 1, chance.uniform(0, 0.1))
    train(out=cut, resume=True)
    assert weights(cut) == weights(whole.folder)
    assert rounds(cut) == list(range(1, LONG + 1))


def rounds_whole(folder: Path) -> list[str]:
    """Lines of a journal whose last line may be cut short."""
    return [line for line in (folder / "journal.jsonl").read_text().splitlines() if line.endswith("}")]


@pytest.mark.skipif(len(cores()) < 2, reason="there is one core only")
def test_two_processes_end_alike_and_their_failures_are_told(call, monkeypatch, tmp_path):
    flags = ("train", "dcgan", "digits", *TINY_FLAGS, "--rounds", "3", "--devices", "2", "--json")
    for name in ("a", "b"):
        assert call(*flags, "--out", name).json["rounds"] == 3
    assert weights(Path("a")) == weights(Path("b"))
    assert rounds(Path("a")) == [1, 2, 3]
    os.truncate("a/checkpoint", 1000)
    said = call("train", "--resume", "--out", "a", "--json", status=2)
    assert said.sentence.startswith("'a/checkpoint' is damaged or cut short")


def test_settings_of_the_wrong_kind_are_told(tmp_path):
    with pytest.raises(UserError, match="There is no setting 'lmit': did you mean 'limit'"):
        train("gan", "digits", out=tmp_path / "run", lmit=5)
    with pytest.raises(UserError, match="Say which model to train"):
        train()
    assert not (tmp_path / "run").exists()


def test_interrupted_is_a_keyboard_interrupt():
    assert issubclass(Interrupted, KeyboardInterrupt)


@pytest.mark.parametrize(("count", "held"), [(2, 1), (3, 1), (10, 5), (40, 20), (60, 20), (100, 20), (1000, 200)])
def test_a_fifth_is_held_out_or_twenty_or_half(count, held):
    fit, aside = hold_out(open_source(np.arange(3 * count).reshape(count, 3)), seed=0)
    assert (len(fit), len(aside)) == (count - held, held)
    assert set(fit.names).isdisjoint(aside.names)
    again = hold_out(open_source(np.arange(3 * count).reshape(count, 3)), seed=0)[1]
    assert list(aside.names) == list(again.names)


def test_one_example_is_too_few_to_hold_any_out():
    with pytest.raises(UserError, match="give at least 2, better 100"):
        hold_out(open_source(np.ones((1, 3))), seed=0)


def test_a_look_at_the_data_is_the_same_everywhere():
    assert np.array_equal(some(50, 1), np.arange(50))
    assert np.array_equal(some(20_000, 1), some(20_000, 1))
    assert len(np.unique(some(20_000, 1))) == 10_000
    assert not np.array_equal(some(20_000, 1), some(20_000, 2))
