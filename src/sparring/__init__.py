"""Adversarial models in PyTorch: make data, and tell what was never seen.

    >>> import sparring
    >>> "ganomaly" in sparring.models.names()
    True

The names below are loaded at their first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparring import models
    from sparring.comparison import compare
    from sparring.detector import Detector
    from sparring.errors import NonFinite, UserError
    from sparring.evaluation import evaluate
    from sparring.open_set import OpenSetClassifier
    from sparring.reproduction import reproduce
    from sparring.run import Run, load
    from sparring.training import train

__version__ = "0.1.0"

__all__ = [
    "Detector",
    "NonFinite",
    "OpenSetClassifier",
    "Run",
    "UserError",
    "__version__",
    "compare",
    "evaluate",
    "load",
    "models",
    "reproduce",
    "train",
]

_HOMES = {
    "Detector": "detector",
    "NonFinite": "errors",
    "OpenSetClassifier": "open_set",
    "Run": "run",
    "UserError": "errors",
    "compare": "comparison",
    "evaluate": "evaluation",
    "load": "run",
    "reproduce": "reproduction",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name == "models":
        return import_module("sparring.models")
    if name in _HOMES:
        return getattr(import_module(f"sparring.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'sparring' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
