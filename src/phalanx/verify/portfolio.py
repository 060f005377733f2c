"""`decide`: attack, then the cheapest bounds, then search, until every case is decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from phalanx.bounds.problem import Options
from phalanx.errors import (
    MissingDependencyError,
    NonFiniteError,
    ParameterError,
    PhalanxError,
)
from phalanx.graph.ir import Graph
from phalanx.specs.property import Property
from phalanx.verdicts import Verdict
from phalanx.verify.bab.search import FEW_INPUTS
from phalanx.verify.bounding import (
    Found,
    Inside,
    bounded,
    fields,
    inside_of,
    is_mixed,
    key_of,
    prepared,
)
from phalanx.verify.engine import Task, engines
from phalanx.verify.falsify import Effort, falsified
from phalanx.verify.network import Network
from phalanx.verify.outcome import CLOSING, EXHAUSTED, TIMEOUT, Clock, OutOfTime
from phalanx.verify.proof.evidence import Evidence
from phalanx.verify.proving import Prover
from phalanx.verify.rechecking import recheck_cases
from phalanx.verify.result import OUTWARD, REAL, Result, Watch
from phalanx.verify.witness import Witness, replayed

UNCONFIRMED = "a counterexample was not confirmed when it was replayed"
FAILURES = (PhalanxError, RuntimeError, MemoryError, ArithmeticError, ValueError, LookupError)
"""What a step may fail with; other steps are still believed, and the property may not be."""


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


def _suited(names: tuple[str, ...], graph: Graph) -> tuple[str, ...]:
    """The engines of a plan; of those that nobody asked for, the ones that suit a network."""
    flat = sum(node.op == "relu" for node in graph) == 1
    return names if flat or names != default_engines() else tuple(n for n in names if n != FLAT)


QUICK, FULL = ("interval", "crown", "alpha-crown"), "alpha-crown-full"
"""Bounding methods in the order of their cost; the last one is for networks of many inputs."""

LONG = 60
"""Steps of the last one."""

MOST_BOXES = 16
"""Of so many boxes of inputs at most, what is known of the values in between is kept."""


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


SHARES = {
    "attack": 0.1,
    "interval": 0.5,
    "crown": 0.5,
    "alpha-crown": 0.25,
    "alpha-crown-full": 0.25,
    "pursuit": 0.1,
    FLAT: 0.5,
}
"""Of the time left, that a step may take; others may take half."""


RECHECK = 0.25
"""Of the time left, for rechecks of one method."""


class _Run:
    """One property on its way to an answer."""

    def __init__(
        self, network: Network, prop: Property, clock: Clock, plan: Portfolio, watch: Watch
    ) -> None:
        self.network, self.prop, self.clock = network, prop, clock
        self.plan, self.watch = plan, watch
        self.engines = _suited(plan.engines, network.graph)
        self.open = list(range(len(prop.cases)))
        self.refuted: dict[int, tuple[str, str]] = {}
        self.best: dict[int, float] = {}
        self.witness: Witness | None = None
        self.failures: list[Exception] = []
        self.undecided = ""
        self.late: list[int] = []
        self.inside: dict[bytes, Inside] = {}
        self.stats: dict[str, object] = {}
        self.rechecked = 0.0
        self.evidence: dict[int, Evidence] = {}
        self.prover = Prover(network.graph, prop) if plan.proof else None
        watch.cases = len(prop.cases)

    # steps

    def decided(self) -> bool:
        """Whether nothing is left to do."""
        return self.witness is not None or not self.open

    def attempt(self, name: str, step: Callable[[Clock], None]) -> None:
        """A step within its share of the time; what it fails with is kept."""
        if self.decided() or self.clock.expired():
            return
        self.watch.stage = name
        try:
            step(self.clock.share(SHARES.get(name, 0.5)))
        except OutOfTime:
            return
        except MissingDependencyError as missing:
            self.undecided = str(missing)
        except FAILURES as failure:
            self.failures.append(failure)
        finally:
            self.watch.refuted = len(self.refuted)
            self.watch.proven = not self.open

    def attack(self, effort: Effort, clock: Clock) -> None:
        """Look for a counterexample of any open case."""
        self.witness = falsified(
            self.network, self.prop, tuple(self.open), clock, effort=effort, seed=self.plan.seed
        )

    def bound(self, method: str, clock: Clock) -> None:
        """Refute open cases by a bounding method."""
        graph = prepared(self.network.graph, mixed=is_mixed(self.prop))
        refuted: list[tuple[int, Found]] = []
        parts = fields(self.prop, self.open)
        options = Options()
        if method == FULL:
            if max(int((part.lower < part.upper).sum()) for part in parts) <= FEW_INPUTS:
                return
            # A step that is begun may use what it needs; no other is begun when its share is over.
            end, clock = clock, self.clock
            options = Options(iterations=LONG, go_on=lambda: not end.expired())
        known = self.inside
        parts = [
            replace(part, boxes=known[part.key].boxes) if part.key in known else part
            for part in parts
        ]
        try:
            for number, found in bounded(graph, parts, method, clock, options):
                self._remember(number, found)
                self.best[number] = max(found.lower, self.best.get(number, -math.inf))
                if found.lower > 0:
                    refuted.append((number, found))
                    if self.prover is None:
                        self.refuted[number] = (method, REAL)
        except OutOfTime:
            if self.prover is None:
                raise
        finally:
            self.open = [number for number in self.open if number not in self.refuted]
            self.watch.proven = not self.open
        if refuted and (self.plan.recheck or self.prover is not None):
            self.recheck(method, graph, refuted)

    def _remember(self, number: int, found: Found) -> None:
        """What a method found out about the values in between."""
        inside = None if found.trace is None else inside_of(found.trace, found.place[1])
        case = self.prop.cases[number]
        key = key_of(case.lower, case.upper)
        if inside is not None and (key in self.inside or len(self.inside) < MOST_BOXES):
            self.inside[key] = inside

    def recheck(self, method: str, graph: Graph, refuted: list[tuple[int, Found]]) -> None:
        """Count roundings; a case whose refutation does not stand is open again."""
        part, begun = self.clock.share(RECHECK), self.clock.spent()
        if self.prover is not None:
            rechecked = self.prover.recheck(refuted, self.evidence)
        else:
            rechecked = recheck_cases(graph, self.prop, refuted, part)
        for number, stands in rechecked:
            if stands:
                self.refuted[number] = (method, OUTWARD)
            elif self.refuted.pop(number, None) is not None:
                self.open.append(number)
                self.watch.proven = False
        self.open = [number for number in self.open if number not in self.refuted]
        self.watch.proven = not self.open
        self.rechecked += self.clock.spent() - begun

    def search(self, name: str, number: int, end: Clock, part: float, _: Clock) -> None:
        """Let an engine decide a case in its part of the time that is left."""
        case, clock = self.prop.cases[number], end.share(part)

        def confirm(x: Tensor) -> bool:
            return replayed(self.network, self.prop, number, x[None]) is not None

        def told(numbers: Mapping[str, Any]) -> None:
            self.watch.numbers = numbers

        known = None if is_mixed(self.prop) else self.inside.get(key_of(case.lower, case.upper))
        proof = self.prover is not None
        task = Task(self.network.graph, case, clock, self.plan.seed, confirm, told, proof, known)
        try:
            outcome = engines.get(name)(task)
        except OutOfTime:
            self.late.append(number)
            return
        self.stats.update({f"{name}: {key}": value for key, value in outcome.stats.items()})
        self.rechecked += outcome.stats.get(CLOSING, 0.0)
        if outcome.lower is not None:
            self.best[number] = max(outcome.lower, self.best.get(number, -math.inf))
        if outcome.verdict is Verdict.VERIFIED and proof and outcome.evidence is None:
            self.undecided = f"{name} tells no evidence of what it proved"
        elif outcome.verdict is Verdict.VERIFIED:
            if outcome.evidence is not None:
                self.evidence[number] = outcome.evidence
            self.refuted[number] = (name, str(outcome.stats.get("arithmetic", REAL)))
            self.open.remove(number)
        elif outcome.witness is not None:
            self.witness = replayed(self.network, self.prop, number, outcome.witness[None])
            if self.witness is None:
                self.undecided = UNCONFIRMED
        elif outcome.reason == TIMEOUT:
            self.late.append(number)
        else:
            self.undecided = outcome.reason

    def rounds(self, name: str) -> None:
        """An engine on every open case; those that time ran out of share what the others left."""
        last = name == self.engines[-1]
        waiting, end = list(self.open), self.clock.share(1.0 if last else SHARES.get(name, 1.0))
        while waiting and not self.decided() and not end.expired():
            self.late = []
            for at, number in enumerate(waiting):
                part = 1 / (len(waiting) - at)
                self.attempt(name, partial(self.search, name, number, end, part))
            waiting = self.late

    def run(self) -> Result:
        """All of it."""
        plan = self.plan
        self.attempt("attack", partial(self.attack, plan.attack))
        for method in plan.bounds:
            self.attempt(method, partial(self.bound, method))
        self.attempt("pursuit", partial(self.attack, plan.pursuit))
        for name in self.engines:
            self.rounds(name)
        return self.result()

    def result(self) -> Result:
        """The answer."""
        verdict, reason, arithmetic = self._judged()
        by: dict[str, int] = {}
        for method, _ in self.refuted.values():
            by[method] = by.get(method, 0) + 1
        lower = min((self.best.get(n, -math.inf) for n in self.open), default=-math.inf)
        return Result(
            verdict,
            reason,
            self.clock.spent(),
            len(self.prop.cases),
            refuted=len(self.refuted),
            witness=self.witness,
            arithmetic=arithmetic,
            lower=lower if math.isfinite(lower) else None,
            by=by,
            stats=self.stats,
            rechecked=self.rechecked,
            evidence=self.evidence,
        )

    def _judged(self) -> tuple[Verdict, str, str | None]:
        if self.witness is not None:
            return Verdict.FALSIFIED, f"replayed in {self.witness.runtime}", None
        broken = next((f for f in self.failures if isinstance(f, NonFiniteError)), None)
        if not self.open and broken is None:
            counted = all(arithmetic == OUTWARD for _, arithmetic in self.refuted.values())
            methods = list(dict.fromkeys(method for method, _ in self.refuted.values()))
            return Verdict.VERIFIED, ", ".join(methods), OUTWARD if counted else REAL
        if self.failures:
            failure = broken or self.failures[0]
            return Verdict.ERROR, f"{type(failure).__name__}: {failure}", None
        if self.clock.expired():
            return Verdict.UNKNOWN, TIMEOUT, None
        return Verdict.UNKNOWN, self.undecided or EXHAUSTED, None


def decide(
    network: Network,
    prop: Property,
    timeout: float = math.inf,
    *,
    plan: Portfolio | None = None,
    watch: Watch | None = None,
    clock: Clock | None = None,
) -> Result:
    """Whether a property holds of a network.

    A property is verified where every one of its cases is refuted, falsified by one replayed
    counterexample. A step that fails decides nothing; if nothing else does, the verdict is an
    error.

    Args:
        network: see `network_of`.
        prop: see `Property`.
        timeout: seconds of wall clock.
        plan: what is tried.
        watch: told what is known so far.
        clock: in place of a timeout.

    Raises:
        DataError: the property is of another network. ParameterError: no time limit, or no such
            method.
    """
    network.check(prop)
    plan = plan or Portfolio()
    _check(plan)
    return _Run(network, prop, clock or Clock(timeout), plan, watch or Watch()).run()


def _check(plan: Portfolio) -> None:
    from phalanx.bounds.problem import methods

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
