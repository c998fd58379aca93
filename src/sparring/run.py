"""A run: the folder that a training leaves behind, and what can be done with it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparring.closed_set import Head, logits_of, named
from sparring.data import Domain, Grid, Region, Source, Tiled, located, open_source, open_tiled, or_test, to_tensor
from sparring.data.encoded import Features
from sparring.data.flow import Flow
from sparring.encoders import Encoder, as_features, check_same, open_encoder
from sparring.errors import UserError, unknown
from sparring.export import Scorer, has_onnx, session, to_onnx
from sparring.files import expanded, write_bytes
from sparring.job import Job, read_run, write_run
from sparring.metrics.conformal import Calibration
from sparring.protocol import Game, Maps, Scores, Spec, Translates
from sparring.sampling import Label, Sampler
from sparring.text import TextEncoder, restore
from sparring.verdicts import Verdicts
from sparring.weights import load_game, spec_of, unfinished

BATCH = 64  # examples scored at once
HEAD = "head.npz"  # the linear model that names the known classes, where the features bring no logits
DOMAINS = ("a", "b")


@dataclass(frozen=True)
class Run:
    """A trained model in its folder.

    Args:
        folder: Holds run.yaml, journal.jsonl, model.safetensors, checkpoint, samples/ and report.html.
        stage: Of a model that makes images in stages, the one whose images are sampled; None is the last.
    """

    folder: Path
    stage: int | None = None

    @cached_property
    def _read(self) -> tuple[Job, dict[str, Any]]:
        return read_run(self.folder)

    @property
    def job(self) -> Job:
        return self._read[0]

    @property
    def facts(self) -> dict[str, Any]:
        return self._read[1]

    @property
    def spec(self) -> Spec:
        return spec_of(self.facts)

    @property
    def grid(self) -> Grid | None:
        """How images are cut into tiles; None where they are seen whole."""
        return Grid(self.job.tile, self.job.overlap or 0) if self.job.tile else None

    @cached_property
    def region(self) -> Region | None:
        """Where images count, as the training was told; None for everywhere."""
        return Region.read(self.folder / "roi.png") if self.job.roi else None

    @property
    def normal(self) -> tuple[str, ...]:
        """Names of the classes that counted as normal in training."""
        return tuple(self.facts.get("normal", ()))

    @cached_property
    def game(self) -> Game:
        """The trained networks, in eval mode; those of a generator's last checkpoint where its training has stopped."""
        return load_game(self.folder, self.job, self.spec)

    @property
    def unfinished(self) -> str:
        """A sentence on a training that has stopped before its end; empty for one that has not."""
        if not unfinished(self.folder):
            return ""
        return (
            f"The training stopped before its {self.facts['rounds']:,} rounds were done: this is its last checkpoint."
        )

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """What turned the captions of the training into vectors.

        Raises:
            UserError: For a run without captions, and where the encoder is not to be had on this machine.
        """
        if not self.game.captioned:
            raise UserError(f"A run of {self.job.model} reads no texts: train a model that does, such as stackgan.")

        def data() -> Source:
            job = self.job
            return self.open(None, job.split, classes=job.classes or None, limit=job.limit)

        return restore(self.folder, self.job.text, self.facts["text"], data)

    @cached_property
    def calibration(self) -> Calibration:
        """Scores of the normal examples that training never saw."""
        self.can(Scores, "score", "train a detector, such as ganomaly")
        return Calibration.load(self.folder / "calibration.npy")

    @cached_property
    def map_scale(self) -> tuple[float, float]:
        """Where colour begins and where it is strongest: median and 99.9 % quantile of held-out normal pixels."""
        self.can(Maps, "map anomalies", "train a detector that localises, such as ganomaly")
        if not self.spec.is_image:
            raise UserError(f"'{self.folder}' was trained on vectors, and maps are for images: leave --maps out.")
        path = self.folder / "map_scale.npy"
        try:
            low, high = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError, TypeError):
            raise UserError(f"'{path}' is missing or damaged: go on with --resume, which writes it anew.") from None
        return float(low), float(high)

    def can(self, face: type, verb: str, remedy: str) -> None:
        """Raise a UserError where the model lacks a face."""
        if not isinstance(self.game, face):
            raise UserError(f"A run of {self.job.model} cannot {verb}: {remedy}.")

    def sampler(self, seed: int = 0) -> Sampler:
        """Make examples of this seed in any way there is: by class, along lines, around latent vectors.

        Raises:
            UserError: For a model that generates nothing.
        """
        return Sampler(self.game, self.job.model, seed, self.stage)

    def sample(self, n: int = 64, seed: int = 0, label: Label = None) -> Tensor:
        """Make n examples, (n, *shape) float32, images in [-1, 1]; the same for the same seed.

        Args:
            label: A class by name or number, or n of them; an array or a tensor holds places in the list of classes.
                None leaves the class to chance.
        """
        return torch.cat(list(self.sampler(seed).parts(n, label)))

    def owns(self, data: Any) -> bool:
        """Whether these are the data that the run was trained on; None stands for them."""
        return data is None or (isinstance(data, (str, Path)) and located(data) == located(self.job.data))

    def open(self, data: Any = None, split: str | None = "test", **options: Any) -> Source:
        """Open data as this run was trained to see it, as wholes; None is the run's own data."""
        source = self.look(data, split, **options)
        if isinstance(source, Tiled):
            raise UserError(f"'{self.folder}' sees images through tiles: it can score, map and evaluate, and no more.")
        return source

    def look(self, data: Any = None, split: str | None = "test", **options: Any) -> Source | Tiled:
        """Open data as this run was trained to see it, whole or through tiles; None is the run's own data."""
        shape = self.spec.shape
        if self.spec.is_image:
            options |= {"channels": shape[0], "region": self.region}
        elif self.encoder is not None:
            options |= self.encoder.view
        data = self.job.data if data is None else data
        if self.grid is not None:
            return open_tiled(data, self.grid, split=split, **options)
        if self.spec.is_image:
            options["size"] = shape[-1]
        encoder = self.encoder
        if encoder is not None and options.get("keep") == "nowhere":
            encoder = replace(encoder, cached=False)
        source = as_features(open_source(data, split=split, **options), encoder)
        if isinstance(source, Features):
            check_same(self.facts.get("encoder") or "", source.encoder, source.name)
        if source.spec().shape != shape:
            raise UserError(
                f"'{source.name}' holds examples of shape {source.spec().shape}, and the run was trained on {shape}: "
                "give data of the same shape."
            )
        return source

    @cached_property
    def encoder(self) -> Encoder | None:
        """The backbone whose features the run stands on; None where it was trained on the examples themselves.

        Raises:
            UserError: Where it is another network by now.
        """
        if self.job.backbone is None:
            return None
        encoder = open_encoder(self.job.backbone, self.job.layer)
        check_same(self.facts["encoder"], encoder.hash, self.job.backbone)
        return encoder

    @property
    def recognised(self) -> tuple[str, ...]:
        """Names of the classes that an open-set model knows; empty for other models."""
        return tuple(self.facts.get("recognised", ()))

    def noted(self, notes: Sequence[str]) -> Run:
        """The same run, with these sentences among its notes."""
        write_run(self.folder, self.job, {**self.facts, "notes": [*self.facts["notes"], *notes]})
        return Run(self.folder)

    def named(self, source: Source) -> tuple[list[str], np.ndarray] | None:
        """The most likely known class of each example and its probability; None where nothing here tells."""
        known = self.recognised
        logits = logits_of(source, known, Head.load(self.folder / HEAD)) if known else None
        if logits is None:
            return None
        numbers, probability = named(logits)
        return [known[k] for k in numbers], probability

    @cached_property
    def scorer(self) -> Scorer:
        """Score (B, *shape) float32 examples: by onnxruntime where it is installed, else by PyTorch."""
        self.can(Scores, "score", "train a detector, such as ganomaly")
        weights = (self.folder / "model.safetensors").read_bytes()
        exported = self.folder / f"scorer-{hashlib.sha256(weights).hexdigest()[:12]}.onnx"
        if not has_onnx() or not self.game.exportable:
            return self.score_eagerly
        if exported.exists():
            try:
                return session(exported)
            except Exception:  # onnxruntime names a dozen ways in which a file can be damaged
                exported.unlink(missing_ok=True)
        model = to_onnx(self.game)
        with contextlib.suppress(UserError):  # a run that cannot be written to is scored all the same
            write_bytes(exported, model)
        return session(model)

    @torch.no_grad()
    def score_eagerly(self, x: Tensor) -> np.ndarray:
        """Score (B, *shape) float32 examples by PyTorch."""
        assert isinstance(self.game, Scores)
        return self.game.score(x).float().numpy()

    def raw_scores(self, source: Source | Tiled) -> np.ndarray:
        """Score every example of a source, (N,) float64; of one seen through tiles, by its strangest tile."""
        return source.scores(lambda rows: self.scorer(to_tensor(rows)), BATCH)

    def score(self, data: Any = None, false_alarms: float = 0.05, **options: Any) -> Verdicts:
        """Judge every example of a source, a path, a name or an array.

        Args:
            false_alarms: Share of normal examples that may be flagged.
            options: As for `look`.
        """
        calibration = self.calibration
        source = data if isinstance(data, (Source, Tiled)) else self.look(data, **options)
        named = self.named(source) if isinstance(source, Source) else None
        return Verdicts.of(source, self.raw_scores(source), calibration, false_alarms, *(named or ()))

    def maps(self, source: Source | Tiled) -> Iterator[np.ndarray]:
        """Map how strange each pixel is, (H, W) float32 at the image's own resolution, one image at a time.

        A run on tiles maps the whole image, any other its central square, as it sees them.
        """
        self.can(Maps, "map anomalies", "train a detector that localises, such as ganomaly")
        if not self.spec.is_image:
            raise UserError(f"'{source.name}' holds vectors, and maps are for images: leave --maps out.")
        yield from source.maps(self._map, BATCH)

    @torch.no_grad()
    def _map(self, rows: np.ndarray) -> np.ndarray:
        """Map rows (B, H, W, C) uint8 as the model sees them, (B, H, W) float32."""
        assert isinstance(self.game, Maps)
        return self.game.anomaly_map(to_tensor(rows)).float().numpy()

    def flow(self, data: Any, to: str, **options: Any) -> Flow:
        """Open data to translate, to be decoded as they are read; see `translate`."""
        self.can(Translates, "translate", "train a model that does, such as discogan")
        if to not in DOMAINS:
            raise unknown("domain", to, DOMAINS)
        if self.job.domains and self.owns(data):
            options |= {"domain": Domain(self.job.domains, second=to == "a")}
        if "split" in options:
            options["split"] = or_test(data, options["split"])
        return Flow(data, self.spec.shape, **options)

    @torch.no_grad()
    def translated(self, flow: Flow, to: str) -> Iterator[tuple[list[str], Tensor]]:
        """Names of some examples at a time, and what they are in domain `to`."""
        assert isinstance(self.game, Translates)
        for names, rows in flow:
            yield names, self.game.translate(to_tensor(rows), to).contiguous()

    def translate(self, data: Any, to: str = "b", **options: Any) -> Iterator[tuple[str, Tensor]]:
        """Translate data in any form, example by example: its name, and what it is in the other domain.

        Images (C, H, W) are in [-1, 1], at the size that the run was trained on. Only a few are in memory at a time.

        Args:
            data: A folder, a file, a name or an array, of the domain that is not `to`; see `sparring.data`. Of the
                run's own data, that domain is taken.
            to: The domain to go to: "a", which the run was trained on first, or "b".
            options: `split`, `limit` and `strict`, as for `open_source`.

        Raises:
            UserError: For a model that does not translate, or data that cannot be used.
        """
        flow = self.flow(data, to, **options)
        return (pair for names, part in self.translated(flow, to) for pair in zip(names, part, strict=True))


def load(folder: str | Path) -> Run:
    """Open a run.

    Raises:
        UserError: For a folder that is not a run.
    """
    run = Run(expanded(folder))
    _ = run.job
    return run
