"""Complete methods in a sweep: an engine of `phalanx.verify`, input by input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import inf
from typing import Any

import torch
from torch import Tensor

from phalanx.bounds.options import Options
from phalanx.bounds.outward.recheck import outward_ball
from phalanx.bounds.problem import methods
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import NonFiniteError, ParameterError, PhalanxError
from phalanx.evaluation.proving import REAL, Proof, Prover, ladder
from phalanx.models.imported import graph_of
from phalanx.models.model import Model
from phalanx.specs.robustness import robust_in_box
from phalanx.specs.threat import Threat
from phalanx.verdicts import Verdict
from phalanx.verify.engine import engines
from phalanx.verify.falsify import Effort
from phalanx.verify.network import Network, network_of
from phalanx.verify.plans import Portfolio
from phalanx.verify.portfolio import decide
from phalanx.verify.runtimes import ModuleRuntime

SECONDS = 60.0
"""An image, where no limit is said; as in the benchmark of Li, Xie & Li (2023)."""
READS = ("seconds",)
"""Options that engines read."""


class EngineFailed(PhalanxError):
    """A complete method failed on an input; nothing is known of it."""


def options_of(method: str, asked: Mapping[str, Any]) -> Options:
    """Options that were asked for, of a bounding method, of ``auto`` or of an engine.

    Raises:
        ParameterError: no such method; an option that there is not, that the method does not
            read, or whose value means nothing.
    """
    read = _read_by(method)
    for name in asked:
        if name not in (known := [option.name for option in fields(Options)]):
            raise ParameterError(
                f"a bounding method has no option {name!r}", repair=f"one of {', '.join(known)}"
            )
        if name not in read:
            readers = [one for one in methods.names() if name in methods.reads(one)]
            readers += engines.names() if name in READS else []
            raise ParameterError(
                f"{method} does not read the option {name!r}",
                why=f"it is for {', '.join(readers)}; {method} reads {', '.join(read) or 'none'}",
                repair="leave it out, or another --method",
            )
    return Options(**asked)


def _read_by(method: str) -> tuple[str, ...]:
    """Names of options; of ``auto`` those that any of its methods reads."""
    if method in engines.names():
        return READS
    return tuple(dict.fromkeys(name for one in ladder(method) for name in methods.reads(one)))


def prover_of(
    model: Model | Ensemble,
    shape: tuple[int, ...],
    *,
    method: str,
    arithmetic: str | None,
    options: Options,
) -> Prover:
    """By bounds, or by an engine where the method is one's name."""
    if method in engines.names():
        return Decider(model, shape, method=method, arithmetic=arithmetic, options=options)
    return Prover(model, shape, method=method, arithmetic=arithmetic, options=options)


class Decider(Prover):
    """Decides, by one engine alone, whether a class wins everywhere around an input, in l_inf.

    Neither an attack nor a cheaper bound comes before it, so that its figures are its own.

    Args:
        model: in evaluation mode; read once.
        shape: of one input.
        method: an engine.
        arithmetic: ``real`` or None; what an engine proves is not checked again here.
        options: ``seconds`` an input; None: `SECONDS`.

    Raises:
        ParameterError: another arithmetic. GraphError: the network cannot be read.
    """

    def __init__(
        self,
        model: Model | Ensemble,
        shape: tuple[int, ...],
        *,
        method: str,
        arithmetic: str | None = None,
        options: Options | None = None,
    ) -> None:
        if arithmetic not in (None, REAL):
            raise ParameterError(
                f"--arithmetic {arithmetic} with {method}",
                why="what an engine proves is not checked again in a sweep",
                repair=f"--arithmetic real, or phalanx verify --engine {method}",
            )
        self.model, self.classes, self.methods = model, model.classes, (method,)
        self.options, self.exact = options or Options(), ()
        self.why_real = f"what {method} proves is not checked again in a sweep"
        self.network = _network(model, shape)
        nothing = Effort(0, 0)
        self.plan = Portfolio(nothing, (), nothing, engines=(method,), recheck=False)

    def prove(self, x: Tensor, label: int, threat: Threat, *, confirm: bool = True) -> Proof:
        """Within the seconds; a counterexample is one that was run again.

        Args:
            x: an input ``(1, *shape)``.
            label: the class to prove.
            threat: the ball.
            confirm: of no consequence: nothing is checked again.

        Raises:
            ParameterError: a ball that is no box. NonFiniteError, EngineFailed: no answer.
        """
        method = self.methods[0]
        if threat.norm != "linf":
            raise ParameterError(
                f"--norm {threat.norm} with {method}", why="engines search boxes", repair="linf"
            )
        ball = outward_ball(threat, x)
        prop = robust_in_box(ball.lower[0], ball.upper[0], label, self.classes)
        seconds = self.options.seconds
        found = decide(self.network, prop, SECONDS if seconds is None else seconds, plan=self.plan)
        if found.verdict is Verdict.ERROR:
            kind = NonFiniteError if found.reason.startswith("NonFiniteError") else EngineFailed
            raise kind(f"{method}: {found.reason}")
        against = 0 if found.witness is None else _winner(found.witness.y, label)
        holds, broken = found.verdict is Verdict.VERIFIED, found.witness is not None
        why = "" if holds or broken else f"{method}: {found.reason}"
        return Proof(holds, found.lower, against, method, (method,), None, broken, why)


def _winner(y: Tensor, label: int) -> int:
    others = y.clone()
    others[label] = -inf
    return int(torch.argmax(others))


def _network(model: Model | Ensemble, shape: tuple[int, ...]) -> Network:
    if isinstance(model, Ensemble):
        return network_of(model)
    graph = graph_of(model, shape)
    return Network(graph, ModuleRuntime(model, graph), model.card.name)
