"""What each bounding method makes of every layer of a graph, from the rows of its operators."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from phalanx.bounds.ops import Affine, Curve, Row, rows
from phalanx.bounds.prepare import REWRITTEN
from phalanx.graph.ir import CONSTANT, INPUT, Graph, Node

KINDS = ("interval", "linear", "optimised", "zonotope")
"""What a layer may be supported by: boxes, lines (fast-lin, crown, crown-ibp, forward), lines that
alpha-crown moves, generators."""


@dataclass(frozen=True)
class Support:
    """One layer.

    Attributes:
        node, op: its name and its operator.
        interval, linear, optimised, zonotope: ``exact``, ``yes``, ``as a box`` or ``no``.
        repair: what to do where something is not supported.
    """

    node: str
    op: str
    interval: str
    linear: str
    optimised: str
    zonotope: str
    repair: str = ""

    @property
    def bounded(self) -> bool:
        """Whether any method takes it."""
        return self.interval != "no"

    def as_dict(self) -> dict[str, str]:
        """JSON values."""
        return asdict(self)


def support(graph: Graph) -> list[Support]:
    """Every layer of a graph, in order."""
    known = set(rows.names())
    layers = [node for node in graph if node.op not in (INPUT, CONSTANT)]
    return [_of(node, rows.get(node.op) if node.op in known else None) for node in layers]


def _of(node: Node, row: Row | None) -> Support:
    if row is None and node.op in REWRITTEN:
        return Support(
            node.name, node.op, "yes", "yes", "yes", "yes", f"bounded {REWRITTEN[node.op]}"
        )
    if row is None:
        choices = ", ".join(rows.names())
        repair = f"rewrite it with one of {choices}"
        return Support(node.name, node.op, "no", "no", "no", "no", repair)
    if isinstance(row, Affine):
        return Support(node.name, node.op, "exact", "exact", "exact", "exact")
    moved = "yes" if row.parameters else "no"
    repair = "" if row.parameters else "alpha-crown leaves its lines as crown has them"
    zonotope = "yes" if isinstance(row, Curve) else "as a box"
    return Support(node.name, node.op, "yes", "yes", moved, zonotope, repair)
