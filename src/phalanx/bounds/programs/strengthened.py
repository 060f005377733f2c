"""ReLUs of a sum over a box, cut off closer than by the triangle (Tjandraatmadja et al. 2020).

For ``y = relu(w x + b)`` with ``l <= x <= u`` let ``a_i`` be the side of x_i where ``w_i x_i`` is
least and ``z_i`` the opposite one. For a set I of inputs, ``s(I)`` is the value of ``w x + b`` with
x_i at ``a_i`` in I and at ``z_i`` elsewhere. Wherever ``s(I) >= 0 > s(I + h)``,

    y <= sum_{i in I} w_i (x_i - a_i) + s(I) (x_h - a_h) / (z_h - a_h).

All these together with the triangle are the convex hull. The one that a point violates most takes
the inputs in the order of ``(x_i - a_i) / (z_i - a_i)``: one sorting.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.sparse import csr_array
from torch import Tensor

from phalanx.bounds.engine import Engine
from phalanx.bounds.ops import Affine
from phalanx.bounds.programs.matrices import Matrices, offset
from phalanx.bounds.programs.program import Floats
from phalanx.graph.ir import INPUT

LARGEST = 1 << 24
"""Weights of one layer that are sorted at once; larger layers keep their triangles."""


@dataclass(frozen=True, eq=False)
class Sums:
    """The argument of a curve as sums over an earlier node.

    Attributes:
        source: that node's name; its entries move in a box.
        weights: ``(n, m)``.
        shift: ``(n,)``.
    """

    source: str
    weights: csr_array
    shift: Floats


def sums(engine: Engine, matrices: Matrices, name: str) -> Sums | None:
    """A node through affine operators of one input back to the first that is none.

    None where it is such a one itself, or where two branches meet before.
    """
    weights: csr_array | None = None
    node = engine.nodes[name]
    while node.op != INPUT and isinstance(engine.rows[node.name], Affine):
        if len(node.inputs) != 1:
            return None
        (own,) = matrices.of(node)
        shifted = offset(node)
        if weights is None:
            weights, shift = own, shifted
        else:
            shift = shift + weights @ shifted
            weights = csr_array(weights @ own)
        node = engine.nodes[node.inputs[0]]
    return None if weights is None else Sums(node.name, weights, shift)


def strongest(
    weights: Tensor, shift: Tensor, box: tuple[Tensor, Tensor], x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The cut ``y <= slope x + constant`` of each ReLU that is least at a point.

    Args:
        weights, shift: ``(n, m)`` and ``(n,)``.
        box: two sides ``(m,)``.
        x: ``(m,)``; where it is outside of the box, the cuts hold all the same.

    Returns:
        Slopes ``(n, m)``, constants ``(n,)``, and the ReLUs that have a cut: those whose sum takes
        both signs on the box.

    >>> sides = -torch.ones(2).double(), torch.ones(2).double()
    >>> one, x = torch.ones(1, 2).double(), torch.tensor([-1.0, 1.0]).double()
    >>> slope, constant, there = strongest(one, torch.zeros(1).double(), sides, x)
    >>> slope.tolist(), constant.tolist()  # relu(x1 + x2) <= x1 + 1, zero at this point
    ([[1.0, 0.0]], [1.0])
    """
    lower, upper = (side.expand(weights.shape) for side in box)
    width = upper - lower
    rising = weights >= 0
    first = torch.where(rising, lower, upper)
    share = torch.where(rising, x - lower, upper - x) / torch.where(width > 0, width, 1.0)
    share = torch.where(width > 0, share, torch.inf)
    order = share.argsort(dim=1, stable=True)
    falls = (weights.abs() * width).gather(1, order)
    highest = (torch.where(rising, upper, lower) * weights).sum(1) + shift
    after = highest[:, None] - falls.cumsum(1)  # s of the first k + 1 inputs
    there = (highest >= 0) & (after[:, -1] < 0)
    last = (after < 0).to(torch.int8).argmax(1, keepdim=True)  # the first that turns it negative
    rank = order.argsort(dim=1)
    chosen = rank < last
    pivot = order.gather(1, last)
    before = after.gather(1, last) + falls.gather(1, last)  # s(I)
    gap = torch.where(rising, width, -width).gather(1, pivot)  # z_h - a_h
    tilt = before.clamp_min(0) / torch.where(gap == 0, 1.0, gap)
    slope = torch.where(chosen, weights, 0.0)
    constant = -(slope * first).sum(1) - (tilt * first.gather(1, pivot)).squeeze(1)
    return slope.scatter(1, pivot, tilt), constant, there
