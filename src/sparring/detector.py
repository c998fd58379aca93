"""The scikit-learn face of every game that scores."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from sparring import models
from sparring.data import Source, batches, open_source
from sparring.errors import UserError
from sparring.metrics.conformal import Calibration
from sparring.preparation import ask, set_up
from sparring.protocol import Game
from sparring.scoring import scores_of
from sparring.training import make_fabric, start

BATCH = 256


class Detector(OutlierMixin, BaseEstimator):
    """Learn what is normal, and tell what is not: any adversarial detector as a scikit-learn estimator.

    Args:
        model: Name of a detector, such as "ganomaly".
        recipe: Hyper-parameters that differ from the paper's, by name, such as {"epochs": 5}.
        variant: Variant of the recipe.
        size: Side at which images are seen, in pixels; None is the nearest one that the model takes.
        false_alarms: Share of normal examples that `predict` may flag, in (0, 1).
        seed: Of everything random; the same seed gives the same detector.
        device: "auto", "cpu" or "cuda".

    Attributes:
        game_: The trained networks, in eval mode.
        calibration_: Scores of the fifth of the examples that was held out of the training.
        offset_: `decision_function` is `score_samples - offset_`; negative is strange.
        n_features_in_: Numbers in one example.

    Examples are features (N, D), or images (N, H, W) or (N, H, W, C), uint8 or in [0, 1].

        >>> from sklearn.datasets import load_digits
        >>> x, y = load_digits(return_X_y=True)
        >>> detector = Detector("ganomaly", recipe={"rounds": 2}).fit(x[y == 0])
        >>> sorted(set(detector.predict(x).tolist())) <= [-1, 1]
        True
    """

    def __init__(
        self,
        model: str = "ganomaly",
        *,
        recipe: dict[str, Any] | None = None,
        variant: str = "default",
        size: int | None = None,
        false_alarms: float = 0.05,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.variant = variant
        self.size = size
        self.false_alarms = false_alarms
        self.seed = seed
        self.device = device

    def fit(self, X: Any, y: Any = None) -> Detector:  # noqa: N803
        """Train on four fifths of X, all of it normal, and calibrate on the last fifth.

        Raises:
            UserError: For a model that gives no scores, or input that is neither features nor images.
        """
        entry = models.find(self.model)
        if not hasattr(entry.game, "score"):
            raise UserError(f"{self.model} gives no scores: take a detector, such as ganomaly.")
        settings = {"variant": self.variant, "size": self.size, "seed": self.seed, "device": self.device}
        job = ask(self.model, "array", self.recipe or {}, **settings)
        fit_side = partial(entry.game.fit_side, recipe=entry.recipe.read(job.recipe))
        source = self._source(self._checked(X, first=True), self.size or fit_side)
        setup = set_up(job, source)
        fabric = make_fabric(job)
        fabric.launch()
        start(fabric, setup, None)
        assert isinstance(setup.held, Source)
        self.game_: Game = setup.game.cpu().eval()
        if not self.game_.spec.is_image:  # small networks: float64 makes scores the same in every batch, to 1e-7
            self.game_.double()
        self.calibration_ = Calibration(scores_of(self.game_, batches(setup.held, BATCH)))
        self.offset_ = -self.calibration_.threshold(self.false_alarms)
        return self

    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """How normal each example is, (N,); lower is stranger: the negated score of the paper."""
        check_is_fitted(self)
        shape = self.game_.spec.shape
        source = self._source(self._checked(X), shape[-1], shape[0] if len(shape) == 3 else None)
        if source.spec().shape != shape:
            raise UserError(
                f"X holds examples of shape {source.spec().shape}, but the detector is expecting {shape}: give it the "
                "kind of data it was fitted on."
            )
        return -scores_of(self.game_, batches(source, BATCH))

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """How far each example is on the normal side of the threshold, (N,); negative is strange."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """1 for what passes as normal and -1 for what is strange, (N,) int."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> np.ndarray:  # noqa: N803
        """Share of held-out normal examples at least as strange as each example, (N,)."""
        return self.calibration_.p_value(-self.score_samples(X))

    def _checked(self, X: Any, first: bool = False) -> np.ndarray:  # noqa: N803
        """Leave images to the data layer, and check features as scikit-learn does."""
        given = np.asarray(X) if hasattr(X, "shape") else X
        if getattr(given, "ndim", 2) > 2:
            check_array(given, allow_nd=True, dtype=None)
            if first:
                self.n_features_in_ = int(np.prod(given.shape[1:]))
            return given
        return validate_data(self, X, reset=first, dtype=np.float32, ensure_min_samples=2 if first else 1)

    def _source(self, x: np.ndarray, size: Any, channels: int | None = None) -> Source:
        return open_source(x, size=size if x.ndim > 2 else None, channels=channels)
