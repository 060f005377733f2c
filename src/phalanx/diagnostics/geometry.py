"""`Local`: smoothed confidences of all members at one input, their margins and gradients.

Only inner products of gradients are kept. Every quantity of DRT's conditions is a norm or an
angle of sums of gradients, so a matrix of ``members x classes`` numbers squared is enough,
whatever the size of the input.

Gradients are sampled for the classes that some member finds likely. The others stand together
as one, ``rest``: where an output has the mean p, the normal quantile of it is 1/sigma-Lipschitz
(Salman et al. 2019, lemma 2), so its gradient is at most ``phi(Phi^-1(p)) / sigma``, next to
nothing for small p. With the largest p of the rest in place of each, margins come out too
small and gradients too large, which errs on the safe side of the sufficient condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import norm

from phalanx.diagnostics.conditions import necessary_radius, sufficient_radius
from phalanx.errors import ParameterError

Floats = NDArray[np.float64]


class Margins(NamedTuple):
    """Margins of a sum of members and the norms of their gradients, one a choice of classes.

    Attributes:
        value: m, any shape.
        low, high: bounds on g: both the estimate where all gradients were sampled, apart by
            what the rest may add elsewhere.
        weight: W, the sum of the weights.
        real: whether the choice is one of watched classes, not of the rest.
    """

    value: Floats
    low: Floats
    high: Floats
    weight: float
    real: NDArray[np.bool_]

    def sufficient(self, beta: float) -> float:
        """r_suf over all classes: the condition must hold for each."""
        return float(sufficient_radius(self.value, self.high, beta, self.weight).min())

    def necessary(self, beta: float) -> float:
        """r_nec over the watched classes: the margin to any of them must stay positive.

        The rest demands nothing: the largest outputs of several members are no class.
        """
        radii = necessary_radius(self.value, self.low, beta, self.weight)
        return float(radii[self.real].min(initial=np.inf))


@dataclass(frozen=True)
class Local:
    """What was sampled at one input.

    Attributes:
        means: smoothed confidences ``(members, classes)``.
        gram: inner products of the gradients of outputs, ``(members, k, members, k)``: entry
            ``[i, a, j, b]`` is ``<grad f_i^{watched[a]}, grad f_j^{watched[b]}>``.
        watched: the k classes whose gradients were sampled, y0 among them.
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
        """Watched classes beside y0, in order: the axis of every margin. The rest comes last."""
        return [c for c in self.watched if c != self.label]

    def margins(self, weights: Sequence[float]) -> Margins:
        """Margins of ``sum_i w_i f_i``, one an other class.

        Raises:
            ParameterError: not one weight >= 0 a member, or none positive.
        """
        w = checked_weights(weights, len(self.means))
        square = np.einsum("i,iaja,j->a", w, self._inner, w)
        tail, real = w @ self._tails, self._real
        return _margins(w @ self._values, square, tail, float(w.sum()), real)

    def pair(self, first: int, second: int) -> Margins:
        """Margins ``f_i^{y0/y_i} + f_j^{y0/y_j}`` over all pairs (y_i, y_j) of other classes."""
        value, tail = (
            table[first][:, None] + table[second][None, :] for table in (self._values, self._tails)
        )
        square = (
            self.squares(first)[:, None]
            + self.squares(second)[None, :]
            + 2 * self.products(first, second)
        )
        real = self._real[:, None] & self._real[None, :]
        return _margins(value, square, tail, 2.0, real)

    def squares(self, member: int) -> Floats:
        """``|grad f_i^{y0/y}|^2`` of one member, one an other class; of y0 alone for the rest."""
        return np.array(self.products(member, member).diagonal())

    def products(self, first: int, second: int) -> Floats:
        """``<grad f_i^{y0/y_i}, grad f_j^{y0/y_j}>`` over all pairs of other classes."""
        return self._inner[first, :, second, :]

    def top_two_radius(self, member: int, beta: float) -> float:
        """Within it y0 stays among the member's two largest outputs, by r_suf of each class.

        Two classes must overtake y0 to push it out, so it is the second smallest; the rest may
        be two by itself.
        """
        found = self.margins(np.eye(len(self.means))[member].tolist())
        radii = sufficient_radius(found.value, found.high, beta)
        count = len(self.others)
        several = radii[count:].min(initial=np.inf)
        return float(min(several, np.sort(radii[:count])[1] if count > 1 else np.inf))

    @cached_property
    def _unwatched(self) -> list[int]:
        return sorted(set(range(self.means.shape[1])) - set(self.watched))

    @cached_property
    def _values(self) -> Floats:
        """Margins of every member ``(members, axis)``."""
        chosen = self.means[:, self.others]
        if self._unwatched:
            rest = self.means[:, self._unwatched].max(1, keepdims=True)
            chosen = np.concatenate([chosen, rest], axis=1)
        return self.means[:, [self.label]] - chosen

    @cached_property
    def _tails(self) -> Floats:
        """What the gradients that were not sampled may add, ``(members, axis)``."""
        tails = np.zeros_like(self._values)
        if self._unwatched:
            # Above one half the bound falls again; the rest may hold anything up to its largest.
            p = np.clip(self.means[:, self._unwatched].max(1), 0.0, 0.5)
            tails[:, -1] = norm.pdf(ndtri(p)) / self.sigma
        return tails

    @cached_property
    def _inner(self) -> Floats:
        """Inner products of margin gradients ``(members, axis, members, axis)``."""
        at = self.watched.index(self.label)
        seen = [self.watched.index(c) for c in self.others]
        # A margin's gradient is a row of this matrix times the outputs' gradients.
        rows = np.zeros((self._values.shape[1], len(self.watched)))
        rows[:, at] = 1.0
        rows[range(len(seen)), seen] = -1.0
        return np.einsum("ac,icjd,bd->iajb", rows, self.gram, rows, optimize=True)

    @property
    def _real(self) -> NDArray[np.bool_]:
        return np.arange(self._values.shape[1]) < len(self.others)


def _margins(
    value: Floats, square: Floats, tail: Floats, weight: float, real: NDArray[np.bool_]
) -> Margins:
    # An unbiased estimate of a square may fall below 0.
    known = np.sqrt(np.maximum(square, 0.0))
    return Margins(value, np.maximum(known - tail, 0.0), known + tail, weight, real)


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
