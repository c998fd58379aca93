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
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparring.recipe import Recipe as Recipe
from sparring.recipe import hyper as hyper


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


class Update:
    """Move this player one step down the sum of these named terms.

    Args:
        player: A key of the phase's players.
        terms: Scalar tensors; each is logged as "player/term".
    """

    def __init__(self, player: str, /, **terms: Tensor) -> None:
        self.player = player
        self.terms = terms
        self.holds = False

    def held(self) -> Update:
        """Let the gradient wait for this player's next update, which adds its own and steps: a batch in parts.

        Terms add up too, so that each part's are multiplied by its share of the batch.
        """
        self.holds = True
        return self

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
        draws: Minibatches of data that one of its rounds consumes; None is the game's `draws`.
    """

    name: str
    rounds: int
    play: Callable[[Draw, int], Round]
    players: Callable[[], dict[str, Optimizer]]
    rate: Callable[[int], float] = lambda step: 1.0
    momentum: Callable[[int], float] | None = None
    keep: str | None = None
    draws: int | None = None


class Game(nn.Module, ABC):
    """Networks, who moves them, and in which order: one paper.

    Args:
        spec: What the data dictate.
        recipe: What the paper dictates.
    """

    needs: ClassVar[tuple[str, ...]] = ("x",)  # fields of Batch; checked against the data before anything is built
    wants: tuple[str, ...] = ()  # fields of Batch that it learns from where they are given
    averages: tuple[str, ...] = ()  # networks that are averaged when recipe.ema > 0
    usual_epochs: ClassVar[float] = 1.0  # where the recipe says neither epochs nor rounds: passes over the data,
    least_rounds: ClassVar[int] = 1  # but at least so many rounds, since few data are soon passed over
    draws: int = 1  # minibatches of data that one round consumes
    passes: ClassVar[int] = 1  # over the data in an epoch: one for each player that draws minibatches of its own
    exportable: ClassVar[bool] = True  # False: its score follows gradients, which no exported graph does
    scores_late: ClassVar[bool] = False  # True: hundreds of tiny rounds do not teach its score to know noise as strange
    captions: int = 1  # captions of an image whose embeddings are averaged into one
    near: float = 0.0  # share of mismatched images that are drawn among those of the most similar captions
    blind_to_means: ClassVar[bool] = False  # True: batch norm, of real and of made batches apart, hides what all share
    boundary: float | None = None  # where a discriminator is undecided; None: only differences count, as of a critic

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
        if self.recipe.epochs is None:
            return max(self.rounds_in(self.usual_epochs), self.least_rounds)
        return self.rounds_in(self.recipe.epochs)

    def rounds_in(self, epochs: float, phase: Phase | None = None) -> int:
        """Rounds that so many passes over the data take, in the main phase or in another."""
        batches = max(1, self.spec.count // self.recipe.batch)
        if phase is not None and phase.draws is not None:
            return max(1, round(epochs * batches / phase.draws))
        return max(1, round(epochs * batches * self.passes / self.draws))

    @property
    def period(self) -> int:
        """Rounds between looks at a game whose best weights are kept: a pass over the data, or a hundredth of all."""
        return max(self.rounds_in(1), self.rounds // 100)

    def seen(self, x: Tensor) -> Tensor:
        """Examples as the networks see them."""
        return x

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
class Discriminates(Protocol):
    def discriminate(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the opponent says of these real examples, and of as many that are made now: (B,) float32 each.

        Higher is more real; see `Game.boundary`. A conditional game needs `label`, (B,) int64, and makes these classes.
        """
        ...


@runtime_checkable
class Scores(Protocol):
    def score(self, x: Tensor) -> Tensor:
        """One number per example, (B,) float32; higher is stranger."""
        ...


@runtime_checkable
class Classifies(Protocol):
    def classify(self, x: Tensor) -> Tensor:
        """Logits of the classes of the data, (B, K) float32."""
        ...

    def features(self, x: Tensor) -> Tensor:
        """What the logits are a linear function of, (B, D) float32."""
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


@runtime_checkable
class Translates(Protocol):
    def translate(self, x: Tensor, to: str) -> Tensor:
        """What x (B, *spec.shape), of one domain, is in the other, `to`: "a", or "b" (`Batch.partner`); same shape."""
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
