"""OpenGAN as a scikit-learn classifier that may answer "none of these"."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import assert_all_finite, check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from sparring.closed_set import head_for, logits_of
from sparring.data import Source, batches, open_source
from sparring.encoders import Encoder, of_module, open_encoder
from sparring.errors import UserError
from sparring.metrics.conformal import Calibration
from sparring.nets.taps import Plain
from sparring.preparation import Setup, ask, set_up
from sparring.protocol import Game
from sparring.scoring import scores_of
from sparring.training import make_fabric, start

BATCH = 1024
LATE = 10  # epochs at the end that are averaged, where there are no open examples to choose one by
UNKNOWN = -1  # the answer for examples of none of the classes


class OpenSetClassifier(ClassifierMixin, BaseEstimator):
    """Name the class of an example, or say that it is of none.

    A classifier names the class, and OpenGAN judges whether the example is of any. Both see features: those of a
    backbone that is trained already, or X itself.

    Args:
        backbone: Turns images into features: a run, an exported file, `module:function`, a timm name, a module, of
            which a copy is put in eval mode, or a function from images (B, C, H, W) in [-1, 1] to features (B, D) or
            to a pair of features and logits (B, K); None where X holds features.
        layer: Name of the backbone's layer that gives the features; None takes what its last layer is given.
        classifier: An estimator with `predict_proba` on features, which is cloned and fitted. One that is fitted
            already stays as it is as `sklearn.frozen.FrozenEstimator(classifier)`. None takes the backbone's own
            logits, if they are of the classes in y, else logistic regression.
        recipe: Hyper-parameters of `opengan` that differ from the variant's, by name, such as {"epochs": 50}.
        variant: Variant of the recipe. "synthetic" also learns from outliers that it makes of X, which helps where no
            others are given; "default" is the paper's.
        false_alarms: Share of known examples that `predict` may call unknown, in (0, 1).
        seed: Of everything random; the same seed gives the same classifier.
        device: "auto", "cpu" or "cuda".

    Attributes:
        classes_: The known classes, sorted.
        classifier_: The fitted classifier; None where the backbone's logits name the classes.
        named_by_: In words, what names the classes.
        game_: The trained networks, in eval mode.
        calibration_: Scores of known examples that were held out of OpenGAN's training.
        selected_by_: In words, what the weights were chosen by.
        n_features_in_: Numbers in one example.

    A fifth of X is held out of OpenGAN's training, and calibrates; where open examples are given, half of it chooses
    the weights against them. Where none are, the scores of the last ten epochs are averaged, unless the recipe says
    {"late": 0}: then made examples choose. Fit on examples that the backbone was not trained on, if the p-values are to
    hold. Logits are of the classes in y if their names are those of y; without names, if they are as many, in sorted
    order, and name held-out examples as well as logistic regression does. All features are divided by one number: where
    their units differ, scale them first.

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
        layer: str | None = None,
        classifier: Any = None,
        recipe: dict[str, Any] | None = None,
        variant: str = "synthetic",
        false_alarms: float = 0.05,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.backbone = backbone
        self.layer = layer
        self.classifier = classifier
        self.recipe = recipe
        self.variant = variant
        self.false_alarms = false_alarms
        self.seed = seed
        self.device = device

    def fit(self, X: Any, y: Any, outliers: Any = None, open_validation: Any = None) -> OpenSetClassifier:  # noqa: N803
        """Learn the classes of X, and what is of none of them.

        Args:
            X: Features (N, D), or images (N, H, W[, C]), uint8 or in [0, 1], where there is a backbone.
            y: The class of each example; -1 stands for unknown and is no class.
            outliers: Examples of no class, as X, to learn from; None learns from made ones alone.
            open_validation: Examples of no class, as X, by which the weights are chosen; None takes a fifth of the
                outliers.

        Raises:
            UserError: For one class only, a class -1, features that are NaN, a classifier that was fitted on other
                classes, or open examples that are all outliers too.
        """
        if y is None:
            raise UserError("OpenSetClassifier requires y to be passed, but the target y is None: give the classes.")
        self.encoder_ = self._encoder()
        source, y = self._source(X, first=True), column_or_1d(y, warn=True)
        check_consistent_length(source.names, y)
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise UserError(f"The number of classes must be greater than one; got {len(self.classes_)} class.")
        if UNKNOWN in self.classes_.tolist():
            raise UserError("-1 stands for unknown in what `predict` answers: give that class another number.")
        source = replace(source, labels=labels, classes=self._names)
        opened = {"outlier": outliers, "open": open_validation}
        given = {name: self._source(values) for name, values in opened.items() if values is not None}
        settings = {"variant": self.variant, "seed": self.seed, "device": self.device, "normal": ("all",)}
        recipe = ({} if given else {"late": LATE}) | (self.recipe or {})
        job = ask("opengan", "array", recipe, **settings)
        setup = set_up(job, source, given)
        self._learn_names(source, setup)
        fabric = make_fabric(job)
        fabric.launch()
        start(fabric, setup, None)
        assert isinstance(setup.held, Source)
        self.game_: Game = setup.game.cpu().eval().double()  # small: float64 makes scores the same in every batch
        self.calibration_ = Calibration(scores_of(self.game_, batches(setup.held, BATCH)))
        self.selected_by_ = setup.selected_by
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The class of each example, or -1 for unknown, (N,); an array of objects where classes are strings."""
        source = self._known(X)
        if self.classifier_ is None:
            found = self.classes_[self._logits(source).argmax(1)]
        else:
            found = self.classifier_.predict(source.read(slice(None)))
        unknown = self.calibration_.strange(self._raw(source), self.false_alarms)
        if found.dtype.kind not in "iuf":
            found = found.astype(object)
        elif found.dtype.kind == "u":
            found = found.astype(np.int64)
        found[unknown] = UNKNOWN
        return found

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Probabilities of the known classes, (N, K), given that the example is of one."""
        source = self._known(X)
        if self.classifier_ is None:
            return softmax(self._logits(source).astype(np.float64), axis=1)
        return self.classifier_.predict_proba(source.read(slice(None)))

    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """How surely each example is of some known class, (N,); lower is more open."""
        return -self._raw(self._known(X))

    def p_values(self, X: Any) -> np.ndarray:  # noqa: N803
        """Share of held-out known examples at least as open as each example, (N,); small means unknown."""
        return self.calibration_.p_value(self._raw(self._known(X)))

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(map(str, self.classes_.tolist()))

    def _encoder(self) -> Encoder | None:
        if self.backbone is None or isinstance(self.backbone, str):
            return None if self.backbone is None else open_encoder(self.backbone, self.layer)
        if isinstance(self.backbone, nn.Module):
            return of_module(copy.deepcopy(self.backbone), "the backbone", self.layer, cached=False)
        return Encoder("the backbone", "", Plain(self.backbone), cached=False)

    def _learn_names(self, source: Source, setup: Setup) -> None:
        """Fit what names the classes, unless the backbone's logits do."""
        notes: tuple[str, ...] = ()
        if self.classifier is None and logits_of(source, self._names) is not None:
            assert isinstance(setup.held, Source)
            head, notes = head_for(setup.fit, setup.held, self._names)
            if head is None:
                self.classifier_, self.named_by_ = None, "the backbone's logits"
                return
        linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        chosen = linear if self.classifier is None else clone(self.classifier)
        self.classifier_ = chosen.fit(source.read(slice(None)), self.classes_[source.labels])
        learnt = getattr(self.classifier_, "classes_", self.classes_)
        if not np.array_equal(learnt, self.classes_):
            raise UserError(
                f"The classifier was fitted on the classes {learnt.tolist()}, and y holds {self.classes_.tolist()}: "
                "give examples of the same classes."
            )
        self.named_by_ = " ".join(("logistic regression" if self.classifier is None else "the classifier", *notes))

    def _known(self, X: Any) -> Source:  # noqa: N803
        check_is_fitted(self)
        return self._source(X)

    def _source(self, X: Any, first: bool = False) -> Source:  # noqa: N803
        """Check X as scikit-learn does, and encode images: features (N, D) float32, with logits where there are any."""
        given = np.asarray(X) if hasattr(X, "shape") else X
        if self.encoder_ is None or getattr(given, "ndim", 2) == 2:
            return open_source(validate_data(self, X, reset=first, dtype=np.float32))
        check_array(given, allow_nd=True, dtype=None)
        if first:
            self.n_features_in_ = int(np.prod(given.shape[1:]))
        return self.encoder_.encode(open_source(given, **self.encoder_.view))

    def _logits(self, source: Source) -> np.ndarray:
        found = logits_of(source, self._names)
        if found is None:
            raise UserError("The backbone's logits name the classes, and X holds features without any: give images.")
        return found

    def _raw(self, source: Source) -> np.ndarray:
        return scores_of(self.game_, batches(source, BATCH))
