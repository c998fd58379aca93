"""What generated and real images are compared by: extractors of features, each known by a hash.

A distance says nothing without the features that it was measured on, so that every extractor carries a name
in words and a hash of its weights; numbers of different hashes cannot be compared.
"""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from sparring.data import Source, Stream, batches, cache_folder, open_source, to_tensor
from sparring.data.fingerprint import fingerprint
from sparring.data.stacked import PART, STACKED
from sparring.errors import UserError
from sparring.files import write_bytes
from sparring.nets.classifier import Classifier, Views
from sparring.nets.inception import FEATURES, Inception
from sparring.randomness import seeded

BATCH = 64  # images described at once
SPREAD = 1000  # training images that tell the spread of features
VERSION = 1  # counts the changes to what an extractor computes

Tell: TypeAlias = Callable[[str], None]
Network: TypeAlias = Callable[[Tensor], "tuple[Tensor, Tensor | None]"]


@dataclass(frozen=True)
class Lesson:
    """How the classifier is trained: Adam under the one-cycle schedule, on at most so many epochs and images."""

    epochs: int = 20
    images: int = 150_000
    batch: int = 128
    rate: float = 4e-3
    seed: int = 0


LESSON = Lesson()


@dataclass(frozen=True)
class Extractor:
    """Features of images (B, C, H, W) in [-1, 1], or of vectors (B, D).

    Attributes:
        name: What it is, in words.
        hash: 12 hexadecimal digits that follow from the weights.
        network: Gives features (B, F) and class probabilities (B, K), or None.
        classes: Names of the K classes, where they have names.
        kept: Whether features of data are worth keeping on disk.
        quick: Whether a hundred thousand images are a matter of minutes.
    """

    name: str
    hash: str
    network: Network
    classes: tuple[str, ...] = ()
    kept: bool = True
    quick: bool = True

    @torch.no_grad()
    def __call__(self, parts: Iterable[Tensor]) -> Described:
        """Describe all examples of some minibatches."""
        features, probabilities = zip(*(self.network(x) for x in parts), strict=True)
        named = probabilities[0] is not None
        return Described(torch.cat(features).numpy(), torch.cat(probabilities).numpy() if named else None)

    def describe(self, source: Source) -> Described:
        """Describe all examples of a source, or read from the cache what they were described by before."""
        if not self.kept:
            return self(batches(source, BATCH))
        path = cache_folder() / "features" / f"{self.hash}-{fingerprint(source)}.safetensors"
        with suppress(FileNotFoundError, SafetensorError):
            return Described.load(path, self)
        found = self(batches(source, BATCH))
        with suppress(UserError):  # a cache that cannot be written is done without
            found.save(path, self)
        return found


@dataclass(frozen=True)
class Described:
    """What an extractor says of N examples: features (N, F), class probabilities (N, K) or None."""

    features: NDArray[np.float32]
    probabilities: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.features)

    def save(self, path: Path, extractor: Extractor) -> None:
        """Write a .safetensors file that bears the extractor's hash."""
        tensors = {"features": torch.from_numpy(self.features)}
        if self.probabilities is not None:
            tensors["probabilities"] = torch.from_numpy(self.probabilities)
        write_bytes(path, safetensors_bytes(tensors, {"extractor": extractor.hash}))

    @classmethod
    def load(cls, path: Path, extractor: Extractor) -> Described:
        """Read what `save` wrote.

        Raises:
            UserError: For features of another extractor.
        """
        with safe_open(path, "np") as file:
            other = (file.metadata() or {}).get("extractor", "unknown")
            if other != extractor.hash:
                raise UserError(
                    f"'{path}' holds features of the extractor {other}, which cannot be compared with those of "
                    f"{extractor.hash}: remove the file, and it is made anew."
                )
            there = set(file.keys())
            return cls(
                file.get_tensor("features"), file.get_tensor("probabilities") if "probabilities" in there else None
            )


def choose(features: str, training: Source, tell: Tell = lambda sentence: None) -> Extractor:
    """The extractor that a user asks for.

    Args:
        features: "default", "pixels", or the path of a file with the weights of Inception.
        training: What the generator was trained on; the default classifier learns from it and sees nothing else.
        tell: Is told what takes long.

    Raises:
        UserError: For a file that is missing or something else.
    """
    if not training.is_image:
        if features not in ("default", "pixels"):
            raise UserError(f"--features {features} is for images, and '{training.name}' holds vectors: leave it out.")
        return Extractor("the values themselves", hash_of(), lambda x: (x.flatten(1), None), kept=False)
    if features == "pixels":
        return Extractor("pixels in [0, 1]", hash_of(), lambda x: ((x.flatten(1) + 1) / 2, None), kept=False)
    if features != "default":
        return inception(Path(features))
    if training.name == STACKED:
        side = training.spec().shape[-1]
        return channelwise(classifier(open_source(PART, split="train", size=side, channels=1), tell))
    if training.labels is not None and len(np.unique(training.labels)) > 1:
        return classifier(training, tell)
    return random_convolutions(training)


