"""`Local`: smoothed confidences of all members at one input, their margins and gradients.

Only inner products of gradients are kept. Every quantity of DRT's conditions is a norm or an
angle of sums of gradients, so a matrix of ``members x classes`` numbers squared is enough,
whatever the size of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from phalanx.diagnostics.conditions import STEEPEST, necessary_radius, sufficient_radius
from phalanx.errors import ParameterError

Floats = NDArray[np.float64]


class Margins(NamedTuple):
    """Margins of a sum of members and the norms of their gradients, one a choice of classes.

    Attributes:
        value: m, any shape.
        low, high: bounds on g: both the estimate where the gradient was sampled; 0 and the
            largest gradient of any smoothed margin elsewhere.
        weight: W, the sum of the weights.
    """

    value: Floats
    low: Floats
    high: Floats
    weight: float

    def sufficient(self, beta: float) -> float:
        """r_suf over all classes: the condition must hold for each."""
        return float(sufficient_radius(self.value, self.high, beta, self.weight).min())

    def necessary(self, beta: float) -> float:
        """r_nec over all classes: the margin to any of them must stay positive."""
        return float(necessary_radius(self.value, self.low, beta, self.weight).min())


@dataclass(frozen=True)
class Local:
    """What was sampled at one input.

    Attributes:
        means: smoothed confidences ``(members, classes)``.
        gram: inner products of the gradients of outputs, ``(members, k, members, k)``: entry
            ``[i, a, j, b]`` is ``<grad f_i^{watched[a]}, grad f_j^{watched[b]}>``.
        watched: the k classes whose gradients were sampled.
        sigma: noise level in input units.
        label: y0, the class of the weighted ensemble.
    """

    means: Floats
    gram: Floats
    watched: tuple[int, ...]
    sigma: float
    label: int

    @property
    def others(self) -> list[int]:
        """The classes beside y0, in order: the axis of every margin."""
        return [c for c in range(self.means.shape[1]) if c != self.label]

    def margins(self, weights: Sequence[float]) -> Margins:
        """Margins of ``sum_i w_i f_i``, one an other class.

        Raises:
            ParameterError: not one weight >= 0 a member, or none positive.
        """
        w = checked_weights(weights, len(self.means))
        value = (w[:, None] * self._margins()).sum(0)
        square = np.einsum("i,iajb,j->ab", w, self._inner(), w).diagonal()
        return self._bounded(value, square, float(w.sum()))

    def pair(self, first: int, second: int) -> Margins:
        """Margins ``f_i^{y0/y_i} + f_j^{y0/y_j}`` over all pairs (y_i, y_j) of other classes."""
        m, inner = self._margins(), self._inner()
        square = (
            self.squares(first)[:, None]
            + self.squares(second)[None, :]
            + 2 * inner[first, :, second, :]
        )
        return self._bounded(m[first][:, None] + m[second][None, :], square, 2.0)

    def squares(self, member: int) -> Floats:
        """``|grad f_i^{y0/y}|^2`` of one member, one an other class; NaN where not sampled."""
        return np.array(self._inner()[member, :, member, :].diagonal())

    def products(self, first: int, second: int) -> Floats:
        """``<grad f_i^{y0/y_i}, grad f_j^{y0/y_j}>`` over all pairs of other classes."""
        return self._inner()[first, :, second, :]

    def top_two_radius(self, member: int, beta: float) -> float:
        """Within it y0 stays among the member's two largest outputs, by r_suf of each class.

        Two classes must overtake y0 to push it out, so it is the second smallest.
        """
        weights = np.eye(len(self.means))[member]
        found = self.margins(weights.tolist())
        radii = np.sort(sufficient_radius(found.value, found.high, beta))
        return float(radii[1]) if len(radii) > 1 else np.inf

    def _margins(self) -> Floats:
        return self.means[:, [self.label]] - self.means[:, self.others]

    def _inner(self) -> Floats:
        """Inner products of margin gradients ``(members, others, members, others)``."""
        place = {c: k for k, c in enumerate(self.watched)}
        at = place[self.label]
        seen = [place[c] for c in self.others if c in place]
        g = self.gram
        part = (
            g[:, at, :, at][:, None, :, None]
            - g[:, at][:, :, seen][:, None]
            - g[:, seen][:, :, :, at][:, :, :, None]
            + g[:, seen][:, :, :, seen]
        )
        axis = [k for k, c in enumerate(self.others) if c in place]
        members, others = len(self.means), len(self.others)
        full = np.full((members, others, members, others), np.nan)
        full[np.ix_(range(members), axis, range(members), axis)] = part
        return full

    def _bounded(self, value: Floats, square: Floats, weight: float) -> Margins:
        # An unbiased estimate of a square may fall below 0.
        norm = np.sqrt(np.maximum(square, 0.0))
        unknown = np.isnan(square)
        high = np.where(unknown, STEEPEST * weight / self.sigma, norm)
        return Margins(value, np.where(unknown, 0.0, norm), high, weight)


def checked_weights(weights: Sequence[float], members: int) -> Floats:
    """Weights of a weighted ensemble as float64 ``(members,)``.

    Raises:
        ParameterError: not one weight >= 0 a member, or none positive.
    """
    w = np.asarray(weights, np.float64)
    if w.shape != (members,) or not bool(np.isfinite(w).all() and (w >= 0).all() and w.sum() > 0):
        raise ParameterError(
            f"weights {list(weights)} for {members} members",
            why="the weighted ensemble needs one for each, none negative, not all zero",
        )
    return w
