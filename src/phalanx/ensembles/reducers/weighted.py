"""Weighted mean of the softmax confidences (DRT's weighted ensemble)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Self

from torch import Tensor

from phalanx.ensembles.ensemble import reducers
from phalanx.ensembles.finite import poison
from phalanx.errors import ParameterError


def weighted_softmax(logits: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """``sum_m w_m softmax(z_m) / sum_m w_m``: scores ``(B, C)`` of logits ``(M, B, C)``.

    Source: Yang et al. 2022 (DRT), weighted ensemble (WE).

    Args:
        logits: finite rows; other rows become NaN, whatever the member's weight.
        weights: one for each member, >= 0 with a positive sum; None means equal weights.

    Raises:
        ParameterError: the number of weights is not the number of members.

    >>> import torch
    >>> weighted_softmax(torch.tensor([[[9.0, -99.0]], [[-99.0, 9.0]]]), [1, 3])
    tensor([[0.2500, 0.7500]])
    """
    confidences = logits.softmax(-1)
    if weights is None:
        return poison(confidences.mean(0), logits)
    if len(weights) != len(logits):
        raise ParameterError(
            f"{len(weights)} weights for {len(logits)} members",
            why="the weighted reducer needs one weight for each member, in their order",
        )
    shares = confidences.new_tensor([weight / math.fsum(weights) for weight in weights])
    return poison((shares.view(-1, 1, 1) * confidences).sum(0), logits)


@reducers.register("weighted")
class Weighted:
    """The reducer; its factory is the class. Spelled ``weighted:1,2,1``.

    Args:
        weights: see `weighted_softmax`; a sequence, a NumPy array or a tensor ``(M,)``.

    Raises:
        ParameterError: they are not numbers, or mean nothing as weights.
    """

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self.weights = None if weights is None else _usable(weights)

    def __call__(self, logits: Tensor) -> Tensor:
        """`weighted_softmax` with these weights."""
        return weighted_softmax(logits, self.weights)

    @property
    def spelling(self) -> str:
        """The weights as one types them, digit for digit.

        >>> Weighted([1, 0.5]).spelling
        '1,0.5'
        """
        return ",".join(repr(weight).removesuffix(".0") for weight in self.weights or ())

    @property
    def options(self) -> dict[str, Any]:
        """JSON values; none where the weights are equal by default."""
        return {} if self.weights is None else {"weights": list(self.weights)}

    @classmethod
    def read(cls, text: str) -> Self:
        """The reducer of weights separated by commas."""
        try:
            weights = [float(part) for part in text.split(",")]
        except ValueError:
            raise ParameterError(
                f"reducer weights {text!r}",
                why="they are one number for each member",
                repair="weighted:1,2,1",
            ) from None
        return cls(weights)


def _usable(weights: Any) -> tuple[float, ...]:
    given = weights.tolist() if hasattr(weights, "tolist") else weights
    numbers = isinstance(given, Sequence) and all(
        isinstance(weight, Real) and not isinstance(weight, bool) for weight in given
    )
    if not numbers:
        raise ParameterError(
            f"reducer weights {weights!r}",
            why="they are one number for each member",
            repair="weights=[1, 2, 1]",
        )
    found = tuple(float(weight) for weight in given)
    if not (all(weight >= 0 for weight in found) and 0 < sum(found) < math.inf):
        raise ParameterError(
            f"reducer weights {list(found)}",
            why="they must be finite, at least 0, and not all 0",
        )
    return found
