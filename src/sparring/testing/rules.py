"""Rules on paper: what a game says of itself, and who moves whom."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparring.errors import UserError
from sparring.models import Entry
from sparring.protocol import (
    Batch,
    Classifies,
    Draw,
    Game,
    Generates,
    Maps,
    Phase,
    Reconstructs,
    Round,
    Scores,
    Spec,
    Translates,
    Update,
)  # fmt: skip
from sparring.testing.rig import ROUNDS, Case, cases, classes, hold, small, words

FACES = (Generates, Scores, Maps, Reconstructs, Classifies, Translates)
SHAPES = [(1, 17, 17), (3, 16, 32), (3, 2, 2), (1,), (5,), (1, 16, 16), (3, 32, 32)]


def is_documented(entry: Entry) -> None:
    """The docstrings name the paper's authors, year and arXiv id, and what departs from it."""
    name, text = entry.game.__name__, entry.game.__dict__.get("__doc__") or ""
    hold(entry.module.__doc__, f"The module of {entry.name} has no docstring")
    hold(entry.about, f"The docstring of {name} does not begin with a line on what it does")
    hold("Departures:" in text, f"The docstring of {name} does not say 'Departures:' (from the paper)")
    hold("Reference:" in text, f"The docstring of {name} does not say 'Reference:'")
    reference = " ".join(text.partition("Reference:")[2].split())
    hold(
        re.match(r"[^()]*[A-Z][^()]*\((19|20)\d\d\)", reference),
        f"The Reference of {name} does not begin with authors (year)",
    )
    hold(re.search(r"arXiv:(\d{4}\.\d{4,5}|[a-z-]+/\d{7})", reference), f"The Reference of {name} names no arXiv id")


def recipe_is_plain(entry: Entry) -> None:
    """Every hyper-parameter says where it comes from, and every variant survives JSON."""
    for field in fields(entry.recipe):
        place = field.metadata.get("place")
        hold(
            place,
            f"The '{field.name}' of {entry.recipe.__name__} does not say where it comes from: declare it by hyper()",
        )
    for name, recipe in entry.variants.items():
        text = json.dumps(recipe.as_dict())
        hold(
            entry.recipe.read(json.loads(text)) == recipe,
            f"Variant {name} of {entry.name} does not survive JSON: {text}",
        )


def has_a_face(entry: Entry) -> None:
    """The game can do something, and it needs and averages what exists."""
    for case in cases(entry):
        game = case.build()
        hold(any(isinstance(game, face) for face in FACES), f"{case.name} has none of the faces of sparring.protocol")
        alien = set(game.needed(game.recipe)) - {field.name for field in fields(Batch)}
        hold("x" in game.needs and not alien, f"The needs {game.needs} of {case.name} are not fields of a Batch")
        networks = dict(game.named_children())
        for name in game.averages:
            hold(name in networks, f"{case.name} averages '{name}', which is not one of its networks")


def refuses_politely(entry: Entry) -> None:
    """Data of any shape are either accepted or refused by a UserError."""
    for shape in SHAPES:
        try:
            recipe = small(entry.variants["default"])
            entry.game(Spec(shape, 64, classes(entry, recipe), words(entry, recipe)), recipe)
        except UserError as error:
            hold(str(error).strip(), f"{entry.name} refuses data of shape {shape} without a word")
        except Exception as error:
            raise AssertionError(f"{entry.name} meets data of shape {shape} with {error!r}, no UserError.") from error


def one_player_each(entry: Entry) -> None:
    """Every trainable parameter belongs to a player of some phase, and to one player at a time."""
    for case in cases(entry):
        game = case.build()
        names = {id(p): name for name, p in game.named_parameters() if p.requires_grad}
        owned: set[int] = set()
        for phase in game.phases():
            owner: dict[int, str] = {}
            for player, optimizer in phase.players().items():
                for key in map(id, moved_by(optimizer)):
                    hold(key in names, f"'{player}' of {case.name} moves a parameter that the game does not hold")
                    hold(
                        key not in owner, f"'{player}' and '{owner.get(key)}' of {case.name} both move {names.get(key)}"
                    )
                    owner[key] = player
            owned |= owner.keys()
        idle = [name for key, name in names.items() if key not in owned]
        hold(not idle, f"No player of {case.name} moves {', '.join(idle)}")


