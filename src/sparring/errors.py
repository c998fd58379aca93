"""The one kind of error that is the user's to mend, and the sentence it ends in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

NO_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")  # in what PyTorch says


class UserError(ValueError):
    """Input that cannot be used: one sentence with what was given, what is allowed and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class NonFinite(ArithmeticError):
    """A loss term became NaN or infinite; names the term, the player and the round."""


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn a lack of memory, of the machine or of a GPU, into one sentence.

    Raises:
        UserError: Where there was too little.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in NO_MEMORY):
            raise
        raise UserError("There is too little memory for this: lower --batch or --size, or --limit the data.") from error


def unknown(kind: str, given: object, allowed: Iterable[str]) -> UserError:
    """Say that `given` is not among `allowed`, and which of them it resembles."""
    given, allowed = str(given), [str(name) for name in allowed]
    close = get_close_matches(given, allowed, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else "choose one of " + ", ".join(allowed) + "."
    return UserError(f"There is no {kind} '{given}': {hint}")
