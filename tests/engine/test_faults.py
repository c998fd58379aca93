"""What goes wrong stops the training with one sentence, and harms nothing that was good."""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path

import pytest
import torch
from toy import Poisoned, Regression, Steep, Toy, make

from sparring.engine import checkpoint
from sparring.errors import NonFinite, UserError
from sparring.files import write_bytes
from sparring.testing.rig import same


def sound(tensors):
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def test_a_loss_that_is_not_finite_is_named(tmp_path):
    engine = make(Poisoned, path=tmp_path / "run", seconds=0.0)
    with pytest.raises(NonFinite) as caught:
        engine.play()
    message = str(caught.value)
    assert "'maker/fooled' became nan in round 4 of 10" in message
    assert "the last good checkpoint stays" in message
    assert "--set rate" in message
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.name, Path(last.filename).name, last.line) == ("round", "toy.py", "yield move")


def test_a_loss_that_is_not_finite_harms_nothing(tmp_path, monkeypatch):
    engine = make(Poisoned, path=tmp_path / "run", seconds=0.0)
    with pytest.raises(NonFinite):
        engine.play()
    assert sound(engine.game.state_dict())
    kept = checkpoint.load(tmp_path / "run")
    assert (kept["phase"], kept["step"]) == (0, 3)
    assert sound(kept["game"])
    monkeypatch.setattr(Poisoned, "at", -1)
    again, whole = make(Poisoned, path=tmp_path / "run"), make(Poisoned)
    again.resume()
    again.play()
    whole.play()
    assert same(again.game.state_dict(), whole.game.state_dict())


def test_without_a_checkpoint_it_says_so(tmp_path):
    with pytest.raises(NonFinite, match="nothing was saved"):
        make(Poisoned, path=tmp_path / "run").play()
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_finite_never_replace_a_checkpoint(tmp_path):
    engine = make(Steep, path=tmp_path / "run", seconds=0.0)
    with pytest.raises(NonFinite, match=r"weight 'maker\.0\.weight' became nan in round 4 of 10: the last good"):
        engine.play()
    assert checkpoint.load(tmp_path / "run")["step"] == 3
    assert sound(checkpoint.load(tmp_path / "run")["game"])


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(errno.ENOSPC, "the disk is full, free some space"), (errno.EROFS, "the folder is read-only, choose another")],
)
@pytest.mark.parametrize("where", ["fsync", "replace", "open"])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, number, sentence, where):
    path = tmp_path / "run"
    engine = make(path=path)
    engine.save()
    before = path.read_bytes()

    def fail(*_args, **_more):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        target = {"fsync": "os.fsync", "replace": "pathlib.Path.replace", "open": "tempfile.mkstemp"}[where]
        patch.setattr(target, fail)
        with pytest.raises(UserError, match=f"could not be written: {sentence}; what was there is intact"):
            engine.play()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_a_program_error_while_writing_is_not_the_users(tmp_path, monkeypatch):
    def fail(*_args):
        raise OSError(errno.EBADF, "bad file descriptor")

    write_bytes(tmp_path / "file", b"old")
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="bad file descriptor"):
        write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_file_in_the_way_of_a_folder(tmp_path):
    write_bytes(tmp_path / "file", b"")
    with pytest.raises(UserError, match="could not be written"):
        make(path=tmp_path / "file" / "run").save()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 0.999])
def test_a_checkpoint_cut_short(tmp_path, share):
    path = tmp_path / "run"
    make(path=path).save()
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"is damaged or cut short .*: restore it, or train again"):
        make(path=path).resume()


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        make(path=tmp_path / "run").resume()


def test_a_checkpoint_of_another_model(tmp_path):
    make(path=tmp_path / "run").save()
    with pytest.raises(UserError, match="is a checkpoint of Toy, not of Regression"):
        make(Regression, path=tmp_path / "run").resume()


class Wide(Toy):
    def __init__(self, spec, recipe):
        super().__init__(spec, recipe)
        self.judge = torch.nn.Linear(spec.size, 2)


Wide.__name__ = "Toy"  # as if the same model had another recipe


def test_a_checkpoint_of_another_recipe(tmp_path):
    make(path=tmp_path / "run").save()
    with pytest.raises(UserError, match="of Toy with another recipe or other data"):
        make(Wide, path=tmp_path / "run").resume()


@pytest.mark.parametrize("content", [[1, 2], {"format": 99}, {}])
def test_a_file_that_is_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "run")
    with pytest.raises(UserError, match="is not a checkpoint that this version reads"):
        make(path=tmp_path / "run").resume()


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("trapped",))


def test_a_checkpoint_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "model": Trap()}, tmp_path / "run")
    with pytest.raises(UserError, match="is damaged"):
        make(path=tmp_path / "run").resume()
    assert not (tmp_path / "trapped").exists()


def test_a_checkpoint_holds_plain_values_only(tmp_path):
    make(path=tmp_path / "run").play()
    content = torch.load(tmp_path / "run", weights_only=True)
    assert {"model", "phase", "step", "position", "game", "players", "average", "best"} <= content.keys()
