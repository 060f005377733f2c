"""Jacobians in a ball, by intervals: FastLip (Weng et al. 2018), cut by RecurJac where asked.

Rows of coefficients go back as in the engine, but what is carried is an interval for each of them:
of the derivatives of ``rows . f`` by the node's entries, anywhere in the region. An affine
operator takes centre and radius through its adjoint, a curve multiplies with its slopes on its box.
A ReLU of known sign is exact, so that small balls have sharp constants.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.engine import Engine
from phalanx.bounds.lipschitz.product import magnitude_adjoint
from phalanx.bounds.lipschitz.recursive import Recursion
from phalanx.bounds.lipschitz.slopes import SLOPES
from phalanx.bounds.ops import Affine, Box
from phalanx.bounds.options import JACOBIANS
from phalanx.bounds.region import DUAL
from phalanx.errors import GraphError, ParameterError
from phalanx.graph.ir import CONSTANT, INPUT
from phalanx.graph.run import run

FASTLIP, RECURJAC = KINDS = JACOBIANS
"""Layer by layer, or several layers at once: never looser, and as much dearer as CROWN is than
intervals."""


def jacobian(engine: Engine, rows: Tensor, kind: str = FASTLIP) -> Box:
    """Bounds of the derivatives of ``rows . f`` by the input: ``(S, B, *input shape)`` each.

    Args:
        engine: with the boxes of all values.
        rows: ``(S, B, *output shape)``.
        kind: one of `KINDS`.

    Raises:
        GraphError: an operator whose slopes are not known; names the node.
        ParameterError: no such kind.
    """
    if kind not in KINDS:
        raise ParameterError(
            f"there are no Jacobians of the kind {kind!r}", repair=f"one of {', '.join(KINDS)}"
        )
    recursion = Recursion(engine, rows) if kind == RECURJAC else None
    pending = {engine.graph.output: Box(rows, rows)}
    for node in reversed(engine.graph.nodes):
        own = pending.pop(node.name, None)
        if own is None or node.op == CONSTANT:
            continue
        if recursion is not None:
            own = recursion.tightened(node, own)
        if node.op == INPUT:
            return own
        row = engine.rows[node.name]
        if isinstance(row, Affine):
            centre = row.adjoint(node, own.centre)
            radius = magnitude_adjoint(row, node, own.radius)
            parts = [Box(c - r, c + r) for c, r in zip(centre, radius, strict=True)]
        elif node.op in SLOPES:
            slopes = SLOPES[node.op](node, engine.boxes[node.inputs[0]])
            parts = [_times(own, slopes)]
        else:
            raise GraphError(
                f"node {node.name!r} ({node.op}) has slopes that are not bounded here",
                repair="another method: crown",
            )
        for name, part in zip(node.inputs, parts, strict=True):
            pending[name] = _sum(pending[name], part) if name in pending else part
    zero = rows.new_zeros(*rows.shape[:2], *engine.graph.input.shape)
    return Box(zero, zero)


def steepest(found: Box) -> Tensor:
    """The largest absolute derivatives, entry by entry."""
    return torch.maximum(found.lower.abs(), found.upper.abs())


def least_by_slopes(engine: Engine, rows: Tensor, kind: str = FASTLIP) -> Tensor:
    """Lower bounds ``(S, B)`` of ``rows . f`` on the region, by the mean value theorem.

    From the centre of the box ``sum_i max |J_i| r_i`` can be lost; from that of a ball ``eps |max
    J|_q`` too, q dual to its norm. The better of the two.

    Raises:
        GraphError, ParameterError: see `jacobian`.
    """
    region = engine.region
    steep = steepest(jacobian(engine, rows, kind)).flatten(2)
    middle = (region.lower + region.upper) / 2
    # Rounding may put the middle's distance to one side above that to the other.
    half = torch.maximum(region.upper - middle, middle - region.lower).flatten(1)
    found = _at(engine, rows, middle) - (steep * half).sum(2)
    if region.norm == "linf":
        return found
    lost = region.eps * torch.linalg.vector_norm(steep, ord=DUAL[region.norm], dim=2)
    return found.fmax(_at(engine, rows, region.centre) - lost)


def constant(engine: Engine, rows: Tensor, norm: str, kind: str = FASTLIP) -> Tensor:
    """Lipschitz constants ``(S, B)`` of ``rows . f`` on the region, inputs measured in ``norm``."""
    return torch.linalg.vector_norm(
        steepest(jacobian(engine, rows, kind)).flatten(2), ord=DUAL[norm], dim=2
    )


def _at(engine: Engine, rows: Tensor, x: Tensor) -> Tensor:
    return (rows.flatten(2) * run(engine.graph, x).flatten(1)).sum(2)


def _sum(first: Box, second: Box) -> Box:
    return Box(first.lower + second.lower, first.upper + second.upper)


def _times(rows: Box, slopes: Box) -> Box:
    """Interval products."""
    ends = torch.stack([side * slope for side in rows for slope in slopes])
    # Zero times an infinite slope stays unknown: NaN, which becomes an infinite bound.
    lower, upper = ends.amin(0), ends.amax(0)
    return Box(
        lower.nan_to_num(-torch.inf, torch.inf, -torch.inf),
        upper.nan_to_num(torch.inf, torch.inf, -torch.inf),
    )
