"""The README's example of an open set: classes 0 to 5 of scikit-learn's digits are known, 6 to 9 are not.

    python benchmarks/open_digits.py

Prints the AUROC of the mean distance to the five nearest known digits, of the detectors on features and on the logits
of logistic regression, and of OpenSetClassifier by either recipe, with the shares of known and of unknown digits that
`predict` rejects where 5 % are asked for.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from sparring import OpenSetClassifier
from sparring.closed_set import Head
from sparring.metrics.novelty import NOVELTY


def main() -> None:
    x, y = load_digits(return_X_y=True)
    train, known = np.arange(len(y)) % 2 == 0, y < 6
    learnt, new, unknown = x[train & known], x[~train], ~known[~train]
    distance = NearestNeighbors(n_neighbors=5).fit(learnt).kneighbors(new)[0].mean(1)
    print(f"5 nearest neighbours: AUROC {roc_auc_score(unknown, distance):.3f}")
    head = Head.fit(learnt, y[train & known], 6)
    for name, make in NOVELTY.items():
        detector = make(learnt, head.logits(learnt), y[train & known])
        print(f"{name}: AUROC {roc_auc_score(unknown, detector.score(new, head.logits(new))):.3f}")
    for variant in ("synthetic", "default"):
        model = OpenSetClassifier(variant=variant).fit(learnt, y[train & known])
        rejected = model.predict(new) == -1
        print(
            f"{variant}: AUROC {roc_auc_score(unknown, -model.score_samples(new)):.3f}; rejects "
            f"{rejected[~unknown].mean():.1%} of the known and {rejected[unknown].mean():.1%} of the unknown"
        )


if __name__ == "__main__":
    main()
