"""Parzen-window log-likelihood: how probable real data are under a density around generated samples.

Reference: Generative Adversarial Nets (Goodfellow et al., 2014), arXiv:1406.2661, section 5 and Table 1
(MNIST: 225 +- 2); the procedure follows the authors' code. The estimate has a high variance and ranks
models poorly in high dimensions (A note on the evaluation of generative models, Theis et al., 2016,
arXiv:1511.01844): use it to compare with Table 1 and for little else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.errors import UserError

CANDIDATES: tuple[float, ...] = tuple(np.logspace(-1, 0, 10).tolist())  # the authors' grid of bandwidths


def log_likelihood(
    x: Tensor | NDArray[Any], samples: Tensor | NDArray[Any], sigma: float, chunk: int = 1000
) -> NDArray[np.float64]:
    """log p(x) under a Gaussian of bandwidth sigma around every sample.

    log p(x) = logmeanexp_i(-|x - s_i|^2 / (2 sigma^2)) - (d / 2) log(2 pi sigma^2)

    Args:
        x: Data (N, ...), flattened to (N, d). The published numbers are for pixels in [0, 1].
        samples: Generated (M, ...), of the same shape and range.
        sigma: Bandwidth, > 0, in units of x.
        chunk: Rows of x, and samples, at a time; two chunks take 16 * chunk * (chunk + d) bytes.

    Returns:
        Log-densities (N,) in nats.

    Raises:
        UserError: For empty, non-finite or ill-matched input.
    """
    return _log_likelihoods(x, samples, [sigma], chunk)[0]


def choose_sigma(
    validation: Tensor | NDArray[Any], samples: Tensor | NDArray[Any], candidates: Sequence[float] = CANDIDATES
) -> float:
    """The candidate bandwidth under which the validation data are the most probable."""
    candidates = [float(sigma) for sigma in candidates]
    means = _log_likelihoods(validation, samples, candidates).mean(axis=1)
    return candidates[int(means.argmax())]


def parzen(
    samples: Tensor | NDArray[Any],
    validation: Tensor | NDArray[Any],
    test: Tensor | NDArray[Any],
    candidates: Sequence[float] = CANDIDATES,
) -> dict[str, float | int]:
    """Log-likelihood of the test data by the paper's protocol, in nats.

    The paper takes 10,000 samples, the first 1,000 validation images for sigma, and all test images.

    Returns:
        mean, standard_error (std / sqrt(n), as in the authors' code), sigma, and how many samples,
        validation and test examples there were.
    """
    sigma = choose_sigma(validation, samples, candidates)
    values = log_likelihood(test, samples, sigma)
    return {
        "mean": float(values.mean()),
        "standard_error": float(values.std() / math.sqrt(len(values))),
        "sigma": sigma,
        "samples": len(samples),
        "validation": len(validation),
        "test": len(test),
    }


@torch.no_grad()
def _log_likelihoods(
    x: Tensor | NDArray[Any], samples: Tensor | NDArray[Any], sigmas: Sequence[float], chunk: int = 1000
) -> NDArray[np.float64]:
    """One row of log-densities (S, N) for every bandwidth; distances are computed once for all of them."""
    x, samples = _flat("data", x), _flat("samples", samples)
    if x.shape[1] != samples.shape[1]:
        raise UserError(f"Data of {x.shape[1]} numbers cannot be compared with samples of {samples.shape[1]}.")
    if bad := [sigma for sigma in sigmas if not 0 < sigma < math.inf]:
        raise UserError(f"The bandwidth must be a number > 0; got {bad[0]!r} instead.")
    rows = []
    for part in x.to(samples.device).split(chunk):
        # float64, because the difference of two large norms is divided by a small sigma^2
        part = part.double()
        total = part.new_full((len(sigmas), len(part)), -math.inf)
        for some in samples.split(chunk):
            some = some.double()
            distance = torch.addmm(some.square().sum(1), part, some.T, alpha=-2)
            distance = distance.add_(part.square().sum(1, keepdim=True)).clamp_(min=0)
            sums = torch.stack([torch.logsumexp(distance * (-0.5 / sigma**2), 1) for sigma in sigmas])
            total = torch.logaddexp(total, sums)
        rows.append(total)
    logs = [math.log(len(samples)) + x.shape[1] / 2 * math.log(2 * math.pi * sigma**2) for sigma in sigmas]
    return torch.cat(rows, 1).cpu().numpy() - np.asarray(logs)[:, None]


def _flat(name: str, x: Tensor | NDArray[Any]) -> Tensor:
    x = torch.as_tensor(x)
    if not len(x):
        raise UserError(f"The {name} are empty: a Parzen window needs at least one example of each.")
    x = x.reshape(len(x), -1)
    if not all(bool(torch.isfinite(part).all()) for part in x.split(1000)):  # it copies what it looks at
        raise UserError(f"The {name} hold NaN or infinite values.")
    return x
