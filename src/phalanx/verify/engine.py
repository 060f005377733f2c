"""`Task`: what an engine is given; the registry of engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from phalanx.graph.ir import Graph
from phalanx.registry import Registry
from phalanx.specs.property import Case
from phalanx.verify.outcome import Clock, Outcome


@dataclass(frozen=True, eq=False)
class Task:
    """One case to be decided.

    Attributes:
        graph: of the network, in its own type, not prepared.
        case: see `Case`; its box is to be searched in full.
        clock: when to stop; an engine that has not decided by then answers unknown(timeout).
        seed: of whatever it draws.
    """

    graph: Graph
    case: Case
    clock: Clock
    seed: int = 0


Engine = Callable[[Task], Outcome]
"""VERIFIED where the whole box is proven free of counterexamples, FALSIFIED with a witness, UNKNOWN
with a reason; failures are raised. ``stats["arithmetic"]`` says what a proof holds in; absent:
``real``."""

engines: Registry[Engine] = Registry("engines", "phalanx.verify.engines", noun="engine")