def classifier(training: Source, tell: Tell = lambda sentence: None) -> Extractor:
    """A small classifier of these images, beside the same one untrained; learnt here unless it is in the cache."""
    key = digest([VERSION, asdict(LESSON), fingerprint(training)], 40)
    path = cache_folder() / "features" / f"classifier-{key}.safetensors"
    network = Views(fresh(training), fresh(training)).eval()
    try:
        network.load_state_dict(load_file(path))
    except (FileNotFoundError, SafetensorError, RuntimeError):  # none, or damaged
        tell(f"Training a small classifier of '{training.name}' to compare images by; it is kept for the next time.")
        network = Views(fresh(training), fresh(training)).eval()
        learn(network.trained, training)
        network.learn(to_tensor(training.limited(SPREAD).read(slice(None))))
        with suppress(UserError):
            write_bytes(path, safetensors_bytes(network.state_dict()))
    channels, side, _ = training.spec().shape
    split = f", split {training.split}" if training.split else ""
    name = f"classifier trained on {training.name}{split}, {len(training):,} images of {side}x{side}x{channels}"
    mark = hash_of(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Extractor(name, mark, network, training.classes)


def fresh(training: Source, classes: int | None = None) -> Classifier:
    """The classifier with its first weights, always the same; they leave the global state of randomness alone."""
    channels, side, _ = training.spec().shape
    with seeded(LESSON.seed):
        return Classifier(channels, side, classes or len(training.classes)).eval()


def learn(network: Classifier, training: Source) -> None:
    """Train the classifier on the labels; the same on one machine with one number of threads."""
    lesson = LESSON
    batch = min(lesson.batch, len(training))
    rounds = max(1, min(lesson.images, lesson.epochs * len(training)) // batch)
    draw = Stream(training, batch, seed=lesson.seed)
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), lesson.rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lesson.rate, total_steps=rounds)
    for _ in range(rounds):
        minibatch = draw()
        assert minibatch.label is not None
        loss = F.cross_entropy(network(minibatch.x)[1], minibatch.label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def channelwise(part: Extractor) -> Extractor:
    """Describe each colour of an image by itself: features side by side, a class for each triple of classes."""

    def network(x: Tensor) -> tuple[Tensor, Tensor | None]:
        features, (first, second, third) = zip(*(part.network(x[:, k : k + 1]) for k in range(3)), strict=True)
        return torch.cat(features, 1), torch.einsum("bi,bj,bk->bijk", first, second, third).flatten(1)

    classes = tuple("".join(names) for names in product(part.classes, repeat=3))
    return Extractor(f"each colour by the {part.name}", part.hash, network, classes)


def random_convolutions(training: Source) -> Extractor:
    """The same network with random weights, for images without labels.

    Reference: Naeem et al. (2020), Reliable Fidelity and Diversity Metrics for Generative Models,
    arXiv:2002.09797, which finds such embeddings fit for data unlike ImageNet.
    """
    channels, side, _ = training.spec().shape
    network = fresh(training, 1)
    name = f"convolutions of random weights, for images of {side}x{side}x{channels} without labels"
    return Extractor(name, hash_of(network), lambda x: (network(x)[0], None))


def inception(path: Path) -> Extractor:
    """Inception with the weights in a file, as the published FID takes them.

    The file is TorchScript with the interface of the StyleGAN metrics (uint8 images in, `return_features`),
    or the weights alone (.pth, .safetensors) by the names of `sparring.nets.inception`.

    Raises:
        UserError: For a file that is missing or something else.
    """
    try:
        mark = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be read ({error.strerror}): --features takes default, pixels, or a file with the weights "
            "of Inception."
        ) from None
    name = f"Inception of {path.name}"
    if is_script(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript, which these files are and stay
            script = torch.jit.load(path, map_location="cpu").eval()
        return Extractor(name, mark, lambda x: (scripted(script, x), None), quick=False)
    network = restored(path)
    return Extractor(name, mark, lambda x: network(bytes_of(x)), quick=False)


def is_script(path: Path) -> bool:
    """Whether a file holds TorchScript: an archive with code in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(PurePath(name).name == "constants.pkl" for name in archive.namelist())


def restored(path: Path) -> Inception:
    """Our Inception with the weights in a file."""
    with seeded():  # its first weights are drawn, and thrown away
        network = Inception()
    try:
        safe = path.suffix == ".safetensors"
        network.load_state_dict(load_file(path) if safe else torch.load(path, "cpu", weights_only=True))
    except Exception:  # PyTorch names a dozen ways in which a file is not what it reads
        raise UserError(
            f"'{path}' holds no weights of the Inception that the FID is defined by: give "
            "pt_inception-2015-12-05-6726825d.pth, or TorchScript such as inception-2015-12-05.pt."
        ) from None
    return network


def scripted(script: Any, x: Tensor) -> Tensor:
    """Features (B, 2048) by TorchScript."""
    try:
        found = script(bytes_of(x), return_features=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"This TorchScript does not take uint8 images and return_features ({reason}).") from None
    if found.shape != (len(x), FEATURES):
        raise UserError(f"This TorchScript gives {tuple(found.shape)} where Inception gives {(len(x), FEATURES)}.")
    return found


def bytes_of(x: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8 of three colours, as they would be saved."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)


def hash_of(network: nn.Module | None = None) -> str:
    """12 hexadecimal digits of the weights, or of none."""
    found = hashlib.sha256(str(VERSION).encode())
    for key, tensor in network.state_dict().items() if network is not None else ():
        found.update(key.encode() + tensor.contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def digest(values: Any, digits: int) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:digits]
