"""`search`: cases decided by branch and bound, by whichever kind suits the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from phalanx.bounds.prepare import prepare
from phalanx.graph.ir import Graph
from phalanx.graph.run import run
from phalanx.specs.property import Case
from phalanx.verdicts import Verdict
from phalanx.verify.bab.bounders import EngineBounder, dense_bounder
from phalanx.verify.bab.cases import side_by_side
from phalanx.verify.bab.inputs import Bounder, InputOptions, Network, split_inputs
from phalanx.verify.outcome import TIMEOUT, Clock, Outcome, OutOfTime

FEW_INPUTS = 32
"""Free inputs up to which boxes of inputs are split."""
TOO_MANY = "too many inputs to split"


@dataclass(frozen=True)
class SearchOptions:
    """How a search is made.

    Attributes:
        few: free inputs up to which boxes of inputs are split.
        inputs: see `InputOptions`.
    """

    few: int = FEW_INPUTS
    inputs: InputOptions = field(default_factory=InputOptions)


def search(
    graph: Graph,
    cases: Case | Sequence[Case],
    clock: Clock,
    options: SearchOptions | None = None,
) -> Outcome:
    """Decide cases together: VERIFIED only where none of them has a counterexample.

    Args:
        graph: the network, in its own type, not prepared.
        cases: whose boxes are searched in full; those of one box share its bounds.
        clock: when to stop.
        options: see `SearchOptions`.

    Raises:
        GraphError: an operator that is not bounded.
    """
    options, together = options or SearchOptions(), side_by_side(_several(cases))
    lower, upper = together.hull
    if int((lower < upper).sum()) > options.few:
        return Outcome(Verdict.UNKNOWN, TOO_MANY)
    ready = prepare(graph.to(torch.float64)).to(torch.float64)
    try:
        bounder: Bounder | None = dense_bounder(ready, lower, upper, clock)
    except OutOfTime:
        return Outcome(Verdict.UNKNOWN, TIMEOUT)
    if bounder is None:
        bounder = EngineBounder(ready, lower, upper)
    return split_inputs(together, bounder, _network(graph), clock, options.inputs)


def _several(cases: Case | Sequence[Case]) -> Sequence[Case]:
    return [cases] if isinstance(cases, Case) else cases


def _network(graph: Graph) -> Network:
    """Outputs ``(B, m)`` of flat inputs ``(B, n)``, in the network's own type."""
    kinds = [t.dtype for n in graph for t in n.tensors.values() if t.is_floating_point()]
    kind = kinds[0] if kinds else torch.float32

    def answers(x: Tensor) -> Tensor:
        return run(graph, x.to(kind).reshape(len(x), *graph.input.shape)).flatten(1)

    return answers
