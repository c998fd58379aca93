"""Conduct in play: what the engine and the user see of a game."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from sparring.engine import Interrupted, checkpoint
from sparring.engine.journal import Journal, Line
from sparring.engine.ranks import part
from sparring.models import Entry
from sparring.protocol import (
    Game,
    Generates,
    Scores,
    Spec,
)  # fmt: skip
from sparring.testing.faces import FACES, seeded
from sparring.testing.rig import LEARNING, ROUNDS, Case, Make, bright, cases, hold, low_rank, noise, same, sign

PATIENCE = 500  # rounds, of all phases together, in which a tiny task is learnt; classes take twice as many


def resumes_exactly(entry: Entry) -> None:
    """A training that is stopped after any round and resumed equals one that never stopped, to the last bit."""
    for case in cases(entry):
        with tempfile.TemporaryDirectory() as folder:
            total = ROUNDS * len(case.build().phases())
            whole = play(case, Path(folder) / "whole")
            for stop in range(1, total):
                play(case, Path(folder) / "parts", until=stop)
                before = play(case, Path(folder) / "ahead", until=stop + 1)
                after = play(case, Path(folder) / "parts", resume=True, until=stop + 1)
                hold(
                    same(before, after),
                    f"{case.name}, resumed after round {stop} of {total}, plays another round {stop + 1}",
                )
            hold(same(play(case, Path(folder) / "parts", resume=True), whole), f"{case.name}, resumed, ends elsewhere")


def play(case: Case, path: Path, until: int | None = None, resume: bool = False) -> dict[str, Any]:
    """Play to the end, or stop after round `until`; return the checkpoint, as read by weights_only=True."""

    def stop(line: Line) -> None:
        engine.stop = line["round"] == until

    # Whatever is not in the checkpoint differs: a resumed game starts from other weights.
    engine = case.engine(seed=int(resume), journal=Journal(watchers=(stop,)), path=path)
    if resume:
        engine.resume()
    with suppress(Interrupted):
        engine.play()
    return checkpoint.load(path)


def processes_agree(entry: Entry) -> None:
    """Two processes that see different data end with the same weights and buffers, to the last bit."""
    agree([next(cases(entry, ema=0.9))])


def agree(several: Sequence[Case]) -> None:
    """Train each of these cases with two processes, in one launch."""
    with tempfile.TemporaryDirectory() as folder:
        fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
        fabric.launch(partial(_one_of_two, several=several, folder=folder))
        first, second = (torch.load(Path(folder) / f"{rank}", weights_only=True) for rank in range(2))
    for case, one, other in zip(several, first, second, strict=True):
        apart = [key for key in one if not same(one[key], other[key])]
        hold(not apart, f"Two processes of {case.name} end with different {', '.join(apart)}")


def _one_of_two(fabric: Fabric, several: Sequence[Case], folder: str) -> None:
    torch.set_num_threads(1)
    ends = []
    for case in several:
        engine = case.engine(fabric=fabric)
        engine.play()
        ends.append({**engine.game.state_dict(), **{f"average of {k}": v for k, v in engine.average.shadow.items()}})
    torch.save(ends, Path(folder) / f"{fabric.global_rank}")
    part(fabric)


def runs_in_bf16(entry: Entry) -> None:
    """Rounds in bfloat16 run, and their terms and weights are finite."""
    for case in cases(entry):
        engine = case.engine(fabric=Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
        engine.play()
        finite = all(bool(torch.isfinite(value).all()) for value in engine.game.state_dict().values())
        hold(finite, f"{case.name} has weights that are not finite after {ROUNDS} rounds in bfloat16")
        terms = [value for line in engine.journal.lines for key, value in line.items() if "/" in key]
        hold(terms and all(map(math.isfinite, terms)), f"{case.name} has terms that are not finite in bfloat16")


def averages_follow(entry: Entry) -> None:
    """With ema > 0 the networks named in `averages` are averaged: apart from the live ones, and after them."""
    if not entry.game.averages:
        return
    for case in cases(entry, ema=0.9):
        engine = case.engine()
        engine.play()
        live = {key: value.detach().clone() for key, value in engine.average.live.items()}
        _, apart = _distances(engine.average.shadow, live)
        hold(live and apart > 0, f"The averaged networks of {case.name} are the live ones")
        for _ in range(300):
            engine.average.follow(10**6)
        size, left = _distances(engine.average.shadow, live)
        hold(left <= 1e-5 * size, f"The averaged networks of {case.name} do not follow the live ones")


def _distances(shadow: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> tuple[float, float]:
    size = max(float(tensor.float().abs().max()) for tensor in live.values())
    return size, max(float((shadow[key] - live[key]).float().abs().max()) for key in live)


def learns_to_generate(entry: Entry) -> None:
    """A generator that sees nothing but bright images comes to make brighter ones, and dark ones of a dark class."""
    if entry.game.blind_to_means:
        return
    for case in cases(entry, LEARNING, once=True):
        if not isinstance(case.build(), Generates):
            continue

        def gap(game: Any) -> float:
            if not game.conditional:
                return abs(float(seeded(0, game.generate, 64).mean()) - 0.5)
            label = torch.arange(64) % 2
            y = seeded(0, partial(game.generate, label=label), 64).flatten(1).mean(1)
            return abs(float((y * sign(label)).mean()) - 0.5)

        start, end = _until(case, bright, gap, lambda gap, start: gap < start / 2)
        hold(
            end < start / 2,
            f"{case.name} sees 0.5 everywhere and makes means that are {end:.2f} off, {start:.2f} at first",
        )


def learns_to_score(entry: Entry) -> None:
    """A detector that sees examples of three numbers tells them from noise: AUROC above 0.9."""
    if not hasattr(entry.game, "score") or entry.game.scores_late:
        return
    for case in cases(entry, LEARNING, once=True):

        def auroc(game: Game, spec: Spec = case.spec) -> float:
            assert isinstance(game, Scores)
            normal, strange = (
                game.score(make(spec, 64, torch.Generator().manual_seed(7))) for make in (low_rank, noise)
            )
            return float((strange[:, None] > normal).float().mean())

        _, end = _until(case, low_rank, auroc, lambda auroc, start: auroc > 0.9)
        hold(end > 0.9, f"{case.name} tells noise from what it has learnt with an AUROC of {end:.2f} only")


def learns_to_undo(entry: Entry) -> None:
    """A game that translates comes to undo, by its default recipe: what is lost on the way and back is halved."""
    if not hasattr(entry.game, "translate"):
        return
    case = next(cases(entry, LEARNING))

    def lost(game: Any) -> float:
        x = low_rank(case.spec, 64, torch.Generator().manual_seed(7))
        return float((game.translate(game.translate(x, "b"), "a") - x).square().mean())

    start, end = _until(case, low_rank, lost, lambda lost, start: lost < start / 2)
    hold(end < start / 2, f"{case.name} loses {end:.3f} on the way to B and back, {start:.3f} at first")


def _until(case: Case, make: Make, measure: Callable[[Game], float], enough: Callable) -> tuple[float, float]:
    """Train until it is enough, at two looks in a row; return the measure before and at the end."""
    found: list[float] = []

    def look(game: Game, phase: str, done: int) -> Mapping[str, float]:
        found.append(measure(game))
        engine.stop = all(enough(value, start) for value in found[-2:]) and len(found) > 1
        return {}

    engine = case.engine(make=make, judge=look, look_every=10)
    rounds = (2 * PATIENCE if case.spec.classes else PATIENCE) // len(engine.phases)
    # It is stopped where it is good, not taken back to where it was best.
    engine.phases = [replace(phase, rounds=rounds, keep=None) for phase in engine.phases]
    with torch.no_grad():
        start = measure(engine.game.eval())
    with suppress(Interrupted):
        engine.play()
    return start, found[-1]


CONDUCT: tuple[Callable[[Entry], None], ...] = (
    resumes_exactly, processes_agree, *FACES, runs_in_bf16, averages_follow, learns_to_generate, learns_to_score,
    learns_to_undo,
)  # fmt: skip
