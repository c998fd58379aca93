"""What a paper dictates: its hyper-parameters, each with a symbol, a place in the paper and bounds."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from math import isfinite
from typing import Any, get_type_hints

from sparring.errors import UserError, unknown


def hyper(
    default: Any,
    symbol: str,
    place: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declare a hyper-parameter: its default, the paper's symbol, its place there, and its bounds."""
    return field(
        default=default,
        metadata={"symbol": symbol, "place": place, "least": least, "above": above, "most": most, "choices": choices},
    )


@dataclass(frozen=True)
class Recipe:
    """What a paper dictates. Subclasses stand right above their game; the defaults are the paper's.

    Every field is checked against the bounds in its metadata; see `hyper`.
    """

    batch: int = hyper(64, "m", "examples in a minibatch, all processes together", least=1)
    epochs: float | None = hyper(1.0, "", "passes over the training data; empty: as the model says", above=0)
    rounds: int | None = hyper(None, "", "passes through Algorithm 1; overrides epochs", least=1)
    ema: float = hyper(0.0, "", "decay of the averaged weights that are sampled from; 0 is off", least=0, most=0.999999)

    def __post_init__(self) -> None:
        for spec in fields(self):
            check_hyper(type(self).__name__, spec.name, getattr(self, spec.name), spec.metadata)

    @classmethod
    def read(cls, values: dict[str, Any], base: Recipe | None = None) -> Recipe:
        """Build a recipe from untyped values (of a YAML file or a command line) over `base`.

        Raises:
            UserError: For an unknown key (with the closest match) or a value of the wrong type.
        """
        from pydantic import ConfigDict, TypeAdapter, ValidationError

        hints = get_type_hints(cls)
        known: dict[str, Any] = {
            f.name: (getattr(base, f.name) if base is not None else f.default) for f in fields(cls)
        }
        for key, value in values.items():
            if key not in known:
                raise unknown("hyper-parameter", key, known)
            try:
                strict = ConfigDict(coerce_numbers_to_str=False)
                known[key] = TypeAdapter(hints[key], config=strict).validate_python(value)
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise UserError(f"The '{key}' of {cls.__name__} cannot be {value!r}: {reason}.") from None
        return cls(**known)

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values that YAML and JSON can hold."""
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in fields(self)}


def check_hyper(owner: str, name: str, value: Any, law: Any) -> None:
    """Raise a UserError "parameter, law, value" where a hyper-parameter breaks its declared bounds."""
    if value is None or value is MISSING or not law:
        return
    wants: list[str] = []
    if law["choices"] is not None and value not in law["choices"]:
        wants.append("one of " + ", ".join(law["choices"]))
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, (int, float)):
            continue
        if law["least"] is not None and not number >= law["least"]:
            wants.append(f"a number >= {law['least']:g}")
        if law["above"] is not None and not number > law["above"]:
            wants.append(f"a number > {law['above']:g}")
        if law["most"] is not None and not number <= law["most"]:
            wants.append(f"a number <= {law['most']:g}")
        if not isfinite(number):
            wants.append("a finite number")
    if wants:
        raise UserError(f"The '{name}' of {owner} must be {wants[0]}; got {value!r} instead.")
