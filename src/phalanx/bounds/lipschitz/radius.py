"""Radii in which a label cannot change, from margins and Lipschitz constants."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.front import margins
from phalanx.bounds.lipschitz.eclipse import eclipse_rates
from phalanx.bounds.lipschitz.local import FASTLIP, RECURJAC, constant
from phalanx.bounds.lipschitz.norms import UNIT
from phalanx.bounds.lipschitz.product import rates
from phalanx.bounds.prepare import prepare
from phalanx.bounds.region import Region
from phalanx.errors import DataError, ParameterError
from phalanx.graph.ir import Graph
from phalanx.graph.run import run
from phalanx.models.imported import graph_of
from phalanx.models.model import Model

TRIES = 16
"""Balls that are tried for a local constant, each twice as small as the last in two tries."""

_KINDS = {"local": FASTLIP, "recurjac": RECURJAC}


def certified_radius(gaps: Tensor, rates: Tensor) -> Tensor:
    """``min_j gap_j / rate_j``, rounded downward: float64 ``(B,)``; 0 where a gap is not positive.

    Args:
        gaps: margins of the label over the other classes ``(B, J)``.
        rates: how fast each of them can fall ``(B, J)`` or ``(J,)``, upper bounds.

    A NaN among them gives radius 0; margins that cannot fall an infinite one.

    >>> certified_radius(torch.tensor([[1.0, 3.0]]), torch.tensor([2.0, 4.0])).item() <= 0.5
    True
    >>> certified_radius(torch.tensor([[1.0, float("nan")]]), torch.ones(2)).item()
    0.0
    """
    gaps, rates = gaps.double(), rates.double()
    found = torch.where(gaps > 0, gaps / rates * (1 - 8 * UNIT), 0.0)
    found = torch.where(torch.isnan(gaps) | torch.isnan(rates), 0.0, found)
    return found.amin(1)


def lipschitz_radius(
    model: Model,
    x: Tensor,
    labels: Tensor,
    *,
    by: Literal["product", "eclipse", "local", "recurjac"] = "product",
    norm: str = "l2",
    largest: float = 1.0,
) -> Tensor:
    """Radii within which a model's label stands, for real arithmetic: float64 ``(B,)``.

    Args:
        model: in evaluation mode.
        x: inputs ``(B, *shape)``.
        labels: the right classes ``(B,)``; a wrong answer has radius 0.
        by: ``product`` of the layers' norms; ``eclipse``, tighter, of fully connected networks (l2
            alone); ``local``: Jacobians in balls around each input; ``recurjac``: the same, tighter
            and dearer.
        norm: what the radius is measured in.
        largest: of the balls that ``local`` and ``recurjac`` try.

    Raises:
        GraphError: an operator or a graph that has no such constant.
        ParameterError: a norm that ``by`` does not speak of. DataError: labels that are none.
    """
    if by == "eclipse" and norm != "l2":
        raise ParameterError(
            f"the constants of {by!r} are of the l2 norm, not {norm}", repair="by='local'"
        )
    graph = prepare(graph_of(model, tuple(x.shape[1:])).to(torch.float64)).to(torch.float64)
    classes = graph[graph.output].shape[-1]
    wanted = margins(labels, classes, torch.float64)
    gaps = torch.einsum("bsc,bc->bs", wanted, run(graph, x.double()))
    if by in _KINDS:
        kind = _KINDS[by]
        return _local(graph, x.double(), wanted, gaps, norm=norm, largest=largest, kind=kind)
    if by == "eclipse":
        return certified_radius(gaps, eclipse_rates(graph, wanted.transpose(0, 1)).T)
    return certified_radius(gaps, rates(graph, wanted.transpose(0, 1), norm).T)


def _local(
    graph: Graph, x: Tensor, wanted: Tensor, gaps: Tensor, *, norm: str, largest: float, kind: str
) -> Tensor:
    """The best over balls of falling radius of ``min(radius, gap / constant in the ball)``."""
    if not (largest > 0 and largest < float("inf")):
        raise ParameterError(f"the largest radius is {largest}", why="it is positive and finite")
    if not bool(torch.isfinite(x).all()):
        raise DataError("inputs that are NaN or infinite")
    best = torch.zeros(len(x), dtype=torch.float64)
    for step in range(TRIES):
        eps = largest * 2 ** (-step / 2)
        region = Region(x - eps, x + eps, x, norm, 0.0 if norm == "linf" else eps)
        engine = Engine(graph, region, Settings())
        engine.bound_all()
        steep = constant(engine, wanted.transpose(0, 1), norm, kind).T * (1 + 1e-9)
        best = best.maximum(certified_radius(gaps, steep).clamp_max(eps * (1 - 1e-9)))
    return best
