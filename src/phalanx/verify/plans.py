"""`Portfolio`: what verification tries, in which order, and what suits a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec

from phalanx.bounds.problem import methods
from phalanx.errors import ParameterError
from phalanx.graph.ir import Graph
from phalanx.verify.engine import engines
from phalanx.verify.falsify import Effort

PROVING = ("branch-and-bound",)
"""Engines that tell evidence."""

FLAT = "branch-and-bound-cuts"
"""Where none is asked for, this one is for networks with one layer of ReLUs, as its cuts are all
there is to know of each of them; it leaves half of the time to the others."""

PREFERRED = (FLAT, "branch-and-bound", "milp")
"""Engines that are used where none is asked for: each where those before it gave up in time. The
last one finds counterexamples; what it refutes takes a proof by the one before it."""

PROGRAMS = (FLAT, "milp")
"""Of them those that need a solver of programs."""


def default_engines(*, proof: bool = False) -> tuple[str, ...]:
    """The preferred engines that are there; of those that tell evidence, for a proof."""
    names = engines.names()
    if proof:
        return tuple(name for name in PROVING if name in names)
    if not find_spec("highspy"):
        names = [name for name in names if name not in PROGRAMS]
    return tuple(name for name in PREFERRED if name in names)


def suited(names: tuple[str, ...], graph: Graph) -> tuple[str, ...]:
    """The engines of a plan; of those that nobody asked for, the ones that suit a network."""
    flat = sum(node.op == "relu" for node in graph) == 1
    return names if flat or names != default_engines() else tuple(n for n in names if n != FLAT)


QUICK, FULL = ("interval", "crown", "alpha-crown"), "alpha-crown-full"
"""Bounding methods in the order of their cost; the last one is for networks of many inputs."""


@dataclass(frozen=True)
class Portfolio:
    """What is tried, in this order.

    Attributes:
        attack: before bounds.
        bounds: registered bounding methods; ``alpha-crown-full`` where more inputs move than
            branch and bound splits.
        pursuit: of cases that bounds leave open.
        engines: complete methods, registered; each gets its share of the time left.
        recheck: prove refuted cases again with every rounding counted.
        seed: of everything that is drawn.
        proof: refute cases only in ways that can be written down and checked; the result has them
            as evidence, and engines that tell none are left out of the default.
    """

    attack: Effort = field(default_factory=lambda: Effort(starts=2, steps=8))
    bounds: tuple[str, ...] = (*QUICK, FULL)
    pursuit: Effort = field(default_factory=lambda: Effort(starts=50, steps=60))
    engines: tuple[str, ...] = field(default_factory=default_engines)
    recheck: bool = True
    seed: int = 0
    proof: bool = False

    def __post_init__(self) -> None:
        if self.proof and self.engines == default_engines():
            object.__setattr__(self, "engines", default_engines(proof=True))


def require_methods(plan: Portfolio) -> None:
    """Refuse a plan that could prove nothing, or no proof where one is asked for.

    Raises:
        ParameterError: why.
    """
    for name in plan.bounds:
        methods.get(name)
    known = engines.names()
    if plan.proof and (silent := [name for name in plan.engines if name not in PROVING]):
        raise ParameterError(
            f"a proof by {silent[0]}", why="it tells no evidence", repair=f"{', '.join(PROVING)}"
        )
    for name in plan.engines:
        if name not in known:
            engines.get(name)  # says which there are; those that are there load when they are used
    if not plan.bounds and not plan.engines:
        raise ParameterError("no method that could prove anything", repair="bounds=('crown',)")
