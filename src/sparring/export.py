"""Scoring without PyTorch: a detector as an ONNX file, run by onnxruntime where that is installed."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparring.errors import UserError
from sparring.protocol import Game, Scores

TOLERANCE = 1e-5  # relative to the largest score: how far an exported score may lie from PyTorch's

Scorer = Callable[[Tensor], np.ndarray]


class _Scoring(nn.Module):
    def __init__(self, game: Game) -> None:
        super().__init__()
        self.game = game

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.game, Scores)
        return self.game.score(x)


def has_onnx() -> bool:
    """Whether everything that export and onnxruntime need is installed."""
    return all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


def to_onnx(game: Game) -> bytes:
    """Export the scorer of a detector: input "x" (B, *shape) float32, output "score" (B,), any B.

    Its scores are compared with PyTorch's before it is handed out.

    Raises:
        UserError: Where the onnx extra is missing, or the game scores nothing or by a search.
    """
    if not isinstance(game, Scores):
        raise UserError(f"{type(game).__name__} gives no scores: export a detector, such as ganomaly.")
    if not game.exportable:
        raise UserError(f"The scores of {type(game).__name__} follow gradients, and ONNX has none: score with PyTorch.")
    if not has_onnx():
        raise UserError("ONNX export needs packages that are missing: pip install 'sparring[onnx]'.")
    x = torch.rand(3, *game.spec.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with quiet[0], quiet[1], warnings.catch_warnings(), _hushed():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Scoring(game).eval(), (x,), input_names=["x"], output_names=["score"], dynamo=True,
            dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1)}}, verbose=False,
        )  # fmt: skip
    assert program is not None
    data = program.model_proto.SerializeToString()
    with torch.no_grad():
        expected = game.score(x).numpy()
    found = session(data)(x)
    if np.abs(found - expected).max() > TOLERANCE * max(1.0, np.abs(expected).max()):
        raise ArithmeticError(f"ONNX scores {found} differ from PyTorch's {expected}")
    return data


@contextlib.contextmanager
def _hushed() -> Any:
    """Keep the exporter's remarks on packages that are not installed to itself."""
    names = ("torch.onnx", "onnxscript", "torch.onnx._internal.exporter._registration")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def session(model: Path | bytes, threads: int | None = None) -> Scorer:
    """Open an exported scorer: (B, *shape) float32 tensor to (B,) float32 array."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    source = model if isinstance(model, bytes) else str(model)
    runner = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def score(x: Tensor) -> np.ndarray:
        return runner.run(["score"], {"x": np.ascontiguousarray(x.numpy())})[0]

    return score
