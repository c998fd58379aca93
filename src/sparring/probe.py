"""What a network has learnt without labels, by how well a simple classifier does on its features.

References: for a discriminator, Radford, Metz, Chintala 2015, arXiv:1511.06434, section 5.1: all convolutional layers,
each max-pooled to a 4x4 grid, flattened and concatenated; a linear SVM with squared hinge loss on top. For an encoder,
Donahue, Krähenbühl, Darrell 2016, arXiv:1605.09782: the nearest neighbour on the layer before its output.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring import models
from sparring.data import Source, batches, parse_split, splits_of
from sparring.errors import UserError
from sparring.metrics.baselines import rows
from sparring.nets.dense import Largest
from sparring.nets.joint import Joint
from sparring.opening import hold_out
from sparring.protocol import Game
from sparring.randomness import seeded
from sparring.run import Run
from sparring.sampling import check_seed

GRID = 4  # pixels a side that every map is pooled to
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # values of C that are tried, for standardised features
STEPS = 300  # of L-BFGS at most; what has not settled by then is judged as it stands
RECTIFIERS = (nn.ReLU, nn.LeakyReLU)
ACTIVATIONS = (*RECTIFIERS, Largest)
RESAMPLES = 1000

PLAYERS = ("discriminator", "encoder")

Extractor = Callable[[Source], np.ndarray]


def judge_of(game: nn.Module, name: str) -> nn.Module:
    """The network of a game that tells real from made; of one that judges pairs, the part that reads the image.

    Raises:
        UserError: Where it has none, or none of convolutions on images alone.
    """
    players = [getattr(game, player, None) for player in ("discriminator", "critic")]
    network = next((player for player in players if isinstance(player, nn.Module)), None)
    if network is None:
        raise UserError(f"A run of {name} has no discriminator or critic to look into: train a model that has one.")
    if "label" in inspect.signature(network.forward).parameters:
        raise UserError(f"The discriminator of {name} is told the class that a probe asks for: use dcgan.")
    pair = next((module for module in network.modules() if isinstance(module, Joint)), None)
    network = network if pair is None else pair.of_x
    if not any(isinstance(module, nn.Conv2d) for module in network.modules()):
        raise UserError(f"The discriminator of {name} has no convolutional layers to take features of: use dcgan.")
    return network


@contextmanager
def listening(
    network: nn.Module, heard: list[Tensor], kinds: tuple[type[nn.Module], ...] = ACTIVATIONS
) -> Iterator[None]:
    """Collect what every nonlinearity of convolutional layers gives, in order."""

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if output.ndim == 4:
            heard.append(output)

    handles = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, kinds)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def pooled(maps: Tensor) -> Tensor:
    """Max-pool maps (B, C, H, W) to a 4x4 grid where they are larger, and flatten them: (B, C * 16 or less)."""
    return F.adaptive_max_pool2d(maps, min(GRID, maps.shape[-1])).flatten(1)


@torch.no_grad()
def features(network: nn.Module, x: Tensor) -> Tensor:
    """The features of images (B, C, H, W) in [-1, 1]: (B, D), one row an image whatever the batch."""
    heard: list[Tensor] = []
    with listening(network, heard):
        network(x)
    return torch.cat([pooled(maps) for maps in heard], 1)


def of_judge(game: Any, name: str) -> Extractor:
    """Extract the features of every image of a source by what tells real from made, (N, D) float32.

    Raises:
        UserError: As `judge_of` does.
    """
    network = judge_of(game, name)

    def extract(source: Source) -> np.ndarray:
        return np.concatenate([features(network, game.seen(x)).numpy() for x in batches(source, 64)])

    return extract


@torch.no_grad()
def settle(network: nn.Module, seen: Callable[[Tensor], Tensor], source: Source) -> None:
    """Let the batch norm of a network keep the statistics of these images, as it sees them, whatever it met before."""
    norms = [module for module in network.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all minibatches
        norm.train()
    for x in batches(source, 128) if norms else ():
        network(seen(x))
    for norm in norms:
        norm.eval()


def of_encoder(game: Any, name: str) -> Extractor:
    """Extract what enters the last layer of a game's encoder, flat: (N, D) float32.

    Raises:
        UserError: Where the game has none.
    """
    encoder = getattr(game, "encoder", None)
    if not isinstance(encoder, nn.Module) or not hasattr(game, "encode"):
        raise UserError(f"A run of {name} has no encoder to look into: use bigan, or ask for its discriminator.")
    last = [module for module in encoder.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]

    @torch.no_grad()
    def extract(source: Source) -> np.ndarray:
        parts: list[np.ndarray] = []
        handle = last.register_forward_pre_hook(lambda _, inputs: parts.append(inputs[0].flatten(1).numpy()))
        try:
            for x in batches(source, 256):
                game.encode(x)
        finally:
            handle.remove()
        return np.concatenate(parts)

    return extract


def codes_of(game: Any) -> Extractor:
    """Extract the codes themselves, flat: (N, D) float32."""

    @torch.no_grad()
    def extract(source: Source) -> np.ndarray:
        return np.concatenate([game.encode(x).flatten(1).numpy() for x in batches(source, 256)])

    return extract


def fit_nearest(x: np.ndarray, label: np.ndarray, seed: int) -> Any:
    """The label of the nearest example by Euclidean distance; nothing is random here."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(1, algorithm="brute").fit(x, label)


