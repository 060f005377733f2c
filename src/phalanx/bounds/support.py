"""What each bounding method makes of every layer of a graph, from the rows of its operators."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from phalanx.bounds.ops import Affine, Curve, Row, rows
from phalanx.bounds.outward.curves import STRAIGHT
from phalanx.bounds.prepare import REWRITTEN
from phalanx.bounds.programs.encode import encodings
from phalanx.graph.ir import CONSTANT, INPUT, Graph, Node

KINDS = ("interval", "linear", "optimised", "zonotope", "lp", "milp")
"""What a layer may be supported by: boxes, lines (fast-lin, crown, crown-ibp, forward), lines that
alpha-crown moves, generators, linear programs (lp, kpoly), and those with whole numbers."""

EXACT, STEPS = (*STRAIGHT, "max-pool"), ("sign", "floor")
"""Operators that whole numbers write down exactly, and but for the ends of their steps."""


@dataclass(frozen=True)
class Support:
    """One layer.

    Attributes:
        node, op: its name and its operator.
        interval, linear, optimised, zonotope, lp, milp: ``exact``, ``yes``, ``as a box`` or ``no``;
            of milp ``as lp`` where whole numbers add nothing.
        repair: what to do where something is not supported.
    """

    node: str
    op: str
    interval: str
    linear: str
    optimised: str
    zonotope: str
    lp: str
    milp: str
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
        kinds = dict.fromkeys(KINDS, "yes") | {"milp": "as lp"}
        return Support(node.name, node.op, **kinds, repair=f"bounded {REWRITTEN[node.op]}")
    if row is None:
        repair = f"rewrite it with one of {', '.join(rows.names())}"
        return Support(node.name, node.op, **dict.fromkeys(KINDS, "no"), repair=repair)
    if isinstance(row, Affine):
        return Support(node.name, node.op, **dict.fromkeys(KINDS, "exact"))
    curve = isinstance(row, Curve)
    written = curve or node.op in encodings.names()
    return Support(
        node.name,
        node.op,
        interval="yes",
        linear="yes",
        optimised="yes" if row.parameters else "no",
        zonotope="yes" if curve else "as a box",
        lp="yes" if written else "as a box",
        milp="exact" if node.op in EXACT else "yes" if node.op in STEPS else "as lp",
        repair="" if row.parameters else "alpha-crown leaves its lines as crown has them",
    )
