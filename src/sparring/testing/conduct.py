"""Conduct in play: what the engine and the user see of a game."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from sparring.engine import Interrupted, checkpoint
from sparring.engine.journal import Journal, Line
from sparring.engine.ranks import part
from sparring.export import has_onnx, session, to_onnx
from sparring.models import Entry
from sparring.protocol import Game, Generates, HasLatent, Maps, Reconstructs, Scores, Spec
from sparring.sampling import Recalls
from sparring.testing.rig import LEARNING, ROUNDS, Case, Make, bright, cases, hold, low_rank, noise, same, sign

TOLERANCE = 1e-5  # relative to the largest score
PATIENCE = 500  # rounds in which a tiny task is learnt; classes take twice as many


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


def generates_examples(entry: Entry) -> None:
    """What is generated has the shape of the data and their range, and depends on the seed alone."""
    for case in cases(entry):
        game = case.trained()
        if not isinstance(game, Generates):
            return
        y, again, other = (_seeded(seed, game.generate, 5) for seed in (0, 0, 1))
        _well_formed(f"{case.name}.generate(5)", y, (5, *case.spec.shape))
        if case.spec.is_image:
            hold(y.abs().max() <= 1, f"{case.name} generates images outside [-1, 1]")
        hold(torch.equal(y, again), f"{case.name} generates something else for the same seed")
        hold(not torch.equal(y, other), f"{case.name} generates the same for every seed")
        hold(len(game.generate(1)) == 1, f"{case.name}.generate(1) is not one example")


def generates_by_class(entry: Entry) -> None:
    """A conditional game makes of each latent vector what its label says; without labels it draws classes."""
    for case in cases(entry):
        game: Any = case.trained()
        if not game.conditional:
            continue
        hold(isinstance(game, HasLatent), f"{case.name} makes examples by class but draws no latent vectors")
        label = torch.arange(6) % len(case.spec.classes)
        z = _seeded(0, game.latent, 6)
        y = _asked(game, z, label)
        _well_formed(f"{case.name}.generate(6, z, label)", y, (6, *case.spec.shape))
        hold(torch.equal(y, _asked(game, z, label)), f"{case.name} makes something else of the same z and label")
        changed = (y != _asked(game, z, label.roll(1))).flatten(1).any(1)
        hold(changed.all(), f"{case.name} makes the same of one z under two labels")
        alone = torch.cat([_asked(game, z[k : k + 1], label[k : k + 1]) for k in range(6)])
        limit = TOLERANCE * float(y.abs().max())
        hold((alone - y).abs().max() <= limit, f"{case.name} makes something else of the same z and label alone")
        drawn = _asked(game, z[:1].expand(64, *z.shape[1:]), None)
        hold(len(drawn.flatten(1).unique(dim=0)) > 1, f"{case.name}, not told a class, always makes the same one")


def generates_by_caption(entry: Entry) -> None:
    """A captioned game makes of each latent vector what its caption says; without captions it recalls some."""
    for case in cases(entry):
        if "caption" not in entry.game.needed(case.recipe):
            continue
        game: Any = case.trained()
        hold(isinstance(game, HasLatent), f"{case.name} makes examples of captions but draws no latent vectors")
        hold(isinstance(game, Recalls), f"{case.name} makes examples of captions but recalls none")
        z, caption = _seeded(0, game.latent, 6), torch.arange(6.0)[:, None].expand(6, case.spec.caption) - 2
        y = game.generate(6, z, caption=caption)
        _well_formed(f"{case.name}.generate(6, z, caption)", y, (6, *case.spec.shape))
        changed = (y != game.generate(6, z, caption=caption.roll(1, 0))).flatten(1).any(1)
        hold(changed.all(), f"{case.name} makes the same of one z under two captions")
        alone = torch.cat([game.generate(1, z[k : k + 1], caption=caption[k : k + 1]) for k in range(6)])
        limit = TOLERANCE * float(y.abs().max())
        hold((alone - y).abs().max() <= limit, f"{case.name} makes something else of the same z and caption alone")
        hold(game.recall(5).shape == (5, case.spec.caption), f"{case.name}.recall(5) is not 5 captions")


def _asked(game: Any, z: Tensor, label: Tensor | None) -> Tensor:
    return _seeded(0, partial(game.generate, z=z, label=label), len(z))


def scores_each_alone(entry: Entry) -> None:
    """A score is one number of one example: the same alone, in any batch and in any order."""
    for case in cases(entry):
        game = case.trained()
        if not isinstance(game, Scores):
            return
        x = _mixed(case.spec)
        score = game.score(x)
        _well_formed(f"{case.name}.score(x)", score, (len(x),))
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        limit = TOLERANCE * float(score.abs().max())
        for what, other in {
            "when it is asked again": game.score(x),
            "alone": torch.cat([game.score(one) for one in x.split(1)]),
            "in batches of 3": torch.cat([game.score(few) for few in x.split(3)]),
            "in another order": game.score(x[order])[order.argsort()],
        }.items():
            hold((score - other).abs().max() <= limit, f"{case.name} scores the same example differently {what}")


def maps_and_reconstructs(entry: Entry) -> None:
    """A map has a number for each pixel, and a reconstruction the shape of its original."""
    for case in cases(entry):
        game, x = case.trained(), _mixed(case.spec)
        if isinstance(game, Maps) and case.spec.is_image:
            _well_formed(f"{case.name}.anomaly_map(x)", game.anomaly_map(x), (len(x), *case.spec.shape[1:]))
        if isinstance(game, Reconstructs):
            _well_formed(f"{case.name}.reconstruct(x)", game.reconstruct(x), tuple(x.shape))


def exports_its_scores(entry: Entry) -> None:
    """The exported scorer gives the scores of the original, for any batch (where the onnx extra is installed)."""
    if not has_onnx() or not hasattr(entry.game, "score"):
        return
    for case in islice(cases(entry), 2):  # images and features, where it takes both; an export takes seconds
        game, x = case.trained(), _mixed(case.spec)
        assert isinstance(game, Scores)
        run = session(to_onnx(game), threads=1)
        found = torch.from_numpy(np.concatenate([run(few) for few in x.split([1, len(x) - 1])]))
        expected = game.score(x)
        hold(
            (found - expected).abs().max() <= TOLERANCE * expected.abs().max(),
            f"The exported {case.name} scores differently",
        )


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
    if not hasattr(entry.game, "generate") or entry.game.blind_to_means:
        return
    for case in cases(entry, LEARNING, once=True):

        def gap(game: Any) -> float:
            if not game.conditional:
                return abs(float(_seeded(0, game.generate, 64).mean()) - 0.5)
            label = torch.arange(64) % 2
            y = _seeded(0, partial(game.generate, label=label), 64).flatten(1).mean(1)
            return abs(float((y * sign(label)).mean()) - 0.5)

        start, end = _until(case, bright, gap, lambda gap, start: gap < start / 2)
        hold(
            end < start / 2,
            f"{case.name} sees 0.5 everywhere and makes means that are {end:.2f} off, {start:.2f} at first",
        )


def learns_to_score(entry: Entry) -> None:
    """A detector that sees examples of three numbers tells them from noise: AUROC above 0.9."""
    if not hasattr(entry.game, "score"):
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


def _until(case: Case, make: Make, measure: Callable[[Game], float], enough: Callable) -> tuple[float, float]:
    """Train until it is enough, at two looks in a row; return the measure before and at the end."""
    found: list[float] = []

    def look(game: Game, phase: str, done: int) -> Mapping[str, float]:
        found.append(measure(game))
        engine.stop = all(enough(value, start) for value in found[-2:]) and len(found) > 1
        return {}

    engine = case.engine(rounds=2 * PATIENCE if case.spec.classes else PATIENCE, make=make, judge=look, look_every=10)
    with torch.no_grad():
        start = measure(engine.game.eval())
    with suppress(Interrupted):
        engine.play()
    return start, found[-1]


def _mixed(spec: Spec) -> Tensor:
    parts = [make(spec, 5, torch.Generator().manual_seed(9)) for make in (low_rank, noise)]
    return torch.cat(parts)


def _seeded(seed: int, make: Callable[[int], Tensor], n: int) -> Tensor:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return make(n)


def _well_formed(what: str, found: Tensor, shape: tuple[int, ...]) -> None:
    hold(tuple(found.shape) == shape, f"{what} is of shape {tuple(found.shape)}, not {shape}")
    hold(found.dtype == torch.float32, f"{what} is of {found.dtype}, not torch.float32")
    hold(torch.isfinite(found).all(), f"{what} is not finite")


CONDUCT: tuple[Callable[[Entry], None], ...] = (
    resumes_exactly, processes_agree, generates_examples, generates_by_class, scores_each_alone, maps_and_reconstructs,
    generates_by_caption, exports_its_scores, runs_in_bf16, averages_follow, learns_to_generate, learns_to_score,
)  # fmt: skip
