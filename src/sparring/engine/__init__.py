"""The one training loop. It is handed `draw` and `judge`, and knows no model, no data and no metric."""

from sparring.engine.loop import Engine, Interrupted

__all__ = ["Engine", "Interrupted"]
