"""`compute`: one call for every bounding method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from phalanx.bounds.options import Options
from phalanx.bounds.prepare import prepare
from phalanx.bounds.problem import Problem, Trace, methods
from phalanx.bounds.reductions import Members, reductions
from phalanx.bounds.region import Ball, Region, ball
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import DataError, ParameterError
from phalanx.graph.ir import Graph
from phalanx.models.imported import graph_of
from phalanx.models.model import Model


@dataclass(frozen=True, eq=False)
class Bounds:
    """Bounds of outputs, or of linear functions of them.

    Attributes:
        lower: ``(B, S)``, minus infinity where nothing is known; never NaN.
        upper: likewise, plus infinity; None where only lower bounds were asked for.
        method: the method's name.
        arithmetic: ``real``: they hold in exact arithmetic, up to roundings that were not counted.
        traces: how they were found, for `phalanx.bounds.outward`: of the network, or of all that
            were bounded for an ensemble, in order.
    """

    lower: Tensor
    upper: Tensor | None
    method: str
    arithmetic: str = "real"
    traces: tuple[Trace, ...] = field(default=(), repr=False)

    @property
    def trace(self) -> Trace:
        """Of the one network."""
        return self.traces[0]


@dataclass(frozen=True, eq=False)
class Apart:
    """Members that are bounded apart, each a model or its graph in input units.

    Attributes:
        members: a model is exported in every call, so that who asks often keeps graphs.
        reducer: the name of what turns their outputs into scores.
        options: of the reducer.
    """

    members: Sequence[Model | Graph]
    reducer: str
    options: Mapping[str, Any]


def compute(
    model: Model | Graph | Ensemble | Apart,
    threat: Ball | Region,
    x: Tensor | None = None,
    *,
    method: str = "crown",
    rows: Tensor | None = None,
    offset: Tensor | None = None,
    options: Options | None = None,
    decide: bool = False,
) -> Bounds:
    """Bounds of a network's outputs over all inputs a threat allows.

    Args:
        model: a model, its graph in input units, or an ensemble, whose outputs are its scores;
            also as `Apart`.
        threat: a norm, a radius and a range (around ``x``), or a `Region`.
        x: inputs ``(B, *shape)`` around which the threat acts; None with a region.
        method: a registered name (``phalanx list bounding``): interval, crown, alpha-crown, ...
        rows: coefficients ``(B, S, *output shape)`` or ``(S, *output shape)`` of functions of the
            output that are bounded below; None: the outputs, below and above.
        offset: what is added to them, ``(B, S)`` or ``(S,)``.
        options: see `Options`; those that the method does not read change nothing.
        decide: whether all ``rows`` of an input are above zero is all that is asked: costly methods
            leave what simpler bounds decide, and stop at the first that fails, which the trace
            names. Of no consequence with an offset, or for members apart.

    Raises:
        ParameterError: no such method, a radius that is none, or a reducer that is not bounded.
        DataError: inputs that are not valid, or shapes that do not fit.
        GraphError: the network has no graph, or an operator that is not bounded.

    >>> from phalanx.models.model import InputSpec
    >>> net = torch.nn.Linear(2, 2, bias=False).eval()
    >>> _ = net.weight.data.copy_(torch.tensor([[1.0, -1.0], [2.0, 0.0]]))
    >>> box = Region(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1, 2))
    >>> found = compute(Model(net, InputSpec(shape=(2,)), 2), box)
    >>> found.lower.tolist(), found.upper.tolist()
    ([[-1.0, 0.0]], [[1.0, 2.0]])
    """
    region, bounding = _region(threat, x), methods.get(method)
    own, traces = options or Options(), []

    def bound(graph: Graph, wanted: Tensor, decide: bool = False) -> Tensor:
        problem = Problem(graph, region, wanted, own, decide=decide)
        traces.append(problem.trace)
        return bounding(problem)

    if isinstance(model, Ensemble):
        model = Apart(model.models, model.reducer_name, model.reducer_options)
    if isinstance(model, Apart):
        reduction = reductions.get(model.reducer)
        graphs = tuple(_ready(member, region) for member in model.members)
        members = Members(graphs, region, model.options, bound)
        found = reduction(members, _wanted(rows, (members.classes,), region))
    else:
        graph = _ready(model, region)
        wanted = _wanted(rows, graph[graph.output].shape, region)
        found = bound(graph, wanted, decide and rows is not None and offset is None)
    lower, upper = _sides(_counted(found).T, offset, both=rows is None)
    return Bounds(lower, upper, method, traces=tuple(traces))


def _sides(found: Tensor, offset: Tensor | None, *, both: bool) -> tuple[Tensor, Tensor | None]:
    """Lower bounds ``(B, S)``; with ``both`` the second half are those of the outputs negated."""
    if both:
        count = found.shape[1] // 2
        return found[:, :count], -found[:, count:]
    return found if offset is None else found + offset, None


def _ready(model: Model | Graph, region: Region) -> Graph:
    """The prepared graph of a model, in the region's precision."""
    shape = tuple(region.lower.shape[1:])
    if isinstance(model, Model) and model.inputs.shape not in (None, shape):
        raise DataError(f"inputs of shape {shape} for a model of inputs {model.inputs.shape}")
    graph = model if isinstance(model, Graph) else graph_of(model, shape)
    if graph.input.shape != shape:
        raise DataError(f"inputs of shape {shape} for a network of inputs {graph.input.shape}")
    return prepare(graph).to(region.lower.dtype)


def margins(labels: Tensor, classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows ``(B, C - 1, C)`` of ``y_label - y_other`` for every other class, in order.

    >>> margins(torch.tensor([1]), 3).tolist()
    [[[-1.0, 1.0, 0.0], [0.0, 1.0, -1.0]]]
    """
    if bool(((labels < 0) | (labels >= classes)).any()):
        raise DataError(f"labels outside of 0 .. {classes - 1}")
    unit = torch.eye(classes, dtype=dtype)
    others = torch.arange(classes).expand(len(labels), classes)
    others = others[others != labels[:, None]].reshape(len(labels), classes - 1)
    return unit[labels][:, None] - unit[others]


def _region(threat: Ball | Region, x: Tensor | None) -> Region:
    if isinstance(threat, Region):
        if x is not None:
            raise ParameterError(
                "a region and inputs around which it would lie", repair="leave x out"
            )
        return threat
    if x is None:
        raise ParameterError(
            "a threat without inputs to act on", repair="compute(model, threat, x)"
        )
    return ball(threat, x)


def _wanted(rows: Tensor | None, size: tuple[int, ...], region: Region) -> Tensor:
    kind, batch = region.lower.dtype, len(region)
    if rows is None:
        numbers = torch.Size(size).numel()
        unit = torch.eye(numbers, dtype=kind).reshape(numbers, 1, *size)
        return torch.cat([unit, -unit]).expand(-1, batch, *size)
    if rows.ndim == len(size) + 1:
        rows = rows.unsqueeze(0).expand(batch, *rows.shape)
    if rows.shape[0] != batch or tuple(rows.shape[2:]) != size or not rows.shape[1]:
        raise DataError(
            f"coefficients of shape {tuple(rows.shape)}",
            why=f"{batch} inputs and outputs of shape {size} need ({batch}, S, *{size})",
        )
    if not bool(torch.isfinite(rows).all()):
        raise DataError("coefficients that are NaN or infinite")
    return rows.transpose(0, 1).to(kind)


def _counted(found: Tensor) -> Tensor:
    """A bound that is NaN is none."""
    return found.nan_to_num(-torch.inf, torch.inf, -torch.inf).detach()
