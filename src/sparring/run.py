"""A run: the folder that a training leaves behind, and what can be done with it."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from sparring import models
from sparring.data import Source, batches, open_source
from sparring.errors import UserError
from sparring.export import Scorer, has_onnx, session, to_onnx
from sparring.files import write_bytes
from sparring.job import Job, read_run
from sparring.metrics.conformal import Calibration
from sparring.protocol import Game, Maps, Scores, Spec
from sparring.sampling import Label, Sampler
from sparring.text import TextEncoder, restore

BATCH = 64  # examples scored at once


@dataclass(frozen=True)
class Verdicts:
    """What a detector says of each example of a source.

    Attributes:
        source: The examples, in order.
        score: Higher is stranger, (N,).
        p_value: Share of held-out normal examples at least as strange, (N,); small is strange.
        flagged: Whether p_value <= false_alarms, (N,).
        false_alarms: Share of normal examples that may be flagged.
        threshold: The score above which an example is flagged.
    """

    source: Source
    score: np.ndarray
    p_value: np.ndarray
    flagged: np.ndarray
    false_alarms: float
    threshold: float

    @property
    def kinds(self) -> list[str] | None:
        """Class name of each example, where there are labels."""
        labels = self.source.labels
        return None if labels is None else [self.source.classes[k] for k in labels]

    def anomalous(self, normal: Sequence[str]) -> np.ndarray | None:
        """Whether each example is of a class that is not normal, (N,); None where that is not known."""
        return None if self.kinds is None or not normal else np.array([kind not in normal for kind in self.kinds])

    def table(self) -> dict[str, list[Any]]:
        """Columns of the result, by name."""
        verdicts = ["strange" if flag else "normal" for flag in self.flagged]
        kinds = {} if self.kinds is None else {"class": self.kinds}
        return {
            "name": list(self.source.names), "score": self.score.tolist(), "p_value": self.p_value.tolist(),
            "verdict": verdicts, **kinds,
        }  # fmt: skip

    def save(self, path: Path) -> None:
        """Write the table as .csv or .parquet, whole or not at all."""
        check_table(path)
        table = self.table()
        if path.suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            sink = pyarrow.BufferOutputStream()
            pyarrow.parquet.write_table(pyarrow.table(table), sink)
            write_bytes(path, sink.getvalue().to_pybytes())
        else:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))
            write_bytes(path, text.getvalue().encode())


def check_table(path: Path) -> None:
    """Raise a UserError for a file that is neither .csv nor .parquet."""
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"'{path}' is no table that can be written: give a file that ends in .csv or .parquet.")


@dataclass(frozen=True)
class Run:
    """A trained model in its folder.

    Args:
        folder: Holds run.yaml, journal.jsonl, model.safetensors, checkpoint, samples/ and report.html.
    """

    folder: Path

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
        spec = self.facts["spec"]
        return Spec(tuple(spec["shape"]), spec["count"], tuple(spec["classes"]), spec.get("caption", 0))

    @property
    def normal(self) -> tuple[str, ...]:
        """Names of the classes that counted as normal in training."""
        return tuple(self.facts.get("normal", ()))

    @cached_property
    def game(self) -> Game:
        """The trained networks, in eval mode."""
        entry = models.find(self.job.model)
        with torch.random.fork_rng():  # its first weights are drawn, and thrown away
            game = entry.game(self.spec, entry.recipe.read(self.job.recipe))
        load_weights(game, self.folder / "model.safetensors")
        return game.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @cached_property
    def encoder(self) -> TextEncoder:
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
        return Sampler(self.game, self.job.model, seed)

    def sample(self, n: int = 64, seed: int = 0, label: Label = None) -> Tensor:
        """Make n examples, (n, *shape) float32, images in [-1, 1]; the same for the same seed.

        Args:
            label: A class by name or number, or n numbers; None leaves the class to chance.
        """
        return torch.cat(list(self.sampler(seed).parts(n, label)))

    def open(self, data: Any = None, split: str | None = "test", **options: Any) -> Source:
        """Open data as this run was trained to see it; None is the run's own data."""
        shape = self.spec.shape
        if self.spec.is_image:
            options |= {"size": shape[-1], "channels": shape[0]}
        source = open_source(self.job.data if data is None else data, split=split, **options)
        if source.spec().shape != shape:
            raise UserError(
                f"'{source.name}' holds examples of shape {source.spec().shape}, and the run was trained on {shape}: "
                "give data of the same shape."
            )
        return source

    @cached_property
    def scorer(self) -> Scorer:
        """Score (B, *shape) float32 examples: by onnxruntime where it is installed, else by PyTorch."""
        self.can(Scores, "score", "train a detector, such as ganomaly")
        weights = (self.folder / "model.safetensors").read_bytes()
        exported = self.folder / f"scorer-{hashlib.sha256(weights).hexdigest()[:12]}.onnx"
        if not has_onnx():
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

    def raw_scores(self, source: Source) -> np.ndarray:
        """Score every example of a source, (N,) float64."""
        parts = [self.scorer(x) for x in batches(source, BATCH)]
        return np.concatenate(parts).astype(np.float64)

    def score(self, data: Any = None, false_alarms: float = 0.05, **options: Any) -> Verdicts:
        """Judge every example of a source, a path, a name or an array.

        Args:
            false_alarms: Share of normal examples that may be flagged, in (0, 1).
            options: As for `open`.
        """
        calibration = self.calibration
        source = data if isinstance(data, Source) else self.open(data, **options)
        score = self.raw_scores(source)
        flagged = calibration.strange(score, false_alarms)
        threshold = calibration.threshold(false_alarms)
        return Verdicts(source, score, calibration.p_value(score), flagged, false_alarms, threshold)

    @torch.no_grad()
    def maps(self, source: Source) -> Iterator[np.ndarray]:
        """Map how strange each pixel is, (H, W) float32 at the size the model sees, one image at a time."""
        self.can(Maps, "map anomalies", "train a detector that localises, such as ganomaly")
        if not self.spec.is_image:
            raise UserError(f"'{source.name}' holds vectors, and maps are for images: leave --maps out.")
        assert isinstance(self.game, Maps)
        for x in batches(source, BATCH):
            yield from self.game.anomaly_map(x).float().numpy()


def save_weights(game: Game, path: Path) -> None:
    """Write the weights as safetensors, whole or not at all."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in game.state_dict().items()}
    write_bytes(path, safetensors_bytes(tensors, {"model": type(game).__name__}))


def load_weights(game: Game, path: Path) -> None:
    """Read weights into a game.

    Raises:
        UserError: For a file that is missing, damaged or of another model.
    """
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise UserError(f"'{path}' is not there: the training has not ended, go on with --resume.") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"'{path}' is damaged or cut short ({error}): restore it, or train again.") from error
    try:
        game.load_state_dict(tensors)
    except RuntimeError:
        raise UserError(
            f"'{path}' holds the weights of another model than {type(game).__name__} with this recipe: "
            "restore the file that belongs to this run."
        ) from None


def load(folder: str | Path) -> Run:
    """Open a run.

    Raises:
        UserError: For a folder that is not a run.
    """
    run = Run(Path(folder))
    _ = run.job
    return run
