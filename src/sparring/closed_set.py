"""Which of the known classes an example belongs to: by the logits that come with its features, or by a linear model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from scipy.special import softmax

from sparring.data import Source
from sparring.data.encoded import Features
from sparring.errors import UserError
from sparring.files import whole

ITERATIONS = 1000  # of the solver, at most


@dataclass(frozen=True)
class Head:
    """Logistic regression on features: logits are x @ weight + bias."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Features (N, D) to logits (N, K)."""
        return x @ self.weight + self.bias

    def save(self, path: Path) -> None:
        with whole(path) as file:
            np.savez(file, weight=self.weight, bias=self.bias)

    @classmethod
    def load(cls, path: Path) -> Head | None:
        """Read what `save` wrote; None where there is none.

        Raises:
            UserError: For a file that is damaged.
        """
        try:
            with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
                return cls(file["weight"], file["bias"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise UserError(f"'{path}' is damaged ({error}): go on with --resume, which writes it anew.") from None

    @classmethod
    def fit(cls, x: np.ndarray, labels: np.ndarray, classes: int) -> Head:
        """Fit it to features (N, D) and class numbers (N,), standardised on the way.

        Raises:
            UserError: For fewer than two classes.
        """
        from sklearn.linear_model import LogisticRegression

        if len(np.unique(labels)) != classes or classes < 2:
            raise UserError(f"{len(np.unique(labels))} class(es) of {classes} have examples: two or more are needed.")
        mean, scale = x.mean(0), x.std(0)
        scale = np.where(scale > 1e-6 * (1 + np.abs(mean)), scale, 1.0)
        model: Any = LogisticRegression(max_iter=ITERATIONS).fit((x - mean) / scale, labels)
        weight, bias = model.coef_.T, model.intercept_
        if classes == 2:  # scikit-learn gives one logit of two
            weight, bias = np.concatenate([-weight, weight], 1) / 2, np.concatenate([-bias, bias]) / 2
        weight = weight / scale[:, None]
        return cls(weight, bias - mean @ weight)


def logits_of(source: Source, known: tuple[str, ...], head: Head | None = None) -> np.ndarray | None:
    """Logits of the known classes, (N, K); None where nothing gives any.

    They came with the features and have the names of the classes; or they are the head's; or they came without names,
    and are as many as the classes.
    """
    found = source.logits_now() if isinstance(source, Features) else None
    outputs = source.outputs if isinstance(source, Features) else ()
    if found is not None and set(known) <= set(outputs):
        return found[:, [outputs.index(name) for name in known]]
    if head is not None:
        return head.logits(source.read(slice(None)))
    return found if found is not None and not outputs and found.shape[1] == len(known) else None


def head_for(fit: Source, held: Source, known: tuple[str, ...]) -> tuple[Head | None, tuple[str, ...]]:
    """A linear model, fitted where features bring no logits that name the classes as well, and what is to be said.

    Logits without names may be those of other classes, or of these in another order: they are taken if they name the
    examples that neither was fitted to, `held`, as often rightly.
    """
    given = logits_of(held, known)
    if given is not None and isinstance(held, Features) and held.outputs:
        return None, ()
    assert fit.labels is not None
    head = Head.fit(fit.read(slice(None)), fit.labels, len(known))
    if given is None:
        return head, ()
    theirs, own = ((logits.argmax(1) == held.labels).mean() for logits in (given, head.logits(held.read(slice(None)))))
    if theirs >= own:
        return None, ()
    return head, (
        f"The backbone's logits have no names: in the order of the known classes they are right for {theirs:.1%} of "
        f"the held-out examples, and a linear model on its features, which names the classes now, for {own:.1%}.",
    )


def named(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the most likely class and its probability, (N,) each."""
    return logits.argmax(1), softmax(logits.astype(np.float64), axis=1).max(1)
