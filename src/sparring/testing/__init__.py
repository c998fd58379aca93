"""Hold a game to the laws of this library: the conformance suite, for every model and for your own.

    >>> from sparring.testing import check_game
    >>> check_game("gan")                             # doctest: +SKIP
    >>> check_game((MyGame, MyRecipe()))              # doctest: +SKIP

With pytest, one test a law:

    @pytest.mark.parametrize("check", [pytest.param(check, id=name) for name, check in checks()])
    def test_my_game(check):
        check((MyGame, MyRecipe()))

Every check takes the name of a model, an entry of the catalogue, or a pair of a Game class and a recipe;
it raises an AssertionError that says in one sentence which law is broken. Networks are shrunk by `small`,
so that all checks of one model take seconds. To see the laws, read `rules` (what a game says of itself,
and who moves whom), `faces` (what it makes and what it says of examples) and `conduct` (how it plays and learns).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeAlias

import torch

from sparring.models import Entry
from sparring.testing.conduct import CONDUCT
from sparring.testing.rig import Subject, TinyDraw, as_entry, small
from sparring.testing.rules import RULES

__all__ = ["TinyDraw", "as_entry", "check_game", "checks", "small"]

Check: TypeAlias = Callable[[Subject], None]


def checks(processes: bool = False) -> list[tuple[str, Check]]:
    """List the checks by name.

    Args:
        processes: Also the one that trains with two processes, which takes ten seconds or more. Scripts that
            call it need the usual `if __name__ == "__main__":`.
    """
    return [(law.__name__, _check(law)) for law in (*RULES, *CONDUCT) if processes or law.__name__ != "processes_agree"]


def check_game(subject: Subject, processes: bool = False) -> None:
    """Run every check on a game.

    Raises:
        AssertionError: At the first law that is broken.
    """
    for _, check in checks(processes):
        check(subject)


def _check(law: Callable[[Entry], None]) -> Check:
    @wraps(law)
    def check(subject: Subject) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # quicker for networks this small, above all where tests run side by side
        try:
            law(as_entry(subject))
        finally:
            torch.set_num_threads(threads)

    return check
