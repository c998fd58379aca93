"""How a generator's opponent ends: whether it still tells real from made, and where its clipped weights lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparring.data import Source, to_tensor
from sparring.generation import of_run
from sparring.metrics.detection import auroc
from sparring.protocol import Discriminates, Game
from sparring.randomness import seeded
from sparring.run import BATCH, Run

COUNT = 500  # examples of each kind that it is asked about
SEED = 2  # of what is made to be judged
NEAR = 0.02  # share of the bound: its last step may have moved a weight that was clipped
BARS = 60
BEYOND = 1.2  # bounds, where the outermost bars end


def opposing(run: Run, source: Source | None, evidence: dict[str, Any]) -> dict[str, Any]:
    """Measure the opponent of a run's generator, and give the report what it shows of that under "opponent".

    Args:
        source: Real examples that the run was not trained on; None where there are none.

    Returns:
        The same, without histograms; empty where nothing can be measured.
    """
    found = {} if source is None else discrimination(run, source)
    weights = clipping(run.game)
    if weights:
        found["clipping"] = {key: value for key, value in weights.items() if key != "histogram"}
    if not found:
        return {}
    evidence["opponent"] = found | ({"clipping": weights} if weights else {})
    return {"opponent": found}


@torch.no_grad()
def discrimination(run: Run, source: Source) -> dict[str, Any]:
    """Tell real examples from as many made ones by the run's discriminator or critic, in eval mode.

    Returns:
        count: examples of each kind. ranked: share of pairs in which the real one is valued above the made one
        (the AUROC). real and made: shares on the right side of the boundary; None for a critic, which has none.
        Empty where the game does not say, or where it needs classes that the source does not have.
    """
    game = run.game
    if not isinstance(game, Discriminates):
        return {}
    shown = of_run(run, source).limited(COUNT)
    label = labels(run, shown) if game.conditional else None
    if game.conditional and label is None:
        return {}
    values: list[tuple[Tensor, Tensor]] = []
    with seeded(SEED):
        for start in range(0, len(shown), BATCH):
            rows = slice(start, start + BATCH)
            values.append(game.discriminate(to_tensor(shown.read(rows)), None if label is None else label[rows]))
    real, made = (torch.cat(part).double().numpy() for part in zip(*values, strict=True))
    found: dict[str, Any] = {"count": len(real), "ranked": auroc(real, made)}
    edge = run.game.boundary
    found["real"] = None if edge is None else float((real > edge).mean())
    found["made"] = None if edge is None else float((made < edge).mean())
    return found


def labels(run: Run, source: Source) -> Tensor | None:
    """The class of each example by the run's own numbers, (N,) int64; None where the source has other classes."""
    known = run.spec.classes
    if source.labels is None or not set(source.classes) <= set(known):
        return None
    return torch.tensor([known.index(name) for name in source.classes])[torch.from_numpy(source.labels).long()]


def clipping(game: Game) -> dict[str, Any]:
    """Where the weights of a critic lie that its recipe clips; empty where it clips none.

    Returns:
        bound: they are kept in [-bound, bound], and the last step may have left it. count: weights. at_bounds:
        share of them that lie within 2 % of a bound, or beyond. histogram: shares and edges of the bars.
    """
    bound, critic = getattr(game.recipe, "clip", None), getattr(game, "critic", None)
    if bound is None or critic is None:
        return {}
    weights = torch.cat([parameter.detach().flatten() for parameter in critic.parameters()]).numpy()
    reach = BEYOND * bound
    counts, edges = np.histogram(weights.clip(-reach, reach), BARS, (-reach, reach))
    return {
        "bound": bound, "count": len(weights), "at_bounds": float((np.abs(weights) >= (1 - NEAR) * bound).mean()),
        "histogram": {"shares": (counts / len(weights)).tolist(), "edges": edges.tolist()},
    }  # fmt: skip
