"""Conduct by face: what a game makes, scores, names, maps and translates, each example on its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparring.export import has_onnx, session, to_onnx
from sparring.models import Entry
from sparring.protocol import (
    Classifies,
    Discriminates,
    Generates,
    HasLatent,
    Maps,
    Reconstructs,
    Scores,
    Spec,
    Translates,
)
from sparring.sampling import Recalls
from sparring.testing.rig import cases, hold, low_rank, noise

TOLERANCE = 1e-5  # relative to the largest score
ALONE = 1e-6  # of one score in batches of other sizes; of the largest, where that is above 1: eight steps of float32


def generates_examples(entry: Entry) -> None:
    """What is generated has the shape of the data and their range, and depends on the seed alone."""
    for case in cases(entry):
        game = case.trained()
        if not isinstance(game, Generates):
            continue
        y, again, other = (seeded(seed, game.generate, 5) for seed in (0, 0, 1))
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
        z = seeded(0, game.latent, 6)
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
        z, caption = seeded(0, game.latent, 6), torch.arange(6.0)[:, None].expand(6, case.spec.caption) - 2
        y = game.generate(6, z, caption=caption)
        _well_formed(f"{case.name}.generate(6, z, caption)", y, (6, *case.spec.shape))
        changed = (y != game.generate(6, z, caption=caption.roll(1, 0))).flatten(1).any(1)
        hold(changed.all(), f"{case.name} makes the same of one z under two captions")
        alone = torch.cat([game.generate(1, z[k : k + 1], caption=caption[k : k + 1]) for k in range(6)])
        limit = TOLERANCE * float(y.abs().max())
        hold((alone - y).abs().max() <= limit, f"{case.name} makes something else of the same z and caption alone")
        hold(game.recall(5).shape == (5, case.spec.caption), f"{case.name}.recall(5) is not 5 captions")


def _asked(game: Any, z: Tensor, label: Tensor | None) -> Tensor:
    return seeded(0, partial(game.generate, z=z, label=label), len(z))


def discriminates_pairs(entry: Entry) -> None:
    """A discriminator or critic says one number of each real example and of each of as many made ones."""
    for case in cases(entry):
        game = case.trained()
        if not isinstance(game, Discriminates):
            return
        x, classes = mixed(case.spec), len(case.spec.classes)
        label = torch.arange(len(x)) % classes if game.conditional else None
        for kind, values in zip(("real", "made"), game.discriminate(x, label), strict=True):
            _well_formed(f"{case.name}.discriminate(x) of {kind} examples", values, (len(x),))


def scores_each_alone(entry: Entry) -> None:
    """A score is one number of one example: the same to 1e-6, alone, in any batch and in any order."""
    for case in cases(entry):
        game = case.trained()
        if not isinstance(game, Scores):
            return
        x = mixed(case.spec, 32)
        score = game.score(x)
        _well_formed(f"{case.name}.score(x)", score, (len(x),))
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        limit = ALONE * max(1.0, float(score.abs().max()))
        for what, other in {
            "when it is asked again": game.score(x),
            "alone": torch.cat([game.score(one) for one in x.split(1)]),
            "in batches of 7": torch.cat([game.score(few) for few in x.split(7)]),
            "in another order": game.score(x[order])[order.argsort()],
        }.items():
            hold((score - other).abs().max() <= limit, f"{case.name} scores the same example differently {what}")


def classifies_each_alone(entry: Entry) -> None:
    """Logits and features belong to one example each: the same alone as in a batch."""
    for case in cases(entry):
        game = case.trained()
        if not isinstance(game, Classifies):
            continue
        x = mixed(case.spec)
        for name, ask in (("classify", game.classify), ("features", game.features)):
            found, alone = ask(x), torch.cat([ask(one[None]) for one in x])
            wide = len(case.spec.classes) if name == "classify" else found.shape[-1]
            _well_formed(f"{case.name}.{name}(x)", found, (len(x), wide))
            limit = TOLERANCE * max(1.0, float(found.abs().max()))
            hold((found - alone).abs().max() <= limit, f"{case.name}.{name}(x) depends on the batch that x stands in")


def maps_and_reconstructs(entry: Entry) -> None:
    """A map has a number for each pixel, and a reconstruction the shape of its original."""
    for case in cases(entry):
        game, x = case.trained(), mixed(case.spec)
        if isinstance(game, Maps) and case.spec.is_image:
            _well_formed(f"{case.name}.anomaly_map(x)", game.anomaly_map(x), (len(x), *case.spec.shape[1:]))
        if isinstance(game, Reconstructs):
            _well_formed(f"{case.name}.reconstruct(x)", game.reconstruct(x), tuple(x.shape))


def translates_each_alone(entry: Entry) -> None:
    """A translation has the shape of its original and depends on nothing else, to either domain."""
    for case in cases(entry):
        game = case.trained()
        if not isinstance(game, Translates):
            return
        x = mixed(case.spec)
        for to in ("a", "b"):
            y = game.translate(x, to)
            _well_formed(f"{case.name}.translate(x, {to!r})", y, tuple(x.shape))
            if case.spec.is_image:
                hold(y.abs().max() <= 1, f"{case.name} translates to images outside [-1, 1]")
            alone = torch.cat([game.translate(one, to) for one in x.split(1)])
            limit = TOLERANCE * float(y.abs().max())
            hold((alone - y).abs().max() <= limit, f"{case.name} translates the same example differently alone")


def exports_its_scores(entry: Entry) -> None:
    """The exported scorer gives the scores of the original, for any batch (where the onnx extra is installed)."""
    if not has_onnx() or not hasattr(entry.game, "score") or not entry.game.exportable:
        return
    for case in islice(cases(entry), 2):  # images and features, where it takes both; an export takes seconds
        game, x = case.trained(), mixed(case.spec)
        assert isinstance(game, Scores)
        run = session(to_onnx(game), threads=1)
        found = torch.from_numpy(np.concatenate([run(few) for few in x.split([1, len(x) - 1])]))
        expected = game.score(x)
        hold(
            (found - expected).abs().max() <= TOLERANCE * expected.abs().max(),
            f"The exported {case.name} scores differently",
        )


def mixed(spec: Spec, n: int = 5) -> Tensor:
    """Examples of a kind that three numbers describe, and as many of noise: (2 n, *spec.shape)."""
    parts = [make(spec, n, torch.Generator().manual_seed(9)) for make in (low_rank, noise)]
    return torch.cat(parts)


def seeded(seed: int, make: Callable[[int], Tensor], n: int) -> Tensor:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return make(n)


def _well_formed(what: str, found: Tensor, shape: tuple[int, ...]) -> None:
    hold(tuple(found.shape) == shape, f"{what} is of shape {tuple(found.shape)}, not {shape}")
    hold(found.dtype == torch.float32, f"{what} is of {found.dtype}, not torch.float32")
    hold(torch.isfinite(found).all(), f"{what} is not finite")


FACES: tuple[Callable[[Entry], None], ...] = (
    generates_examples, generates_by_class, generates_by_caption, discriminates_pairs, scores_each_alone,
    classifies_each_alone, maps_and_reconstructs, translates_each_alone, exports_its_scores,
)  # fmt: skip
