"""`recheck`: the bounds that a search found, once more, so that no rounding can break them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from phalanx.bounds.outward.affine import AFFINE
from phalanx.bounds.outward.curves import CURVES
from phalanx.bounds.outward.passes import Passes
from phalanx.bounds.outward.planes import least_with_planes
from phalanx.bounds.outward.rounding import down, up
from phalanx.bounds.problem import Trace
from phalanx.bounds.region import Ball, Region
from phalanx.errors import DataError
from phalanx.graph.ir import CONSTANT, INPUT, Graph

OUTWARD = "outward"
REAL = "real"


def outward_ball(threat: Ball, x: Tensor) -> Region:
    """All valid inputs within the threat's radius of ``x`` ``(1, *shape)``, none left out.

    The sides are computed in double precision and moved outward by one unit in the last place.

    >>> from phalanx.specs.threat import Threat
    >>> region = outward_ball(Threat("linf", 0.1), torch.tensor([[0.3]]))
    >>> bool(region.lower < torch.tensor(0.3).double() - 0.1)
    True
    """
    at = x.double()
    if not bool(((at >= threat.low) & (at <= threat.high)).all()):
        raise DataError(f"some inputs lie outside of {threat.low:g} .. {threat.high:g}")
    lower = down(at - threat.eps).clamp_min(threat.low)
    upper = up(at + threat.eps).clamp_max(threat.high)
    return Region(lower, upper, at, threat.norm, threat.eps)


def recheck(  # noqa: PLR0917 - of a search
    graph: Graph,
    region: Region,
    rows: Tensor,
    trace: Trace | None = None,
    element: int = 0,
    passes_of: Callable[..., Passes] = Passes,
) -> Tensor:
    """Lower bounds ``(S,)`` of rows of the output that hold in exact arithmetic.

    Slopes and planes that won are taken from the trace; every box, every offset and every sum is
    computed anew.

    Args:
        graph: from `prepare`, in float64: the network whose answers are bounded.
        region: of one input, see `outward_ball`.
        rows: coefficients ``(S, *output shape)``, exact as they are.
        trace: what the search tells; None: CROWN's choices.
        element: which element of the search's batch it is.
        passes_of: makes the passes, for example such as look at a clock.

    Raises:
        GraphError: an operator whose rounding is not accounted for.
    """
    if len(region) != 1 or region.lower.dtype != torch.float64:
        raise DataError(
            f"a region of {len(region)} inputs in {region.lower.dtype}",
            why="bounds are checked again one by one, in float64",
        )
    trace = trace or Trace()
    with torch.no_grad():
        between = trace.between.get(element, {})
        passes = passes_of(
            graph, region, backward=trace.backward, parallel=trace.parallel, between=between
        )
        rows = rows.double()
        found = passes.least(graph.output, rows).fmax(passes.by_boxes(rows))
        slopes: dict[str, tuple[Tensor, Tensor]] = {}
        if trace.places:
            own = {name: place[:, :, element] for name, place in trace.places.items()}
            slopes = passes.slopes(own)
            found = found.fmax(passes.least(graph.output, rows, slopes))
        if graph.output in between:
            own = {name: place[:, :, 0] for name, place in between[graph.output].places.items()}
            found = found.fmax(passes.least(graph.output, rows, passes.slopes(own)))
        for (row, at), planes in trace.planes.items():
            if at == element:
                chosen = {name: _row_of(pair, row) for name, pair in slopes.items()}
                better = least_with_planes(passes, rows[row : row + 1], planes, chosen)
                found[row] = found[row].fmax(better[0])
    return found


ALONE = (INPUT, CONSTANT, *AFFINE, *CURVES)
"""Operators that do to each input of a batch what they do to it alone."""


def recheck_side_by_side(graph: Graph, region: Region, rows: Tensor) -> Tensor | None:
    """Lower bounds ``(B,)`` that hold in exact arithmetic, of one row over each of B boxes.

    Quick and wide: boxes in between are intervals, and the lines of curves the usual ones. None
    where an operator joins values, so that inputs go through it one by one.

    Args:
        graph: see `recheck`.
        region: B boxes.
        rows: ``(B, *output shape)``, exact as they are.

    Raises:
        GraphError: an operator whose rounding is not accounted for. DataError: not a row for each
            box, other regions than boxes, or another precision.
    """
    if region.norm != "linf" or region.lower.dtype != torch.float64 or len(rows) != len(region):
        raise DataError(
            f"{len(rows)} rows over {len(region)} regions in {region.norm}, {region.lower.dtype}",
            why="each box has one row, in float64",
        )
    if any(node.op not in ALONE for node in graph):
        return None
    with torch.no_grad():
        passes = Passes(graph, region, backward=False)
        return passes.least(graph.output, rows.double()).fmax(passes.by_boxes(rows.double()))


def _row_of(slopes: tuple[Tensor, Tensor], row: int) -> tuple[Tensor, Tensor]:
    below, above = (side[min(row, len(side) - 1)][None] for side in slopes)
    return below, above


def all_positive(found: Tensor) -> bool:
    """Whether every bound is above zero; one that is no number, or came of an overflow, is not.

    >>> all_positive(torch.tensor([1.0, torch.nan])), all_positive(torch.tensor([1.0, torch.inf]))
    (False, False)
    """
    return bool(((found > 0) & torch.isfinite(found)).all())
