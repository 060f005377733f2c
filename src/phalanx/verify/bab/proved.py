"""Sub-problems closed as the checker of a proof will close them, and what it will need for that."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from phalanx.bounds.ops import Box
from phalanx.graph.ir import Graph
from phalanx.specs.property import Case
from phalanx.verify.bab.splits import Units, units
from phalanx.verify.proof.evidence import BySigns
from phalanx.verify.proof.passes import Net
from phalanx.verify.proof.passes import Passes as Checked
from phalanx.verify.proof.rounding import Array
from phalanx.verify.proof.rows import Rows
from phalanx.verify.proof.signs import Closer

NEARLY = 1e-12
"""Of what a bound is summed from: by so much it may differ in another company of rows."""


def boxes_of(net: Net, case: Case) -> Checked:
    """The checker's boxes in between on the box of a case."""
    rows = Rows.of(case, net)
    return Checked(net, rows.lower[None], rows.upper[None])


def as_checked(graph: Graph, found: Units, passes: Checked) -> Units:
    """Units and boxes of a search, with the checker's boxes of what ReLUs read.

    What is open to the checker alone could never be decided else; its names of ReLUs are those of
    the prepared graph.
    """
    boxes, own = dict(found.boxes), {node.name: node for node in passes.net.relus}
    for node in graph:
        if node.op == "relu":
            sides = passes.sides[own[node.name].inputs[0]]
            shape = boxes[node.inputs[0]].lower.shape
            boxes[node.inputs[0]] = Box(*(torch.from_numpy(s.reshape(shape)) for s in sides))
    return units(graph, boxes)


class Proved:
    """As `phalanx.verify.bab.outward.Counted`, in the checker's arithmetic; keeps what it closes.

    Args:
        passes: `boxes_of` the case.
        case: its rows are bounded.
        units: whose signs are decided.
    """

    def __init__(self, passes: Checked, case: Case, units: Units) -> None:
        pairs = zip(units.nodes, units.entries, strict=True)
        self._units = tuple((node.name, int(e)) for node, entries in pairs for e in entries)
        self._closer = Closer(passes, Rows.of(case, passes.net), self._units)
        self._kept: list[tuple[Array, Array, Array, Array]] = []

    def least(self, signs: Tensor, alpha: Tensor, beta: Tensor, shares: Tensor) -> Tensor:
        """See `phalanx.verify.bab.outward.Counted.least`; of what is above zero a copy is kept."""
        beta = (beta.double().clamp_min(0) * signs.abs()).nan_to_num(0.0, 0.0, 0.0)
        shares = shares.double().clamp_min(0).nan_to_num(0.0, 0.0, 0.0)
        alpha = alpha.detach().nan_to_num(0.0).clamp(0, 1).to(torch.float16)
        found = []
        size = self._closer.at_once
        for parts in zip(
            signs.split(size), alpha.split(size), beta.split(size), shares.split(size), strict=True
        ):
            s, a, b, w = (part.detach().numpy() for part in parts)
            some = self._closer.least(s.astype(np.int8), a.astype(np.float64), b, w)
            lower = np.where(some.lower > NEARLY * np.abs(some.constant), some.lower, -np.inf)
            closed = lower > 0
            self._kept.append((s[closed].astype(np.int8), a[closed], b[closed], w[closed]))
            found.append(torch.from_numpy(lower))
        return torch.cat(found)

    def evidence(self) -> BySigns:
        """All that was closed."""
        signs, slopes, multipliers, shares = (
            np.concatenate(parts) for parts in zip(*self._kept, strict=True)
        )
        return BySigns(
            self._units,
            signs.astype(np.int8),
            slopes.astype(np.float16),
            multipliers.astype(np.float64),
            shares.astype(np.float64),
        )
