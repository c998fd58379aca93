"""Read this first: what a model of this library is, and what the engine promises it.

A paper on adversarial networks states its method as "Algorithm 1": players take turns on
minibatches. Here a model is that loop body, written as a Python generator, `Game.round`. It yields
an `Update` where the paper says "update the discriminator by ...". The engine carries the update out
and sends the mean loss over all processes back; what stands after the `yield` happens after it.

Three laws for authors of games:

1. never yield inside `torch.no_grad()`;
2. what changes weights outside an Update must come out the same on every process: decide by the value
   that `yield` returns, not by local tensors;
3. all state lives in parameters and buffers, so that a checkpoint is everything.

`sparring.testing` holds a game to all of this.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Protocol, TypeAlias, get_type_hints, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.errors import UserError, unknown


@dataclass(frozen=True)
class Batch:
    """A minibatch on the device; a field that the data lacks is None.

    Attributes:
        x: Images (B, C, H, W) in [-1, 1], or features (B, D) as they were given.
        label: Class numbers (B,), int64.
        partner: Images of a second domain, as x, not paired with it.
        caption: Embeddings (B, W) of a text that describes each x.
        mismatch: Images that the captions do not describe, as x.
        outlier: Examples of what is known not to belong, as x.
    """

    x: Tensor
    label: Tensor | None = None
    partner: Tensor | None = None
    caption: Tensor | None = None
    mismatch: Tensor | None = None
    outlier: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Spec:
    """What the data dictate to a model.

    Attributes:
        shape: (channels, height, width) of an image, or (width,) of a feature vector.
        count: Number of training examples; turns epochs into rounds.
        classes: Names of the classes, in the order of their numbers; empty without labels.
        caption: Width of the embedding of a caption; 0 without captions.
    """

    shape: tuple[int, ...]
    count: int
    classes: tuple[str, ...] = ()
    caption: int = 0

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    @property
    def size(self) -> int:
        """Numbers in one example."""
        return math.prod(self.shape)


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
    if wants:
        raise UserError(f"The '{name}' of {owner} must be {wants[0]}; got {value!r} instead.")


class Update:
    """Move this player one step down the sum of these named terms.

    Args:
        player: A key of the phase's players.
        terms: Scalar tensors; each is logged as "player/term".
    """

    def __init__(self, player: str, /, **terms: Tensor) -> None:
        self.player = player
        self.terms = terms

    @property
    def loss(self) -> Tensor:
        return torch.stack([term.float() for term in self.terms.values()]).sum()


Draw: TypeAlias = Callable[[], Batch]

# A round yields one Update, or several in a tuple: then every player's gradient is taken at the same
# weights before any of them steps (the simultaneous order of GAN 2014 and ALI). What comes back is the
# mean loss over processes: a scalar, or a vector with one entry an Update.
Round: TypeAlias = Generator["Update | tuple[Update, ...]", Tensor, None]


@dataclass(frozen=True)
class Phase:
    """A stretch of rounds in which the same players learn.

    Attributes:
        name: Shown in logs; unique within a game.
        rounds: How many rounds it lasts.
        play: The round: (draw, step) to a generator of Updates.
        players: Who learns, and by which optimizer; called once, when the phase begins.
        rate: Factor on every learning rate, as a function of the step.
        momentum: Value of every `momentum`, as a function of the step; None leaves it alone.
        keep: Name of the validation score whose best weights end the phase.
    """

    name: str
    rounds: int
    play: Callable[[Draw, int], Round]
    players: Callable[[], dict[str, Optimizer]]
    rate: Callable[[int], float] = lambda step: 1.0
    momentum: Callable[[int], float] | None = None
    keep: str | None = None


class Game(nn.Module, ABC):
    """Networks, who moves them, and in which order: one paper.

    Args:
        spec: What the data dictate.
        recipe: What the paper dictates.
    """

    needs: ClassVar[tuple[str, ...]] = ("x",)  # fields of Batch; checked against the data before anything is built
    wants: ClassVar[tuple[str, ...]] = ()  # fields of Batch that it learns from where they are given
    averages: ClassVar[tuple[str, ...]] = ()  # networks that are averaged when recipe.ema > 0
    draws: int = 1  # minibatches of data that one round consumes
    captions: int = 1  # captions of an image whose embeddings are averaged into one
    blind_to_means: ClassVar[bool] = False  # True: batch norm, of real and of made batches apart, hides what all share

    def __init__(self, spec: Spec, recipe: Recipe) -> None:
        super().__init__()
        self.spec = spec
        self.recipe = recipe

    @classmethod
    def needed(cls, recipe: Recipe) -> tuple[str, ...]:
        """Fields of Batch that this recipe of the game learns from; more than `needs` where a variant asks for more."""
        return cls.needs

    @property
    def conditional(self) -> bool:
        """Whether the game makes examples by class."""
        return isinstance(self, Generates) and "label" in self.needed(self.recipe)

    @property
    def captioned(self) -> bool:
        """Whether the game makes examples of captions."""
        return isinstance(self, Generates) and "caption" in self.needed(self.recipe)

    @classmethod
    def fit_side(cls, native: int, recipe: Recipe) -> int:
        """The side, in pixels, at which this recipe of the game sees square images of side `native`."""
        return native

    @property
    def rounds(self) -> int:
        """Rounds of the main phase: as the recipe says, or its epochs over the data (incomplete batches dropped)."""
        if self.recipe.rounds is not None:
            return self.recipe.rounds
        return self.rounds_in(self.recipe.epochs if self.recipe.epochs is not None else 1.0)

    def rounds_in(self, epochs: float) -> int:
        """Rounds that so many passes over the data take."""
        batches = max(1, self.spec.count // self.recipe.batch)
        return max(1, round(epochs * batches / self.draws))

    def prepare(self, x: Tensor) -> None:
        """Look once at up to 10,000 training examples, the same on every process, before the first round."""

    def listen(self, captions: Tensor) -> None:
        """Look once at the embeddings (N, W) of up to 10,000 captions of training examples, likewise."""

    @abstractmethod
    def players(self) -> dict[str, Optimizer]:
        """Who learns, and by which optimizer."""

    @abstractmethod
    def round(self, draw: Draw, step: int) -> Round:
        """One pass through the paper's algorithm."""

    def phases(self) -> list[Phase]:
        return [Phase("train", self.rounds, self.round, self.players)]


