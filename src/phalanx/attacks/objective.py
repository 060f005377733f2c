"""Objectives: what a gradient attack raises, one number a point.

An objective sees every outcome that a classifier may have: of a deterministic one the one it has,
of a random ensemble each member, of a smoothed classifier each draw of its noise. Objectives named
``mean-...`` look at the mean prediction, the others take the mean (over outcomes, with their
probabilities) of a loss; for one outcome the two agree.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from phalanx.errors import ModelError, ParameterError
from phalanx.models.usercode import import_factory, user_code

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``objective(scores (S, B, C), weights (S,), y (B,)) -> (B,)``, to be raised. Scores are logits
with a graph; ``weights`` sum to 1; a row's value depends on that row alone."""

Aimed = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""The same with a class ``goal (B,)`` behind ``y``."""

TINY = 1e-12


def weighed(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean over outcomes: ``(S, B)`` to ``(B,)``."""
    return losses[0] if len(losses) == 1 else (weights[:, None] * losses).sum(0)


def others_best(scores: Tensor, y: Tensor) -> Tensor:
    """The largest score of another class than ``y``: ``(..., B, C)`` to ``(..., B)``."""
    at = y.expand(scores.shape[:-1])[..., None]
    return scores.scatter(-1, at, -torch.inf).amax(-1)


def score_of(scores: Tensor, classes: Tensor) -> Tensor:
    """The score of one class a row: ``(..., B, C)`` to ``(..., B)``."""
    return scores.gather(-1, classes.expand(scores.shape[:-1])[..., None]).squeeze(-1)


def margins(scores: Tensor, y: Tensor) -> Tensor:
    """By how much class ``y`` is ahead of the best other, outcome by outcome: ``(S, B)``.

    >>> margins(torch.tensor([[[3.0, 1.0, 2.0]]]), torch.tensor([0])).tolist()
    [[1.0]]
    """
    return score_of(scores, y) - others_best(scores, y)


def ce(scores: Tensor, weights: Tensor, y: Tensor) -> Tensor:
    """The expected cross entropy."""
    shape = scores.shape[:2]
    flat = cross_entropy(scores.flatten(0, 1), y.repeat(shape[0]), reduction="none")
    return weighed(flat.view(shape), weights)


def mean_ce(scores: Tensor, weights: Tensor, y: Tensor) -> Tensor:
    """The cross entropy of the mean prediction (Salman et al., NeurIPS 2019, for smoothing)."""
    return -score_of(log_mean(scores, weights), y)


def log_mean(scores: Tensor, weights: Tensor) -> Tensor:
    """Logarithm of the mean prediction: ``(S, B, C)`` to ``(B, C)``, exact for small ones."""
    if len(scores) == 1:
        return log_softmax(scores[0], -1)
    return (log_softmax(scores, -1) + weights.log()[:, None, None]).logsumexp(0)


def margin(scores: Tensor, weights: Tensor, y: Tensor) -> Tensor:
    """The expected margin of the best other class (Carlini & Wagner, S&P 2017, without a floor)."""
    return weighed(-margins(scores, y), weights)


def dlr(scores: Tensor, weights: Tensor, y: Tensor) -> Tensor:
    """The expected difference-of-logits ratio (Croce & Hein, ICML 2020): free of scale and offset.

    The margin in units of the gap between the largest and the third largest logit. With two classes
    there is no third, and it is the margin.

    >>> dlr(torch.tensor([[[4.0, 2.0, 0.0]]]), torch.ones(1), torch.tensor([0])).tolist()
    [-0.5]
    """
    if scores.shape[-1] < 3:
        return margin(scores, weights, y)
    ranked = scores.topk(3, dim=-1).values
    scale = ranked[..., 0] - ranked[..., 2] + TINY
    return weighed(-margins(scores, y) / scale, weights)


def dlr_targeted(scores: Tensor, weights: Tensor, y: Tensor, goal: Tensor) -> Tensor:
    """The gap to one class a row, in units of logits that belong to neither it nor ``y``.

    Croce & Hein (ICML 2020), equation 7: the largest logit less the mean of the third and fourth.
    With three classes it is less the mean of the second and third (else the ratio to the third
    would be -1 everywhere), with two there is no scale.
    """
    value = score_of(scores, goal) - score_of(scores, y)
    classes = scores.shape[-1]
    if classes < 3:
        return weighed(value, weights)
    ranked = scores.topk(min(4, classes), dim=-1).values
    below = ranked[..., 2:] if classes > 3 else ranked[..., 1:]
    scale = ranked[..., 0] - below.mean(-1) + TINY
    return weighed(value / scale, weights)


def gap(scores: Tensor, weights: Tensor, y: Tensor, goal: Tensor) -> Tensor:
    """The expected gap from class ``y`` to one other class a row."""
    return weighed(score_of(scores, goal) - score_of(scores, y), weights)


OBJECTIVES: dict[str, Objective] = {
    "ce": ce,
    "mean-ce": mean_ce,
    "margin": margin,
    "dlr": dlr,
}


def objective_of(text: str | None, *, pooled: bool = False, default: str = "ce") -> Objective:
    """The objective of a name or of ``file.py:function``.

    Args:
        text: None: ``default``.
        pooled: whether the classifier decides by the mean of its outcomes; ``ce`` is then
            ``mean-ce``.

    Raises:
        ParameterError: no such objective. ModelError: its file or its code fails.
    """
    name = default if text is None else text
    if name == "ce" and pooled:
        name = "mean-ce"
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    if ":" not in name:
        raise ParameterError(
            f"there is no objective {name!r}",
            repair=f"one of {', '.join(OBJECTIVES)}, or file.py:function",
        )
    found, _ = import_factory(name)
    if not callable(found):
        raise ModelError(
            f"{name} is {type(found).__name__}",
            why="an objective is a function of (scores, weights, y)",
        )
    return _checked(name, found)


def _checked(name: str, function: Objective) -> Objective:
    def objective(scores: Tensor, weights: Tensor, y: Tensor) -> Tensor:
        with user_code(f"the objective {name}"):
            values = function(scores, weights, y)
        if not isinstance(values, Tensor) or values.shape != y.shape:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ModelError(
                f"the objective {name} returned {shape}",
                why=f"it returns one number a point, here a tensor of shape {tuple(y.shape)}",
            )
        return values

    return objective
