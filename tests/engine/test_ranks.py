"""Two processes that train one game."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from toy import SPEC, Poisoned, Regression, make

from sparring.engine import Interrupted
from sparring.engine.ranks import anywhere, part
from sparring.errors import NonFinite
from sparring.protocol import Batch
from sparring.testing import TinyDraw
from sparring.testing.rig import same


class Halves(TinyDraw):
    """The same minibatches, whole for one process and shared out between two."""

    def __init__(self, rank: int, world: int) -> None:
        super().__init__(SPEC, 8)
        self.half, self.world = rank, world

    def __call__(self) -> Batch:
        x = super().__call__().x
        return Batch(x.chunk(self.world)[self.half])


def left(engine):
    return {"game": engine.game.state_dict(), "average": engine.average.shadow}


def together(fabric: Fabric, folder: str) -> None:
    """Everything that two processes are tried on, in one launch."""
    torch.set_num_threads(1)
    rank, home = fabric.global_rank, Path(folder)
    found = {"anywhere": [anywhere(flag, fabric) for flag in (False, rank == 0, rank == 1)]}

    engine = make(Regression, fabric=fabric, draw=Halves(rank, 2))
    engine.play()
    norms = [line["gradient_norm"]["net"] for line in engine.journal.lines]
    found |= {"regression": left(engine), "answers": engine.game.answers, "norms": norms}

    engine = make(fabric=fabric, path=home / "whole")
    engine.play()
    found["toy"] = left(engine)

    engine = make(fabric=fabric, path=home / "parts")
    engine.journal.watchers = (lambda line: setattr(engine, "stop", rank == 1 and line["round"] == 7),)
    try:
        engine.play()
    except Interrupted:
        found["stopped"] = engine.done
    fabric.barrier()
    engine = make(fabric=fabric, path=home / "parts")
    engine.resume()
    engine.play()
    found["resumed"] = left(engine)

    engine = make(type("Poisoned", (Poisoned,), {"rank": 1}), fabric=fabric)
    try:
        engine.play()
    except NonFinite as error:
        found["refused"] = str(error)
    found["sound"] = all(bool(torch.isfinite(p).all()) for p in engine.game.parameters())
    torch.save(found, home / f"found{rank}")
    part(fabric)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    fabric.launch(partial(together, folder=str(folder)))
    return [torch.load(folder / f"found{rank}", weights_only=True) for rank in range(2)]


def test_averaged_gradients_are_those_of_the_whole_batch(found):
    alone = make(Regression, draw=Halves(0, 1))
    alone.play()
    for key, expected in alone.game.state_dict().items():
        torch.testing.assert_close(found[0]["regression"]["game"][key], expected, atol=1e-6, rtol=1e-6)
    assert found[0]["answers"] == found[1]["answers"], "what a yield returns is the mean over processes"
    assert found[0]["answers"] == pytest.approx(alone.game.answers, abs=1e-6)
    assert found[0]["norms"] == found[1]["norms"], "of the gradient that both processes step down"
    expected = [line["gradient_norm"]["net"] for line in alone.journal.lines]
    assert found[0]["norms"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("what", ["regression", "toy", "resumed"])
def test_processes_agree_to_the_last_bit(found, what):
    assert same(found[0][what], found[1][what])


def test_processes_resume_bit_exactly(found):
    assert found[0]["stopped"] == found[1]["stopped"] == 7, "one is asked to stop, both do"
    assert same(found[0]["resumed"], found[0]["toy"])


def test_two_processes_are_not_one(found):
    alone = make()
    alone.play()
    assert not same(found[0]["toy"], left(alone))


def test_a_loss_that_is_not_finite_stops_both(found):
    assert "'maker/fooled' became nan in round 4" in found[1]["refused"]
    assert "loss of 'maker' on another process became nan in round 4" in found[0]["refused"]
    assert found[0]["sound"]
    assert found[1]["sound"]


def test_anywhere(found):
    assert found[0]["anywhere"] == found[1]["anywhere"] == [False, True, True]
