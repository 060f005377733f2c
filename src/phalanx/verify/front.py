"""`verify`: whether a property holds of a network, from Python."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from phalanx.errors import ParameterError
from phalanx.graph.ir import Graph
from phalanx.specs.property import Case, Property
from phalanx.specs.vnnlib import read
from phalanx.specs.vnnlib.query import Query
from phalanx.verify.answers import require_consent
from phalanx.verify.network import Network, network_of
from phalanx.verify.outcome import Clock
from phalanx.verify.plans import Portfolio
from phalanx.verify.portfolio import decide
from phalanx.verify.result import Result, Watch

if TYPE_CHECKING:
    from phalanx.ensembles.ensemble import Ensemble
    from phalanx.models.model import Model


def verify(
    model: Network | Graph | Model | Ensemble | str | Path,
    prop: Property | Case | Query | str | Path,
    timeout: float = math.inf,
    *,
    plan: Portfolio | None = None,
    watch: Watch | None = None,
    idealised: bool = False,
) -> Result:
    """Whether a property holds of a network: proven, falsified by a replayed input, or unknown.

    Args:
        model: an ONNX file, a model (also as `phalanx.load` takes it), an ensemble, or a graph.
        prop: a VNN-LIB file, a property, or one case of it.
        timeout: seconds of wall clock, reading included.
        plan: what is tried, see `Portfolio`.
        watch: told what is known so far.
        idealised: answer a query about floats in exact arithmetic.

    Raises:
        GraphError, ModelError, DataError: network or property cannot be read, or do not fit.
        QueryError: a query about floats, and nobody has consented.
        ParameterError: no time limit, or no such method.

    >>> import torch
    >>> from phalanx.graph.ir import Node
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> graph = Graph((Node("x", "input", (), (1,)), Node("y", "relu", ("x",), (1,))), "y")
    >>> verify(graph, Case(-one, one, one[None], one), 60).verdict  # relu(x) + 1 <= 0
    <Verdict.VERIFIED: 'verified'>
    """
    clock = Clock(timeout)
    prop = read(prop) if isinstance(prop, str | Path) else prop
    if isinstance(prop, Query):
        require_consent(prop, idealised=idealised)
    network = network_of(model)
    if isinstance(prop, Query):
        network.check(prop)
    return decide(network, property_of(prop), plan=plan, watch=watch, clock=clock)


def property_of(prop: Property | Case | Query | str | Path) -> Property:
    """The property that was given in one of several ways.

    Raises:
        QueryError: a file that cannot be read. ParameterError: no property at all.
    """
    if isinstance(prop, str | Path):
        prop = read(prop)
    if isinstance(prop, Query):
        return prop.property
    if isinstance(prop, Case):
        return Property((prop,))
    if not isinstance(prop, Property):
        raise ParameterError(
            f"a property of type {type(prop).__name__}",
            repair="a VNN-LIB file, or phalanx.specs.property.Property",
        )
    return prop
