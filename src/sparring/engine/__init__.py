"""The one training loop. It is handed `draw` and `judge`, and knows no model, no data and no metric."""

from sparring.engine.loop import LOOKS, Engine, Interrupted, Judge

__all__ = ["LOOKS", "Engine", "Interrupted", "Judge"]