# What a game can do is asked by these faces, never by its name. All of them expect `eval()` mode and
# treat each example on its own: no result depends on the batch it stands in.


@runtime_checkable
class Generates(Protocol):
    def generate(self, n: int) -> Tensor:
        """Make n examples (n, *spec.shape); images in [-1, 1].

        A conditional game (see `Game.conditional`) also takes `label`, (n,) int64; None draws classes uniformly.
        A captioned one (see `Game.captioned`) also takes `caption`, (n, W); None draws captions of the training.
        """
        ...


@runtime_checkable
class HasLatent(Protocol):
    def latent(self, n: int) -> Tensor:
        """Draw n latent vectors from the prior, (n, ...)."""
        ...

    def generate(self, n: int, z: Tensor | None = None) -> Tensor:
        """Make n examples as `Generates` does, of these latent vectors or of fresh draws."""
        ...


@runtime_checkable
class Encodes(Protocol):
    def encode(self, x: Tensor) -> Tensor:
        """The latent vector of each example, of the shape that `latent` draws."""
        ...


@runtime_checkable
class Scores(Protocol):
    def score(self, x: Tensor) -> Tensor:
        """One number per example, (B,) float32; higher is stranger."""
        ...


@runtime_checkable
class Maps(Protocol):
    def anomaly_map(self, x: Tensor) -> Tensor:
        """How strange each pixel is, (B, H, W); higher is stranger. Images only."""
        ...


@runtime_checkable
class Reconstructs(Protocol):
    def reconstruct(self, x: Tensor) -> Tensor:
        """What the model makes of x, of the same shape."""
        ...


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Let gradients pass through these modules without computing any for their parameters."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
