"""A training that was stopped, killed or interrupted ends like one that never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy import CtrlC, Toy, ToyRecipe, end, make

import sparring
from sparring.engine import Interrupted, checkpoint
from sparring.engine.journal import Journal, read_journal
from sparring.testing.rig import same

TOTAL = 10


def stopped(path, at, **more):
    """Play until round `at` and stop there."""

    def stop(line):
        engine.stop = line["round"] == at

    engine = make(path=path, journal=Journal(watchers=(stop,)), **more)
    if path.exists():
        engine.resume()
    with pytest.raises(Interrupted, match=f"stopped at round {at} of {TOTAL}"):
        engine.play()
    return engine


@pytest.mark.parametrize("at", range(1, TOTAL + 1))
def test_resume_is_bit_exact_after_any_round(tmp_path, at):
    whole = make(path=tmp_path / "whole")
    expected = end(whole)
    stopped(tmp_path / "parts", at)
    other = make(path=tmp_path / "parts", seed=0)
    with torch.no_grad():
        for tensor in other.game.state_dict().values():
            tensor.zero_()  # nothing but the checkpoint may count
    other.resume()
    assert same(end(other), expected)
    assert same(checkpoint.load(tmp_path / "parts"), checkpoint.load(tmp_path / "whole"))


def test_resume_many_times(tmp_path):
    expected = end(make())
    for at in (1, 2, 5, 6, 7, 9):
        stopped(tmp_path / "parts", at)
    last = make(path=tmp_path / "parts")
    last.resume()
    assert same(end(last), expected)


def test_optimizers_resume_bit_exactly(tmp_path):
    stopped(tmp_path / "whole", 4)
    stopped(tmp_path / "parts", 2)
    stopped(tmp_path / "parts", 4)
    players = checkpoint.load(tmp_path / "whole")["players"]
    assert players["critic"]["state"][0]["momentum_buffer"].abs().sum() > 0
    assert players["maker"]["state"][0]["step"] == 4
    assert same(checkpoint.load(tmp_path / "parts")["players"], players)


def test_a_finished_training_resumes_as_finished(tmp_path):
    expected = end(make(path=tmp_path / "run"))
    again = make(path=tmp_path / "run")
    again.resume()
    assert again.done == again.total == TOTAL
    assert same(end(again), expected)


def test_best_weights_of_a_phase_survive_a_stop(tmp_path):
    def judge(game, phase, done):
        return {"auroc": -abs(done - 8)}

    recipe = ToyRecipe(keep=True, ema=0.9)
    expected = end(make(recipe=recipe, judge=judge))
    stopped(tmp_path / "parts", 9, recipe=recipe, judge=judge)
    other = make(recipe=recipe, judge=judge, path=tmp_path / "parts")
    other.resume()
    assert same(end(other), expected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_resumes(tmp_path, monkeypatch, number):
    expected = end(make())
    monkeypatch.setattr(CtrlC, "signal", number)
    handler = signal.getsignal(number)
    engine = make(CtrlC, path=tmp_path / "run")
    with pytest.raises(Interrupted, match="stopped at round 3 of 10"):
        engine.play()
    assert isinstance(Interrupted(), KeyboardInterrupt)
    assert signal.getsignal(number) is handler
    monkeypatch.setattr(CtrlC, "at", -1)
    other = make(CtrlC, path=tmp_path / "run")
    other.resume()
    assert other.done == 3
    assert same(end(other), expected)


def test_a_second_ctrl_c_does_not_wait_for_the_round(tmp_path, monkeypatch):
    monkeypatch.setattr(CtrlC, "presses", 2)
    engine = make(CtrlC, path=tmp_path / "run")
    with pytest.raises(Interrupted, match="stopped within round 3"):
        engine.play()
    assert engine.done == 2


KILLED = """
import os, random, signal, sys, time, warnings
from pathlib import Path
import torch
from toy import Toy, ToyRecipe, make
torch.set_num_threads(1)
path, seed = Path(sys.argv[1]), int(sys.argv[2])
recipe = ToyRecipe(rounds=100, second=30, ema=0.9)
chance = random.Random(seed)
lives = 0
warnings.simplefilter("ignore", DeprecationWarning)  # os.fork
while True:
    child = os.fork()
    if child == 0:
        engine = make(recipe=recipe, path=path, seconds=0.0)
        if path.exists():
            engine.resume()
        engine.play()
        os._exit(0)
    if lives < 3:
        before = path.stat().st_mtime_ns if path.exists() else 0
        while not path.exists() or path.stat().st_mtime_ns == before:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
    lives += 1
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
print(lives)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_at_random_moments(tmp_path):
    home = [str(Path(__file__).parent), str(Path(sparring.__file__).parents[1])]
    command = [sys.executable, "-c", KILLED, str(tmp_path / "run"), "1"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": os.pathsep.join(home)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1, "no life ended early"
    expected = make(recipe=ToyRecipe(rounds=100, second=30, ema=0.9), path=tmp_path / "whole")
    expected.play()
    assert same(checkpoint.load(tmp_path / "run"), checkpoint.load(tmp_path / "whole"))


def test_journal_is_rewound(tmp_path):
    path = tmp_path / "journal.jsonl"
    engine = make(path=tmp_path / "run", journal=Journal(path), seconds=1e9)
    engine.save()  # the checkpoint of round 0: what comes after is lost
    engine.play()
    (tmp_path / "run").unlink()
    path.write_text(path.read_text() + '{"phase": "two", "rou')
    stopped(tmp_path / "run", 4)
    other = make(path=tmp_path / "run", journal=Journal(path))
    other.resume()
    assert [line["round"] for line in read_journal(path)] == [1, 2, 3, 4]
    other.play()
    assert [line["round"] for line in read_journal(path)] == list(range(1, TOTAL + 1))
    assert other.journal.lines == [json.loads(text) for text in path.read_text().splitlines()]


@pytest.mark.parametrize("at", [2, 6, 8])
def test_the_journal_of_a_resumed_training_is_that_of_one_undisturbed(tmp_path, at):
    clock = ("seconds", "images_per_second", "waited")

    def told(lines):
        return [{key: value for key, value in line.items() if key not in clock} for line in lines]

    whole = make()
    whole.play()
    first = stopped(tmp_path / "parts", at)
    last = make(path=tmp_path / "parts")
    last.resume()
    last.play()
    assert told(first.journal.lines + last.journal.lines) == told(whole.journal.lines)
    assert all(line["gradient_norm"] for line in whole.journal.lines)


def test_players_are_called_once_a_phase():
    engine = make()
    engine.play()
    assert isinstance(engine.game, Toy)
    assert engine.game.began == ["one", "two"]
