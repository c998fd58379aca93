"""OpenGAN as a scikit-learn classifier that may answer "none of these"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import assert_all_finite, check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from sparring.data import Source, batches, open_source
from sparring.encoders import Encoder, open_encoder
from sparring.errors import UserError
from sparring.metrics.conformal import Calibration
from sparring.nets.taps import Plain
from sparring.preparation import ask, set_up
from sparring.protocol import Game
from sparring.scoring import scores_of
from sparring.training import make_fabric, start

BATCH = 1024
UNKNOWN = -1  # the answer for examples of none of the classes


class OpenSetClassifier(ClassifierMixin, BaseEstimator):
    """Name the class of an example, or say that it is of none.

    A classifier names the class, and OpenGAN judges whether the example is of any. Both see features: those of a
    backbone that is trained already, or X itself.

    Args:
        backbone: Turns images into features: a run, an exported file, `module:function`, a timm name, or a callable
            from images (B, C, H, W) in [-1, 1] to (B, D); None where X holds features.
        classifier: An estimator with `predict_proba` on features; None is logistic regression.
        recipe: Hyper-parameters of `opengan` that differ from the variant's, by name, such as {"epochs": 50}.
        variant: Variant of the recipe. "synthetic" also learns from outliers that it makes of X, which helps where no
            others are given; "default" is the paper's.
        false_alarms: Share of known examples that `predict` may call unknown, in (0, 1).
        seed: Of everything random; the same seed gives the same classifier.
        device: "auto", "cpu" or "cuda".

    Attributes:
        classes_: The known classes, sorted.
        classifier_: The fitted classifier.
        game_: The trained networks, in eval mode.
        calibration_: Scores of known examples that were held out of OpenGAN's training.
        selected_by_: In words, what the weights were chosen by.
        n_features_in_: Numbers in one example.

    A fifth of X is held out of OpenGAN's training: half of it chooses the weights, half calibrates. Fit on examples
    that the backbone was not trained on, if the p-values are to hold.

        >>> from sklearn.datasets import load_digits
        >>> x, y = load_digits(return_X_y=True)
        >>> known = y < 6
        >>> model = OpenSetClassifier(recipe={"rounds": 2}).fit(x[known], y[known])
        >>> sorted(set(model.predict(x).tolist()) - {-1}) <= [0, 1, 2, 3, 4, 5]
        True
    """

    def __init__(
        self,
        backbone: str | Callable[..., Any] | None = None,
        *,
        classifier: Any = None,
        recipe: dict[str, Any] | None = None,
        variant: str = "synthetic",
        false_alarms: float = 0.05,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.backbone = backbone
        self.classifier = classifier
        self.recipe = recipe
        self.variant = variant
        self.false_alarms = false_alarms
        self.seed = seed
        self.device = device

    def fit(self, X: Any, y: Any, outliers: Any = None) -> OpenSetClassifier:  # noqa: N803
        """Learn the classes of X, and what is of none of them.

        Args:
            X: Features (N, D), or images (N, H, W[, C]), uint8 or in [0, 1], where there is a backbone.
            y: The class of each example; -1 stands for unknown and is no class.
            outliers: Examples of no class, as X, to learn from; None learns from made ones alone.

        Raises:
            UserError: For one class only, a class -1, or features that are NaN.
        """
        if y is None:
            raise UserError("OpenSetClassifier requires y to be passed, but the target y is None: give the classes.")
        self.encoder_ = self._encoder()
        features, y = self._features(X, first=True), column_or_1d(y, warn=True)
        check_consistent_length(features, y)
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise UserError(f"The number of classes must be greater than one; got {len(self.classes_)} class.")
        if UNKNOWN in self.classes_.tolist():
            raise UserError("-1 stands for unknown in what `predict` answers: give that class another number.")
        given = {} if outliers is None else {"outlier": self._source(self._features(outliers))}
        settings = {"variant": self.variant, "seed": self.seed, "device": self.device, "normal": ("all",)}
        job = ask("opengan", "array", self.recipe or {}, **settings)
        setup = set_up(job, self._source(features, labels), given)
        fabric = make_fabric(job)
        fabric.launch()
        start(fabric, setup, None)
        assert isinstance(setup.held, Source)
        self.game_: Game = setup.game.cpu().eval().double()  # small: float64 makes scores the same in every batch
        self.calibration_ = Calibration(scores_of(self.game_, batches(setup.held, BATCH)))
        self.selected_by_ = setup.selected_by
        named = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        self.classifier_ = (named if self.classifier is None else clone(self.classifier)).fit(features, y)
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The class of each example, or -1 for unknown, (N,); an array of objects where classes are strings."""
        features = self._known(X)
        found = self.classifier_.predict(features)
        unknown = self.calibration_.strange(self._raw(features), self.false_alarms)
        if found.dtype.kind not in "iuf":
            found = found.astype(object)
        elif found.dtype.kind == "u":
            found = found.astype(np.int64)
        found[unknown] = UNKNOWN
        return found

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Probabilities of the known classes, (N, K), given that the example is of one."""
        features = self._known(X)
        return self.classifier_.predict_proba(features)

    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """How surely each example is of some known class, (N,); lower is more open."""
        return -self._raw(self._known(X))

    def p_values(self, X: Any) -> np.ndarray:  # noqa: N803
        """Share of held-out known examples at least as open as each example, (N,); small means unknown."""
        return self.calibration_.p_value(self._raw(self._known(X)))

    def _encoder(self) -> Encoder | None:
        if self.backbone is None or isinstance(self.backbone, str):
            return None if self.backbone is None else open_encoder(self.backbone)
        return Encoder("the backbone", "", Plain(self.backbone), cached=False)

    def _known(self, X: Any) -> np.ndarray:  # noqa: N803
        check_is_fitted(self)
        return self._features(X)

    def _features(self, X: Any, first: bool = False) -> np.ndarray:  # noqa: N803
        """Check X as scikit-learn does, and encode images: features (N, D) float32."""
        given = np.asarray(X) if hasattr(X, "shape") else X
        if self.encoder_ is None or getattr(given, "ndim", 2) == 2:
            return validate_data(self, X, reset=first, dtype=np.float32)
        check_array(given, allow_nd=True, dtype=None)
        if first:
            self.n_features_in_ = int(np.prod(given.shape[1:]))
        return self.encoder_.encode(open_source(given, **self.encoder_.view)).items

    def _source(self, features: np.ndarray, labels: np.ndarray | None = None) -> Source:
        return open_source(features if labels is None else (features, labels))

    def _raw(self, features: np.ndarray) -> np.ndarray:
        return scores_of(self.game_, batches(self._source(features), BATCH))
