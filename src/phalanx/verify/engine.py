"""`Task`: what an engine is given; the registry of engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from phalanx.graph.ir import Graph
from phalanx.registry import Registry
from phalanx.specs.property import Case
from phalanx.verify.bounding import Inside
from phalanx.verify.outcome import Clock, Outcome


@dataclass(frozen=True, eq=False)
class Task:
    """One case to be decided.

    Attributes:
        graph: of the network, in its own type, not prepared.
        case: see `Case`; its box is to be searched in full.
        clock: when to stop; an engine that has not decided by then answers unknown(timeout).
        seed: of whatever it draws.
        confirm: whether a flat input ``(n,)`` is a counterexample when it is run again where it
            counts; an engine goes on where it is not. None: nobody is there to ask.
        told: numbers to show while it works, such as ``domains``.
        proof: ask for evidence of a refuted case (see `Outcome`), such as its checker accepts.
        inside: what bounds have found out about the values in between on the case's box, of the
            graph from `prepare`, in float64; None: nothing.
    """

    graph: Graph
    case: Case
    clock: Clock
    seed: int = 0
    confirm: Callable[[Tensor], bool] | None = None
    told: Callable[[Mapping[str, Any]], None] | None = None
    proof: bool = False
    inside: Inside | None = None


Engine = Callable[[Task], Outcome]
"""VERIFIED where the whole box is proven free of counterexamples, FALSIFIED with a witness, UNKNOWN
with a reason; failures are raised. ``stats["arithmetic"]`` says what a proof holds in; absent:
``real``."""

engines: Registry[Engine] = Registry("engines", "phalanx.verify.engines", noun="engine")
