"""What bounds prove about one input: cheap methods first, each success checked again.

Inputs are taken one at a time, so that neither the batch nor the company of an input can change
what is proven about it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import torch
from torch import Tensor

from phalanx.bounds.front import Apart, Bounds, compute, margins
from phalanx.bounds.joint import joint
from phalanx.bounds.options import Options
from phalanx.bounds.outward.ensembles import recheck_ensemble
from phalanx.bounds.outward.passes import uncovered
from phalanx.bounds.outward.recheck import all_positive, outward_ball, recheck
from phalanx.bounds.prepare import prepare
from phalanx.bounds.problem import Trace, methods
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import GraphError, NonFiniteError, ParameterError
from phalanx.evaluation.bracket import climbed
from phalanx.graph.ir import Graph
from phalanx.models.imported import graph_of
from phalanx.models.model import Model
from phalanx.specs.threat import Threat

AUTO = "auto"
LADDER = ("interval", "crown-ibp", "crown", "alpha-crown")
"""What ``auto`` tries, cheapest first, until one decides."""
OUTWARD, REAL = "outward", "real"
FINENESS = 2.0**-14
"""Of the range of radii in a search: it ends where a radius fails that is larger by so much."""


@dataclass(frozen=True)
class Proof:
    """What was found out about an input at a radius.

    Attributes:
        holds: whether its class is proven to be the answer everywhere in the ball.
        margin: the least lower bound of its logit minus another; None where there is none.
        against: that other class.
        method: the one that decided, or came last.
        tried: all that were asked.
        confirmed: what checking again said; None: it was not asked.
        broken: whether a counterexample was found and run again.
        why: of an input that is left open, where no margin says it.
    """

    holds: bool
    margin: float | None
    against: int
    method: str
    tried: tuple[str, ...]
    confirmed: bool | None
    broken: bool = False
    why: str = ""

    def details(self, arithmetic: str) -> dict[str, Any]:
        """JSON values of a record."""
        return {
            "method": self.method,
            "tried": list(self.tried),
            "margin": self.margin,
            "against": self.against,
            "arithmetic": arithmetic,
            "confirmed": self.confirmed,
        }


class Prover:
    """Proves classes of a model's inputs.

    Args:
        model: in evaluation mode; read once. An ensemble under ``mean`` is one graph, in which the
            members' linear bounds are summed before a worst input is chosen for the sum.
        shape: of one input.
        method: a bounding method, or ``auto``.
        arithmetic: ``outward``: every success is checked again in double precision with roundings
            counted; ``real``: bounds hold up to roundings; None: outward where every operator has
            such bounds, else real.
        options: of the methods.

    Raises:
        ParameterError: no such method or arithmetic. GraphError: the network cannot be bounded, or
            not outward where that is asked for.
    """

    def __init__(
        self,
        model: Model | Ensemble,
        shape: tuple[int, ...],
        *,
        method: str = AUTO,
        arithmetic: str | None = None,
        options: Options | None = None,
    ) -> None:
        if arithmetic not in (None, OUTWARD, REAL):
            raise ParameterError(f"there is no arithmetic {arithmetic!r}", repair="outward or real")
        self.model, self.classes = model, model.classes
        self.methods = ladder(method)
        self.options = options or Options()
        graphs = _graphs(model, shape)
        self.bounded: Graph | Apart = graphs[0]
        if _apart(model):
            self.bounded = Apart(graphs, model.reducer_name, model.reducer_options)
        self.exact: tuple[Graph, ...] = ()
        self.why_real = ""
        if arithmetic != REAL:
            # Normalisation is folded anew here, with its roundings counted.
            exact = _graphs(deepcopy(model).double(), shape, exact=True)
            self.why_real = _why_real(exact)
            if not self.why_real:
                self.exact = exact
            elif arithmetic == OUTWARD:
                raise GraphError(self.why_real, repair="--arithmetic real")

    @property
    def arithmetic(self) -> str:
        """What certificates hold in."""
        return OUTWARD if self.exact else REAL

    def answer(self, x: Tensor) -> int:
        """The class of an input ``(1, *shape)``.

        Raises:
            NonFiniteError: NaN or infinite logits.
        """
        with torch.no_grad():
            logits = self.model(x)[0]
        if not bool(torch.isfinite(logits).all()):
            raise NonFiniteError("the model returned NaN or infinite logits")
        return int(logits.argmax())

    def prove(self, x: Tensor, label: int, threat: Threat, *, confirm: bool = True) -> Proof:
        """Whether ``label`` is the answer everywhere around ``x`` ``(1, *shape)``.

        Without ``confirm`` a success is not checked again: no certificate, but a place in a search.
        """
        rows = margins(torch.tensor([label]), self.classes, x.dtype)
        tried: list[str] = []
        found, confirmed = torch.full((self.classes - 1,), -torch.inf), None
        failed: int | None = None
        for name in self.methods:
            tried.append(name)
            bounds = self._bounds(name, x, rows, threat, decide=True)
            found, confirmed = bounds.lower[0], None
            failed = bounds.traces[0].failed.get(0)
            if not all_positive(found):
                continue
            if not (self.exact and confirm):
                return self._proof(True, found, label, tried, None)
            found = self._again(x, rows[0], threat, bounds.traces)
            if not all_positive(found) and any(trace.decided for trace in bounds.traces):
                bounds = self._bounds(name, x, rows, threat, decide=False)
                found = self._again(x, rows[0], threat, bounds.traces)
            confirmed = all_positive(found)
            if confirmed:
                return self._proof(True, found, label, tried, True)
        return self._proof(False, found, label, tried, confirmed, failed=failed)

    def _bounds(
        self, name: str, x: Tensor, rows: Tensor, threat: Threat, *, decide: bool
    ) -> Bounds:
        return compute(
            self.bounded, threat, x, method=name, rows=rows, options=self.options, decide=decide
        )

    def _again(self, x: Tensor, rows: Tensor, threat: Threat, traces: Sequence[Trace]) -> Tensor:
        region = outward_ball(threat, x)
        if isinstance(self.bounded, Apart):
            reducer = self.bounded.reducer, self.bounded.options
            return recheck_ensemble(self.exact, region, rows, reducer, traces)
        return recheck(self.exact[0], region, rows, traces[0])

    def _proof(
        self,
        holds: bool,
        found: Tensor,
        label: int,
        tried: list[str],
        confirmed: bool | None,
        *,
        failed: int | None = None,
    ) -> Proof:
        at = int(found.argmin()) if failed is None else failed
        least, against = found[at], at + (at >= label)
        margin = float(least) if bool(torch.isfinite(least)) else None
        return Proof(holds, margin, against, tried[-1], tuple(tried), confirmed)

    def radius(self, x: Tensor, label: int, most: Threat) -> tuple[float, Proof]:
        """The largest radius up to ``most.eps`` that a search finds, and its proof; else 0.

        What is returned has been proven itself: nothing is taken to be monotone. Checking again
        costs several times what the bounds do, so that the search goes by these alone; where it
        ended is checked, and smaller radii where that fails. A method that is never below a
        cheaper one goes on from where that one ended.
        """
        back = _fine(most)
        radius, proof = self._by_bounds(x, label, most)
        if radius > 0 and not self.exact:
            return radius, proof
        while radius > 0:
            proof = self.prove(x, label, replace(most, eps=radius))
            if proof.holds:
                return radius, proof
            radius, back = radius - back, 2 * back
        return 0.0, proof

    def _by_bounds(self, x: Tensor, label: int, most: Threat) -> tuple[float, Proof]:
        """The largest radius by bounds alone, and what was found there; or 0 and what failed."""
        fine, cheaper = _fine(most), self._cheaper()
        proofs: dict[float, Proof] = {}

        def holds(eps: float) -> tuple[bool, float]:
            proofs[eps] = self.prove(x, label, replace(most, eps=eps), confirm=False)
            return proofs[eps].holds, _margin(proofs[eps])

        first = most.eps
        if cheaper is not None:
            first = max(cheaper._by_bounds(x, label, most)[0], fine)
        bracket = climbed(holds, first, most.eps, gap=self._gap(x, label), fine=fine)
        while bracket.open:
            good, margin = holds(at := bracket.place())
            bracket.cut(at, margin, above=good)
        return bracket.low, proofs[bracket.low or bracket.high]

    def _cheaper(self) -> Prover | None:
        """This one, by the cheaper method that the last of its own is not below."""
        last = self.methods[-1]
        name = methods.above(last) if last in methods.names() else None
        if name is None:
            return None
        other = copy(self)
        other.methods = (name,)
        return other

    def _gap(self, x: Tensor, label: int) -> float:
        """The margin at the input itself."""
        with torch.no_grad():
            scores = self.model(x)[0].double()
        others = scores[torch.arange(len(scores)) != label]
        return float(scores[label] - others.max())


def _fine(most: Threat) -> float:
    return max(FINENESS * most.eps, math.ulp(0.0))


def _margin(proof: Proof) -> float:
    return -math.inf if proof.margin is None else proof.margin


def ladder(method: str) -> tuple[str, ...]:
    """The methods behind a name: one, or all that ``auto`` tries, cheapest first.

    Raises:
        ParameterError: no such method.
    """
    names = LADDER if method == AUTO else (methods.aliases.get(method, method),)
    for name in names:
        methods.get(name)
    return names


def _apart(model: Model | Ensemble) -> TypeGuard[Ensemble]:
    """Whether members are bounded apart: the scores are no sum of their logits."""
    return isinstance(model, Ensemble) and model.reducer_name != "mean"


def _graphs(
    model: Model | Ensemble, shape: tuple[int, ...], *, exact: bool = False
) -> tuple[Graph, ...]:
    """The prepared graph of all that decides, or one of each member that is bounded apart."""
    kind = torch.float64 if exact else torch.float32
    if isinstance(model, Model):
        return (prepare(graph_of(model, shape), exact=exact).to(kind),)
    graphs = [prepare(graph_of(member, shape), exact=exact) for member in model.models]
    if _apart(model):
        return tuple(graph.to(kind) for graph in graphs)
    return (joint(graphs, [1 / len(graphs)] * len(graphs), kind, exact=exact),)


def _why_real(exact: Sequence[Graph]) -> str:
    """What has no bounds with roundings counted; empty where everything has."""
    node = next((node for graph in exact if (node := uncovered(graph)) is not None), None)
    if node is None:
        return ""
    return f"node {node.name!r} ({node.op}) has no bounds with roundings counted"
