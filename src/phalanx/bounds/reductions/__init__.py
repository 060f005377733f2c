"""Bounds of ensembles: one file for each reducer, under the reducer's name.

A reduction answers what a bounding method is asked, for the scores of an ensemble: lower bounds of
rows of the scores. Where scores are a smooth function of the logits (``mean``) the ensemble is one
graph on one input, so that the members' linear bounds are summed before a worst input is chosen for
the sum. Where they are not (``vote``), members are bounded by margins and what remains is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from phalanx.bounds.region import Region
from phalanx.graph.ir import Graph
from phalanx.registry import Registry

Bounding = Callable[[Graph, Tensor], Tensor]
"""Lower bounds ``(S, B)`` of rows ``(S, B, C)`` of a prepared graph's output; NaN where none."""


@dataclass(frozen=True, eq=False)
class Members:
    """The members of an ensemble under one threat.

    Attributes:
        graphs: one a member, prepared, in the region's precision.
        region: the inputs.
        options: of the reducer.
        bound: the bounding method that was asked for.
        exact: ``bound`` counts roundings, and so must what is bounded.
    """

    graphs: tuple[Graph, ...]
    region: Region
    options: Mapping[str, Any]
    bound: Bounding
    exact: bool = False

    @property
    def classes(self) -> int:
        """Numbers that every member computes."""
        return self.graphs[0][self.graphs[0].output].shape[0]

    @cached_property
    def margins(self) -> Tensor:
        """Lower bounds of ``z_c - z_j`` of every member: ``(M, C, C, B)``, zero for c = j.

        Minus infinity where nothing is known.
        """
        size, batch = self.classes, len(self.region)
        unit = torch.eye(size, dtype=self.region.lower.dtype, device=self.region.lower.device)
        first, other = (~unit.bool()).nonzero(as_tuple=True)
        rows = (unit[first] - unit[other]).unsqueeze(1).expand(-1, batch, -1)
        found = unit.new_zeros(len(self.graphs), size, size, batch)
        for member, graph in enumerate(self.graphs):
            bounds = self.bound(graph, rows).nan_to_num(-torch.inf, torch.inf, -torch.inf)
            found[member, first, other] = bounds
        return found


Reduction = Callable[[Members, Tensor], Tensor]
"""Lower bounds ``(S, B)`` of rows ``(S, B, C)`` of the scores."""

reductions: Registry[Reduction] = Registry(
    "reductions", "phalanx.bounds.reductions", noun="bounded reducer"
)