@dataclass(frozen=True)
class SVM:
    """A fitted linear SVM, one class against the rest.

    Attributes:
        mean, deviation: Of the features (D,) that it was fitted on.
        weights: (D, K).
        bias: (K,).
        classes: Labels of the K classes.
    """

    mean: np.ndarray
    deviation: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    classes: np.ndarray

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The labels (N,) of features (N, D)."""
        return self.classes[((x - self.mean) / self.deviation @ self.weights + self.bias).argmax(1)]


def fit_svm(x: np.ndarray, label: np.ndarray, penalty: float) -> SVM:
    """Fit an SVM with squared hinge loss to standardised features (N, D).

    It minimises |w|^2 / 2 + penalty * sum of max(0, 1 - sign (x w + b))^2 by L-BFGS on dense matrices: liblinear, which
    stores every feature as 16 bytes, takes tens of times as long for the thousands of them that a network has.
    """
    mean, deviation = x.mean(0), x.std(0)
    deviation[deviation == 0] = 1
    classes, kind = np.unique(label, return_inverse=True)
    scaled = torch.from_numpy((x - mean) / deviation).float()
    sign = 2 * F.one_hot(torch.from_numpy(kind)).float() - 1
    weights = torch.zeros(x.shape[1], len(classes), requires_grad=True)
    bias = torch.zeros(len(classes), requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, bias], max_iter=STEPS, tolerance_grad=1e-4, history_size=10, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        short = F.relu(1 - sign * (scaled @ weights + bias))
        loss = weights.square().sum() / 2 + penalty * short.square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    return SVM(mean, deviation, weights.detach().numpy(), bias.detach().numpy(), classes)


def fit_linear(x: np.ndarray, label: np.ndarray, seed: int) -> SVM:
    """Fit the SVM; a fifth of the examples chooses its penalty, raised until that hurts, and then all are fitted."""
    from sklearn.model_selection import train_test_split

    counts = np.bincount(label)
    few = counts[label] < 5  # of their class: these all help to fit, or a class might be missing there
    many = np.flatnonzero(~few)
    if not len(many):
        return fit_svm(x, label, PENALTIES[len(PENALTIES) // 2])
    fit, select = train_test_split(many, test_size=0.2, random_state=seed, stratify=label[many])
    fit = np.concatenate([fit, np.flatnonzero(few)])
    chosen, best = PENALTIES[0], 0.0
    for penalty in PENALTIES:
        right = float((fit_svm(x[fit], label[fit], penalty).predict(x[select]) == label[select]).mean())
        if right < best:
            break
        chosen, best = penalty, right
    return fit_svm(x, label, chosen)


def probe(
    run: Run,
    data: Any = None,
    *,
    player: str = "discriminator",
    limit: int | None = 10_000,
    split: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Classify images by what a player has learnt, beside the same network with random weights and raw pixels.

    Args:
        data: Labelled images, as for `sparring.train`; None is the run's own data.
        player: "discriminator": its convolutional features under a linear SVM. "encoder": the layer before its output,
            and the code itself, by the nearest neighbour.
        limit: Training examples at most for the classifier, drawn by `seed`; None takes all.
        split: The part that is reported on, by default "test"; the classifier is fitted on "train". Of data without
            splits a fifth is reported on, which is new to the classifier, if not to a network that learnt from all.

    Returns:
        Accuracy on the split with its 95 % bootstrap interval for the player, `random weights` and `pixels` (and `code`
        of an encoder), and the margin of the player over the others on the same images.

    Raises:
        UserError: For data without labels, a part of the split "train", or a model without such a player or without
            convolutional layers.
    """
    if player not in PLAYERS:
        raise UserError(f"player='{player}' is not one of {', '.join(PLAYERS)}: choose one of these.")
    if split is not None and (parse_split(split)[0] or "train") == "train":
        raise UserError(f"split='{split}' is what the classifier learns from: report on another one, such as 'test'.")
    if limit is not None and limit < 1:
        raise UserError(f"--limit is the number of examples to learn from and must be 1 or more; got {limit}.")
    games: dict[str, Any] = {player: copy.deepcopy(run.game), "random weights": untrained(run, seed)}
    ways, fit = ways_of(games, run.job.model)  # or refuses, before data are opened
    train, test = parts_of(run, data, split, seed)
    for source in (train, test):
        if source.labels is None:
            raise UserError(f"'{source.name}' has no labels, and a probe is a classifier: give one folder per class.")
    if limit is not None and limit < len(train):
        train = train.take(np.sort(np.random.default_rng(seed).permutation(len(train))[:limit]))
    if train.labels is not None and len(np.unique(train.labels)) < 2:
        raise UserError(f"'{train.name}' has images of one class only, and a probe tells classes apart: give more.")
    assert train.labels is not None
    assert test.labels is not None
    for game in games.values():
        settle(game.encoder if player == "encoder" else judge_of(game, run.job.model), game.seen, train)
    right, widths = {}, {}
    for name, extract in ways.items():
        x = extract(train)
        widths[name] = x.shape[1]
        right[name] = fit(x, train.labels, seed).predict(extract(test)) == test.labels
    picks = np.random.default_rng(seed).integers(len(test), size=(RESAMPLES, len(test)))
    own = right[player]
    found: dict[str, Any] = {"player": player, "examples": len(test), "fitted_on": len(train), "seed": seed}
    for name, hits in right.items():
        found[name] = {"accuracy": interval(hits.astype(float), picks), "features": widths[name]}
        if name != player:
            found[name]["margin"] = interval(own.astype(float) - hits, picks)
    return found


