"""Ensembles whose members decide by confidences or votes, checked again member by member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from phalanx.bounds.outward.recheck import recheck
from phalanx.bounds.problem import Trace
from phalanx.bounds.reductions import Members, reductions
from phalanx.bounds.region import Region
from phalanx.graph.ir import Graph

ROOM = 2.0**-50
"""Eight units in the last place of a confidence; what is computed of C of them, and of M members,
is charged C + M + 64 times as much. Exponentials are taken to be right to 16 units."""


def recheck_ensemble(
    graphs: Sequence[Graph],
    region: Region,
    rows: Tensor,
    reducer: tuple[str, Mapping[str, Any]],
    traces: Sequence[Trace] = (),
) -> Tensor:
    """Lower bounds ``(S,)`` of rows ``(S, C)`` of an ensemble's scores, in exact arithmetic.

    What the reducer's bounds ask of members is asked of `recheck`; what they make of it is a number
    of operations on confidences, none of which is above one.

    Args:
        graphs: of the members, see `recheck`.
        region: of one input.
        rows: exact as they are.
        reducer: its name and options; the scores are confidences or votes.
        traces: what the search tells, in the order in which it bounded networks.

    Raises:
        GraphError: see `recheck`.
    """
    told = iter(traces)

    def bound(graph: Graph, wanted: Tensor) -> Tensor:
        return recheck(graph, region, wanted[:, 0], next(told, None)).unsqueeze(1)

    name, options = reducer
    members = Members(tuple(graphs), region, options, bound, exact=True)
    with torch.no_grad():
        found = reductions.get(name)(members, rows.double().unsqueeze(1))[:, 0]
    steps = rows.shape[1] + len(graphs) + 64
    return found - ROOM * steps * rows.double().abs().sum(1)
