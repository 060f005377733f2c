"""What each bounding method makes of every layer of a graph, from the rows of its operators."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from phalanx.bounds.ops import Affine, Curve, Cut, Joint, Row, rows
from phalanx.bounds.outward.curves import STRAIGHT
from phalanx.bounds.prepare import NO_ROW, REWRITTEN
from phalanx.bounds.programs.encode import encodings
from phalanx.graph.ir import CONSTANT, INPUT, OPAQUE, Graph, Node
from phalanx.graph.repairs import NOT_READ

KINDS = ("interval", "linear", "optimised", "zonotope", "lp", "milp", "branching")
"""What a layer may be supported by: boxes, lines (fast-lin, crown, crown-ibp, forward), lines that
alpha-crown moves, generators, linear programs (lp, kpoly), those with whole numbers, and branch and
bound on what it reads (boxes of few inputs are cut whatever the layers are)."""

EXACT, STEPS = (*STRAIGHT, "max-pool"), ("sign", "floor")
"""Operators that whole numbers write down exactly, and but for the ends of their steps."""


@dataclass(frozen=True)
class Support:
    """One layer.

    Attributes:
        node, op: its name and its operator.
        interval, linear, optimised, zonotope, lp, milp: ``exact``, ``yes``, ``as a box`` or ``no``;
            of milp ``as lp`` where whole numbers add nothing.
        branching: where what it reads is cut, see `phalanx.bounds.ops.Cut`; ``exact``: need not be.
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
    branching: str
    repair: str = ""

    @property
    def bounded(self) -> bool:
        """Whether any method takes it."""
        return self.interval != "no"

    def as_dict(self) -> dict[str, str]:
        """JSON values."""
        return asdict(self)


def support(graph: Graph) -> list[Support]:
    """Every layer of a graph or of an outline, in order."""
    known = set(rows.names())
    layers = [node for node in graph if node.op not in (INPUT, CONSTANT)]
    return [
        _unread(node)
        if node.op == OPAQUE
        else _of(node, rows.get(node.op) if node.op in known else None)
        for node in layers
    ]


def _unread(node: Node) -> Support:
    """What its reader says, under the operator's own name."""
    told = node.attributes
    place = f"in layer {told['layer']!r}: " if told["layer"] else ""
    why = "" if told["why"] == NOT_READ else told["why"]
    repair = place + "; ".join(filter(None, (why, told["repair"])))
    return Support(node.name, told["operator"], **dict.fromkeys(KINDS, "no"), repair=repair)


def _of(node: Node, row: Row | None) -> Support:
    if row is None and node.op in REWRITTEN:
        kinds = dict.fromkeys(KINDS, "yes") | {"milp": "as lp", "branching": str(Cut.HALVES)}
        return Support(node.name, node.op, **kinds, repair=f"bounded {REWRITTEN[node.op]}")
    if row is None:
        return Support(node.name, node.op, **dict.fromkeys(KINDS, "no"), repair=NO_ROW)
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
        zonotope="yes" if curve or (isinstance(row, Joint) and row.followed) else "no",
        lp="yes" if written else "as a box",
        milp="exact" if node.op in EXACT else "yes" if node.op in STEPS else "as lp",
        branching=str(row.cut),
        repair="" if row.parameters else "alpha-crown leaves its lines as crown has them",
    )
