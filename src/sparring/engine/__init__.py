"""The one training loop. It is handed `draw` and `judge`, and knows no model, no data and no metric."""

from sparring.engine.loop import Engine, Interrupted, Judge

__all__ = ["Engine", "Interrupted", "Judge"]
