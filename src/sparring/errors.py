"""The one kind of error that is the user's to mend, and the sentence it ends in."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Input that cannot be used: one sentence with what was given, what is allowed and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class NonFinite(ArithmeticError):
    """A loss term became NaN or infinite; names the term, the player and the round."""


def unknown(kind: str, given: str, allowed: Iterable[str]) -> UserError:
    """Say that `given` is not among `allowed`, and which of them it resembles."""
    allowed = [str(name) for name in allowed]
    close = get_close_matches(given, allowed, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else "choose one of " + ", ".join(allowed) + "."
    return UserError(f"There is no {kind} '{given}': {hint}")
