"""What the verbs share."""

from __future__ import annotations

import sys
from typing import Annotated

from tyro.conf import arg

Output = Annotated[bool, arg(help="Print one JSON object as the last line of standard output.")]


def listed(text: str) -> tuple[str, ...]:
    """Split "0,3" into its parts."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def say(*sentences: str) -> None:
    """Tell the user on standard error, in one line, those of these sentences that are not empty."""
    if told := " ".join(filter(None, sentences)):
        print(told, file=sys.stderr)
