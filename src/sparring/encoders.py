"""Networks that turn images into features: a run of ours, an exported file, a function of the user's, a timm name."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from sparring.data import Source, batches, cache_folder, settled
from sparring.data.encoded import Features
from sparring.data.fingerprint import fingerprint
from sparring.errors import UserError
from sparring.files import expanded, write_bytes
from sparring.job import read_run
from sparring.nets.taps import Network, Plain, Recorder, Tapped
from sparring.protocol import Classifies
from sparring.weights import load_game, spec_of, unfinished

BATCH = 64  # images at once
CHUNK = 2048  # images whose features are kept in one file, so that little is lost when it is stopped
SEEN = "seen.txt"  # in a classifier's run: the data and the split that it learnt from, then the names of the examples

Tell: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Encoder:
    """Features of images in [-1, 1], and logits where there are some.

    Attributes:
        name: What it is, in words.
        hash: 12 hexadecimal digits that follow from its weights and the layer.
        network: Gives features (B, D) and logits (B, K) or None.
        shape: (channels, side) of the images that it takes; None takes any.
        outputs: Names of the K classes, where they have names.
        seen: Where it was trained: data, split and the names of the examples; None where that is not known.
        cached: Whether features are kept on disk, by the hash.
    """

    name: str
    hash: str
    network: Network
    shape: tuple[int, int] | None = None
    outputs: tuple[str, ...] = ()
    seen: tuple[str, str, frozenset[str]] | None = None
    cached: bool = True

    @property
    def view(self) -> dict[str, Any]:
        """How data are opened for it: options of `open_source`."""
        return {} if self.shape is None else {"channels": self.shape[0], "size": self.shape[1]}

    def encode(self, source: Source, tell: Tell = lambda sentence: None) -> Features:
        """The features of all examples of a source, from the cache as far as they were computed before.

        Raises:
            UserError: For vectors, and for features that are NaN or infinite.
        """
        if not source.is_image:
            raise UserError(f"'{source.name}' holds vectors, and {self.name} takes images: leave the backbone out.")
        folder = cache_folder() / "encoded" / f"{self.hash}-{fingerprint(source) if self.cached else ''}"
        starts = range(0, len(source), CHUNK)
        kept = sum((folder / f"{start}.safetensors").exists() for start in starts)
        if kept < len(starts):
            tell(f"Computing the features of {len(source):,} images by {self.name}" + (", going on." if kept else "."))
        parts = [self._part(folder / f"{k}.safetensors", source.take(slice(k, k + CHUNK))) for k in starts]
        items = np.concatenate([part["features"].numpy() for part in parts])
        if not np.isfinite(items).all():
            raise UserError(f"{self.name} gives features of '{source.name}' that are NaN or infinite: mend it.")
        logits = np.concatenate([part["logits"].numpy() for part in parts]) if "logits" in parts[0] else None
        return Features(
            name=source.name, split=source.split, names=source.names, labels=source.labels, classes=source.classes,
            originals=source.originals, normal=source.normal, notes=source.notes, skipped=source.skipped, items=items,
            encoder=self.hash, logits=logits, outputs=self.outputs, unseen=self._unseen(source),
        )  # fmt: skip

    @torch.no_grad()
    def _part(self, path: Path, source: Source) -> dict[str, Tensor]:
        with suppress(FileNotFoundError, SafetensorError):
            if self.cached:
                return load_file(path)
        features, logits = zip(*(self.network(x) for x in batches(source, BATCH)), strict=True)
        found = {"features": torch.cat(features).float().contiguous()}
        if logits[0] is not None:
            found["logits"] = torch.cat(logits).float().contiguous()
        with suppress(UserError):  # a cache that cannot be written is done without
            if self.cached:
                write_bytes(path, safetensors_bytes(found))
        return found

    def _unseen(self, source: Source) -> np.ndarray | None:
        """Which examples it was not trained on; None where that cannot be told."""
        if self.seen is None:
            return None
        data, split, names = self.seen
        if settled(source.name) != data or (source.split or "train") != split:
            return None
        return np.array([name not in names for name in source.names])


def open_encoder(backbone: str, layer: str | None = None) -> Encoder:
    """Open an encoder.

    Args:
        backbone: The folder of a run, a file of torch.export or TorchScript, `module:function`, or a name of timm.
        layer: Name of the layer whose output is taken; by default what the last layer is given.

    Raises:
        UserError: For anything else, or a layer that is not there.
    """
    path = expanded(backbone)
    if path.is_dir():
        return of_run(path, layer)
    if path.is_file():
        return of_file(path, layer)
    if ":" in backbone:
        return of_function(backbone, layer)
    if find_spec("timm") is None:
        raise UserError(
            f"There is no backbone '{backbone}': give a run, a file of torch.export or TorchScript, module:function, "
            "or a name of timm, which is not installed."
        )
    return of_timm(backbone, layer)


def of_run(folder: Path, layer: str | None) -> Encoder:
    """A run: a classifier, or the discriminator of a GAN."""
    job, facts = read_run(folder)
    spec = spec_of(facts)
    if not spec.is_image:
        raise UserError(f"'{folder}' was trained on vectors, and a backbone takes images: name another run.")
    if unfinished(folder):
        raise UserError(
            f"The training of '{folder}' stopped before its end, and a backbone is trained already: go on with "
            f"'sparring train --resume --out {folder}'."
        )
    game = load_game(folder, job, spec)
    if isinstance(game, Classifies):
        network: Network = Tapped(game, layer, game.classify)
        outputs = spec.classes
    else:
        network, outputs = of_player(game, layer, job.model), ()
    name = f"{job.model} of {folder.name}"
    return Encoder(name, mark(game, layer), network, (spec.shape[0], spec.shape[-1]), outputs, seen_by(folder))


def of_player(game: Any, layer: str | None, name: str) -> Network:
    """The discriminator of a GAN, or its encoder where the discriminator judges pairs.

    Raises:
        UserError: Where there is neither.
    """
    players = [getattr(game, player, None) for player in ("discriminator", "critic")]
    judge = next((player for player in players if isinstance(player, nn.Module)), None)
    if judge is not None and len(inspect.signature(judge.forward).parameters) == 1:
        return Tapped(judge, layer, lambda x: judge(game.seen(x)), logits=False)
    if isinstance(getattr(game, "encoder", None), nn.Module) and hasattr(game, "encode"):
        return Tapped(game.encoder, layer, game.encode, logits=False)
    raise UserError(f"A run of {name} has no network that describes images by themselves: train a classifier.")


def seen_by(folder: Path) -> tuple[str, str, frozenset[str]] | None:
    """What a run has noted of the examples that it learnt from."""
    try:
        data, split, *names = (folder / SEEN).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return data, split, frozenset(names)


def of_file(path: Path, layer: str | None) -> Encoder:
    """A program of torch.export, or TorchScript: what it gives is taken as features, or as features and logits."""
    if not zipfile.is_zipfile(path):
        raise UserError(f"'{path}' is no network: give a run, or a file of torch.export.save or torch.jit.save.")
    with zipfile.ZipFile(path) as archive:
        scripted = any(Path(name).name == "constants.pkl" for name in archive.namelist())
    digest = hashlib.sha256(path.read_bytes() + (layer or "").encode()).hexdigest()[:12]
    try:
        if scripted:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript, which these files are and stay
                program: Any = torch.jit.load(path, map_location="cpu").eval()
        else:
            program = torch.export.load(path).module()
    except Exception as error:  # PyTorch names a dozen ways in which a file is not what it reads
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"'{path}' cannot be read as a network ({reason}): save it anew.") from None
    if scripted and layer is not None:
        raise UserError(f"'{path}' is TorchScript, whose layers have no names here: leave --layer out.")
    return Encoder(path.name, digest, Plain(program) if scripted else Recorder(program, layer))


def of_function(name: str, layer: str | None) -> Encoder:
    """`module:function`: a module, what makes one without arguments, or what maps images to features."""
    home, _, what = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(home)
        value = getattr(module, what)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"There is no '{name}' to import ({error}): give module:function.") from None
    finally:
        sys.path.pop(0)
    if not callable(value):
        what = type(value).__name__
        raise UserError(f"'{name}' is of type {what}, and a backbone is a module or a function: name one.")
    if not isinstance(value, nn.Module) and not any(
        p.default is p.empty for p in inspect.signature(value).parameters.values()
    ):
        value = value()
    if isinstance(value, nn.Module):
        return of_module(value, name, layer)
    if layer is not None:
        raise UserError(f"'{name}' is a function and has no layers: leave --layer out.")
    code = Path(str(module.__file__)).read_bytes()
    return Encoder(name, hashlib.sha256(name.encode() + code).hexdigest()[:12], Plain(value))


def of_module(module: nn.Module, name: str, layer: str | None, cached: bool = True) -> Encoder:
    """A module, which is put in eval mode: what a layer gives as features, and its output as logits."""
    return Encoder(name, mark(module, layer), Tapped(module.eval(), layer), cached=cached)


def of_timm(name: str, layer: str | None) -> Encoder:
    """A network of timm with its published weights, on images as it was trained to see them."""
    timm: Any = importlib.import_module("timm")
    try:
        model = timm.create_model(name, pretrained=True).eval()
    except Exception as error:  # timm, the hub and the network name a dozen ways in which there are no weights
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"timm cannot make '{name}' ({reason}): see timm.list_models(), or go online once.") from None
    config = model.pretrained_cfg
    mean, deviation = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    tapped = Tapped(model, layer)
    return Encoder(
        name, mark(model, layer), lambda x: tapped(((x + 1) / 2 - mean) / deviation), (3, config["input_size"][-1])
    )


def mark(module: nn.Module, layer: str | None) -> str:
    """12 hexadecimal digits of the weights and the layer."""
    digest = hashlib.sha256((layer or "").encode())
    for key, tensor in module.state_dict().items():
        digest.update(key.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def check_same(encoder: str, other: str, name: str) -> None:
    """Refuse features of another encoder than the one that a run stands on; "" is not known, and passes.

    Raises:
        UserError: Where they differ.
    """
    if encoder and other and encoder != other:
        raise UserError(
            f"'{name}' holds features of the encoder {other}, and these of {encoder} are wanted: make them anew with "
            "sparring features, by the same backbone."
        )


def as_features(source: Source, encoder: Encoder | None) -> Source:
    """Images as features where there is an encoder; features as they are, if they come from it."""
    if encoder is None:
        return source
    if source.is_image:
        return encoder.encode(source)
    check_same(encoder.hash, source.encoder if isinstance(source, Features) else "", source.name)
    return source