def parts_of(run: Run, data: Any, split: str | None, seed: int) -> tuple[Source, Source]:
    """What a classifier is fitted on, and what is reported on; of data without splits a fifth is held out by `seed`."""
    if split is None and not splits_of(run.job.data if data is None else data):
        return hold_out(run.open(data, split=None), seed)
    return run.open(data, split="train"), run.open(data, split=split or "test")


def ways_of(games: dict[str, Any], name: str) -> tuple[dict[str, Extractor], Callable[..., Any]]:
    """Features that are compared, those of the player first, and the classifier that is fitted on them.

    Args:
        games: The trained one by the name of the player, and others by names of their own.
        name: Of the model.
    """
    player = next(iter(games))
    pixels: dict[str, Extractor] = {"pixels": lambda source: rows(source.read(np.arange(len(source))))}
    if player == "encoder":
        of = {key: of_encoder(game, name) for key, game in games.items()}
        return of | {"code": codes_of(games[player])} | pixels, fit_nearest
    return {key: of_judge(game, name) for key, game in games.items()} | pixels, fit_linear


def untrained(run: Run, seed: int) -> Game:
    """The run's game with weights that no training has touched."""
    check_seed(seed)
    entry = models.find(run.job.model)
    with seeded(seed + 1):  # not those that the training began with
        return entry.game(run.spec, entry.recipe.read(run.job.recipe)).eval()


def interval(values: np.ndarray, picks: np.ndarray) -> dict[str, float]:
    """Mean of values (N,) with its 95 % bootstrap interval over the same resamples (R, N) for all."""
    means = values[picks].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}
