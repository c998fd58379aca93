"""Examples out of a trained generator: by class, along lines between latent vectors, and around them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from sparring.errors import UserError, unknown
from sparring.protocol import Encodes, Game, Generates, HasLatent
from sparring.randomness import number_of, seeded

BATCH = 64  # examples made at once: what is made never fills the memory
ANCHORS, STEPS = 9, 10  # latent vectors on a walk, and images from each to the next, both of them included
NEIGHBOURS = 8  # around the result of an arithmetic
SPREAD = 0.25  # half-width of the uniform noise that makes a neighbour
PARTS, NOISE, LABEL = 0, 1, 2  # what a seed is used for


@runtime_checkable
class Recalls(Protocol):
    def recall(self, n: int) -> Tensor:
        """Draw the embeddings of n captions that the game was trained on, (n, W)."""
        ...


@runtime_checkable
class Sketches(Protocol):
    def sketch(self, n: int, z: Tensor | None = None, caption: Tensor | None = None) -> Tensor:
        """What an earlier stage makes of the same latent vectors and captions, (n, C, s, s) with a smaller side s."""
        ...


Label = int | str | Sequence[int | str] | None


def check_seed(seed: int) -> None:
    """Raise a UserError for a seed that PyTorch does not take."""
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed must be a whole number, 0 or more and below 2^63; got {seed}.")


@dataclass(frozen=True)
class Sampler:
    """Make examples with a trained game; all randomness follows from one seed.

    Args:
        game: In eval mode, on the CPU.
        name: What it goes by in messages.
        seed: 0 or more. Sample k of a seed is the same whatever the number of samples.
        stage: 1 for what the first stage of several makes; else what the game makes in the end.

    Raises:
        UserError: For a negative seed, a game that generates nothing, or a stage of one that has none.
    """

    game: Game
    name: str
    seed: int = 0
    stage: int | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        self.can(Generates, "generate", "train a generator, such as dcgan")
        if self.stage is not None:
            self.can(Sketches, "show its stages", "leave --stage out, or train one that has any, such as stackgan")

    def can(self, face: type, verb: str, remedy: str) -> None:
        """Raise a UserError where the game lacks a face."""
        if not isinstance(self.game, face):
            raise UserError(f"A run of {self.name} cannot {verb}: {remedy}.")

    @property
    def make(self) -> Callable[..., Tensor]:
        """What makes images: `generate`, or `sketch` where the first stage is asked for."""
        game: Any = self.game
        return game.sketch if self.stage == 1 else game.generate

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that can be asked for.

        Raises:
            UserError: For a model without classes.
        """
        if not self.game.conditional:
            raise UserError(
                f"A run of {self.name} makes images of no class in particular: leave --label out, or train a "
                "conditional generator, such as cdcgan."
            )
        return self.game.spec.classes

    def class_number(self, label: int | str) -> int:
        """The number of a class, by its name, or by its number where no class is named by one.

        Raises:
            UserError: For a class that does not exist.
        """
        name, classes = str(label), self.classes
        if name in classes:
            return classes.index(name)
        numbered = any(known.isdecimal() for known in classes)
        if name.isdecimal() and int(name) < len(classes) and not numbered:
            return int(name)
        raise unknown("class", name, classes)

    def labels(self, label: Label, n: int) -> Tensor | None:
        """One class for all, or one for each of n examples, as numbers (n,); None leaves them to chance."""
        if label is None:
            return None
        if isinstance(label, (int, str, np.integer)):
            return torch.full((n,), self.class_number(label if isinstance(label, str) else int(label)))
        given = [self.class_number(one) if isinstance(one, (str, int)) else one for one in label]
        numbers = torch.as_tensor(given, dtype=torch.int64)
        count = len(self.classes)
        if numbers.shape != (n,) or not bool(((numbers >= 0) & (numbers < count)).all()):
            raise UserError(f"Labels must be {n} numbers from 0 to {count - 1}, one an example; got {label}.")
        return numbers

    def parts(self, n: int, label: Label = None, caption: Tensor | None = None) -> Iterator[Tensor]:
        """Make n examples, at most 64 at a time, (B, *shape) float32; images in [-1, 1].

        Args:
            n: How many.
            label: A class for all, or one for each; None leaves them to chance.
            caption: The embedding (W,) of a text for all, or (n, W); None draws captions of the training.

        Raises:
            UserError: At once, for n < 1 or a class that does not exist.
        """
        if n < 1:
            raise UserError(f"--n is the number of images to make and must be 1 or more; got {n}.")
        if caption is not None and not self.game.captioned:
            raise UserError(f"A run of {self.name} reads no texts: train a model that does, such as stackgan.")
        return self._parts(n, self.labels(label, n), caption if caption is None else caption.expand(n, -1))

    @torch.no_grad()
    def _parts(self, n: int, wanted: Tensor | None, said: Tensor | None) -> Iterator[Tensor]:
        game = self.game
        assert isinstance(game, Generates)
        for start in range(0, n, BATCH):
            count, given = min(BATCH, n - start), {}
            with seeded(
                number_of(self.seed, PARTS, start // BATCH)
            ):  # whole parts are drawn, so that n changes nothing
                if isinstance(game, HasLatent):
                    given["z"] = game.latent(BATCH)[:count]
                if game.conditional:
                    drawn = torch.randint(len(game.spec.classes), (BATCH,))[:count]
                    given["label"] = drawn if wanted is None else wanted[start : start + count]
                if isinstance(game, Recalls):
                    recalled = game.recall(BATCH)[:count]
                    given["caption"] = recalled if said is None else said[start : start + count]
                made = self.make(count, **given)
            yield made

    @torch.no_grad()
    def latents(self, numbers: Sequence[int]) -> Tensor:
        """The latent vectors (N, ...) of the samples of these numbers.

        Raises:
            UserError: For a model without latent vectors.
        """
        self.can(HasLatent, "be moved through its latent space", "it has none; train another, such as dcgan")
        assert isinstance(self.game, HasLatent)
        found = []
        for number in numbers:
            with seeded(number_of(self.seed, PARTS, number // BATCH)):
                found.append(self.game.latent(BATCH)[number % BATCH])
        return torch.stack(found)

    @torch.no_grad()
    def decode(self, z: Tensor, label: int | str | None = None, caption: Tensor | None = None) -> Tensor:
        """Make an example of each latent vector (N, ...), all of one class or caption (W,) where the model has any."""
        assert isinstance(self.game, HasLatent)
        given: dict[str, Tensor] = {}
        with seeded(number_of(self.seed, LABEL)):
            if self.game.conditional:
                given["label"] = torch.randint(len(self.classes), ())
            if isinstance(self.game, Recalls):
                given["caption"] = self.game.recall(1)[0]
        if label is not None:
            given["label"] = torch.tensor(self.class_number(label))  # or it says that there are none
        if caption is not None:
            given["caption"] = caption

        def each(n: int) -> dict[str, Tensor]:
            return {name: one.expand(n, *one.shape) for name, one in given.items()}

        made = [self.make(len(part), part, **each(len(part))) for part in z.split(BATCH)]
        return torch.cat(made)

    def need_encoder(self) -> None:
        """Raise a UserError where the game encodes nothing."""
        self.can(Encodes, "encode images", "train a generator with an encoder, such as bigan or wali")

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """The latent vector of each example (N, *shape).

        Raises:
            UserError: For a model without an encoder.
        """
        self.need_encoder()
        assert isinstance(self.game, Encodes)
        return torch.cat([self.game.encode(part) for part in x.split(BATCH)])

    def walk(self, label: int | str | None = None) -> Tensor:
        """Go straight from each of the first 9 samples to the next: (8, 10, *shape), both ends included."""
        anchors = self.latents(range(ANCHORS))
        t = torch.linspace(0, 1, STEPS).view(-1, *[1] * (anchors.ndim - 1))
        lines = torch.stack([torch.lerp(a, b, t) for a, b in itertools.pairwise(anchors)])
        return self.decode(lines.flatten(0, 1), label).unflatten(0, lines.shape[:2])

    def around(self, z: Tensor, count: int, spread: float = SPREAD) -> Tensor:
        """Add noise U(-spread, spread) to each latent vector `count` times: (N, ...) to (N, count, ...)."""
        with seeded(number_of(self.seed, NOISE)):
            noise = torch.empty(len(z), count, *z.shape[1:]).uniform_(-spread, spread)
        return z[:, None] + noise

    def like(self, x: Tensor, count: int = NEIGHBOURS, spread: float = SPREAD) -> Tensor:
        """Each example, its reconstruction and `count` neighbours: (N, *shape) to (N, 2 + count, *shape)."""
        z = self.encode(x)
        every = torch.cat([z[:, None], self.around(z, count, spread)], 1)
        return torch.cat([x[:, None], self.decode(every.flatten(0, 1)).unflatten(0, every.shape[:2])], 1)

    def calculate(
        self, signs: Mapping[str, int], groups: Mapping[str, Tensor], label: Any = None, spread: float = SPREAD
    ) -> Tensor:
        """Add up the means of groups of latent vectors, as DCGAN's authors do with 3 exemplars a group.

        Args:
            signs: How often each group counts, by name; see `terms`.
            groups: The latent vectors (N, ...) of each group.

        Returns:
            9 examples (9, *shape): the result in the middle of 8 neighbours.
        """
        z = torch.stack([sign * groups[name].mean(0) for name, sign in signs.items()]).sum(0)
        near = self.around(z[None], NEIGHBOURS, spread)[0]
        half = NEIGHBOURS // 2
        return self.decode(torch.cat([near[:half], z[None], near[half:]]), label)


def terms(expression: str) -> dict[str, int]:
    """Read "A - B + C": how often each name counts, {"A": 1, "B": -1, "C": 1}.

    Raises:
        UserError: For anything but names with + and - between them.
    """
    pieces = [piece.strip() for piece in re.split(r"([+-])", expression)]
    signed = pieces[0] == "" and len(pieces) > 1  # it begins with a sign
    pieces = pieces[1:] if signed else ["+", *pieces]
    signs: dict[str, int] = {}
    for sign, name in zip(pieces[::2], pieces[1::2], strict=True):
        if not name:
            raise UserError(
                f"'{expression}' is no arithmetic: write names with + and - between them, as in 'A - B + C'."
            )
        signs[name] = signs.get(name, 0) + (1 if sign == "+" else -1)
    return signs
