"""SWEEN's weights: how much each fixed member shall count in a weighted ensemble under noise.

Source: Liu, Feng, Wang and Chen, "Enhancing Certified Robustness via Smoothed Weighted Ensembling"
(arXiv 2005.09363): weights on the simplex that minimise the ensemble's risk under noise. Theirs is
found by gradient steps; ours is the log loss of the averaged confidences, which is convex in the
weights, and its minimum is found with a bound on what is left. Learn them on images that are not
certified: a certificate holds for any weights, an accuracy on images that chose them flatters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from phalanx.data.dataset import Dataset
from phalanx.diagnostics.collect import collect
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import DataError, ParameterError

Floats = NDArray[np.float64]

ROUNDS, LEFT = 100_000, 1e-7
PLACES = 4
"""Decimal places of a weight: more would be noise of the draws."""


@dataclass(frozen=True)
class Learned:
    """Weights of the members and what they are worth on the images they were learnt on.

    Attributes:
        weights: one a member, at least 0, sum 1 up to rounding to four places.
        loss: mean of ``-log sum_m w_m p_m``, in nats, at these weights.
        loss_equal: the same at equal weights.
        loss_best_member: the same for the best member alone.
        images, samples: how many images and noise draws of each.
    """

    weights: tuple[float, ...]
    loss: float
    loss_equal: float
    loss_best_member: float
    images: int
    samples: int

    @property
    def reducer(self) -> str:
        """What ``--reducer`` takes."""
        return "weighted:" + ",".join(f"{weight:g}" for weight in self.weights)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "reducer": self.reducer}


def learn_weights(
    ensemble: Ensemble,
    dataset: Dataset,
    indices: list[int],
    sigma: float,
    samples: int = 16,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, images: None,
) -> Learned:
    """Weights that minimise the log loss of the averaged confidences under noise.

    Args:
        ensemble: at least two members in evaluation mode; its reducer plays no part.
        dataset: labelled images, best of the training split.
        indices: of the images to learn on.
        sigma: noise level in input units, positive.
        samples: noise draws an image.
        seed: of the noise.
        progress: told the images done and their number.

    Raises:
        ParameterError: fewer than two members, or sigma or samples out of range.
        DataError: the images have no labels.
        NonFiniteError: a member returned NaN or infinite logits.
    """
    if len(ensemble.members) < 2:
        raise ParameterError("one member was given", why="weights are learnt for several")
    if not dataset.labelled:
        raise DataError(f"data set {dataset.card.name!r} has no labels", why="weights need them")
    parts = []
    for done, index in enumerate(indices, 1):
        x, y = dataset.images([index])[0], int(dataset.labels([index])[0])
        logits = collect(ensemble, x, sigma, samples, seed, image=index)
        parts.append(logits.log_softmax(-1)[..., y])
        progress(done, len(indices))
    logs = torch.cat(parts, dim=1).numpy()
    # Over the largest of its column: a confidence may be smaller than any number.
    weights = mixture_weights(np.exp(logs - logs.max(axis=0))).round(PLACES)
    return Learned(
        tuple(weights.tolist()),
        log_loss(weights, logs),
        log_loss(np.full(len(logs), 1 / len(logs)), logs),
        float(-logs.mean(axis=1).max()),
        len(indices),
        samples,
    )


def mixture_weights(confidences: Floats) -> Floats:
    """The weights on the simplex that minimise `log_loss`, to within 1e-7 of its minimum.

    The expectation-maximisation step of a mixture, ``w_m <- w_m mean_r(p_mr / sum_k w_k p_kr)``,
    never raises the loss, and no weights are better by more than ``max_m`` of that mean, less 1.

    Args:
        confidences: of every member in the right class, ``(M, R)``, at least 0, a positive one in
            each column; a factor common to a column changes nothing.

    >>> mixture_weights(np.array([[0.9, 0.8], [0.1, 0.2]]))
    array([1., 0.])
    >>> mixture_weights(np.array([[0.9, 0.1], [0.1, 0.9]])).round(6)
    array([0.5, 0.5])
    """
    members, rows = confidences.shape
    weights = np.full(members, 1 / members)
    for _ in range(ROUNDS):
        gains = confidences @ (1 / (weights @ confidences)) / rows
        if gains.max() - 1 <= LEFT:
            break
        weights = weights * gains
    weights[weights < LEFT] = 0.0
    return weights / weights.sum()


def log_loss(weights: Floats, logs: Floats) -> float:
    """Mean of ``-log sum_m w_m p_m`` over the columns of ``log p``, ``(M, R)``."""
    return float(-logsumexp(logs, axis=0, b=weights[:, None]).mean())