def moves_its_own(entry: Entry) -> None:
    """Every player moves all of its parameters, in its own updates only, down finite named scalars."""
    for case in cases(entry):
        game, draw = case.build().train(), case.draw()
        for phase in game.phases():
            players, before = phase.players(), values(game)
            reached: set[int] = set()  # also those whose gradient cancels, such as the last bias of a critic
            with torch.random.fork_rng([]):
                torch.manual_seed(0)
                for step in range(ROUNDS):
                    reached |= play_by_hand(case, game, phase, players, draw, step)
            still = set(values(game)) - changed(game, before)
            mine = {id(p) for optimizer in players.values() for p in moved_by(optimizer)}
            idle = [name for name, p in game.named_parameters() if name in still and id(p) in mine - reached]
            hold(not idle, f"Phase '{phase.name}' of {case.name} never moves {', '.join(idle)}")


def play_by_hand(
    case: Case, game: Game, phase: Phase, players: dict[str, Optimizer], draw: Draw, step: int
) -> set[int]:
    """Play a round by the plainest means; from one yield to the next only those who move may change.

    Return the ids of the parameters that a gradient reached.
    """
    reached: set[int] = set()
    waiting: dict[int, Tensor] = {}  # gradients of updates that are held
    play = phase.play(draw, step)
    move: Update | tuple[Update, ...] | None = next(play)
    while move is not None:
        before = values(game)
        updates = move if isinstance(move, tuple) else (move,)
        for update in updates:
            hold(update.player in players, f"{case.name} updates '{update.player}', which is not among {list(players)}")
            check_terms(case.name, update)
        losses = carry_out(case.name, game, players, updates, reached, waiting)
        allowed = {id(p) for update in updates for p in moved_by(players[update.player])}
        move = next_move(play, losses if isinstance(move, tuple) else losses[0])
        strays = [name for name, p in game.named_parameters() if name in changed(game, before) and id(p) not in allowed]
        hold(
            not strays,
            f"An update of '{updates[0].player}' in {case.name} was followed by a change of {', '.join(strays)}",
        )
    return reached


def next_move(play: Round, answer: Tensor) -> Update | tuple[Update, ...] | None:
    try:
        return play.send(answer)
    except StopIteration:
        return None


def check_terms(who: str, update: Update) -> None:
    hold(update.terms, f"An update of '{update.player}' in {who} names no term")
    for name, term in update.terms.items():
        where = f"The term '{update.player}/{name}' of {who}"
        hold(isinstance(term, Tensor) and term.ndim == 0, f"{where} is not a scalar tensor")
        hold(torch.isfinite(term), f"{where} is {term.detach().item()}")


def carry_out(
    who: str,
    game: Game,
    players: dict[str, Optimizer],
    updates: tuple[Update, ...],
    reached: set[int],
    waiting: dict[int, Tensor],
) -> Tensor:
    """Take every gradient, then every step; no gradient may reach a parameter of someone else.

    Updates that are yielded together may share a graph: of each, only the gradients of its own player are taken.
    Those of updates that are held wait for the next one.
    """
    gradients: list[tuple[Tensor, Tensor]] = []
    losses = [update.loss for update in updates]
    for update, loss in zip(updates, losses, strict=True):
        mine = moved_by(players[update.player])
        shared = {"inputs": mine} if len(updates) > 1 else {}
        loss.backward(retain_graph=update is not updates[-1], **shared)
        own = {id(p) for p in mine}
        wasted = [name for name, p in game.named_parameters() if p.grad is not None and id(p) not in own]
        hold(
            not wasted,
            f"The loss of '{update.player}' in {who} also sends gradients to {', '.join(wasted)}: "
            "use frozen() or detach()",
        )
        sums = [(p, p.grad + waiting.pop(id(p), 0)) for p in mine if p.grad is not None]
        reached |= {id(p) for p, _ in sums}
        if update.holds:
            waiting |= {id(p): gradient for p, gradient in sums}
        else:
            gradients += sums
        game.zero_grad(set_to_none=True)
    for parameter, gradient in gradients:
        parameter.grad = gradient
    for update in updates:
        if not update.holds:
            players[update.player].step()
    game.zero_grad(set_to_none=True)
    return torch.stack([loss.detach() for loss in losses])


def moved_by(optimizer: Optimizer) -> list[Tensor]:
    """The parameters of an optimizer."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def values(game: Game) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in game.named_parameters()}


def changed(game: Game, before: dict[str, Tensor]) -> set[str]:
    return {name for name, p in game.named_parameters() if not torch.equal(p, before[name])}


RULES: tuple[Callable[[Entry], None], ...] = (
    is_documented, recipe_is_plain, has_a_face, refuses_politely, one_player_each, moves_its_own,
)  # fmt: skip
