"""`decide`: attack, then the cheapest bounds, then search, until every case is decided."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from phalanx.bounds.options import Options
from phalanx.bounds.outward.passes import NOTHING, Known
from phalanx.errors import MissingDependencyError, NonFiniteError, PhalanxError
from phalanx.graph.ir import Graph
from phalanx.specs.property import Property
from phalanx.verdicts import Verdict
from phalanx.verify.bab.search import FEW_INPUTS
from phalanx.verify.bounding import (
    MOST_BOXES,
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
from phalanx.verify.plans import FLAT, FULL, Portfolio, require_methods, suited
from phalanx.verify.proof.evidence import Evidence
from phalanx.verify.proving import CheckerBounds
from phalanx.verify.rechecking import Refuted, recheck_cases, rechecks
from phalanx.verify.result import OUTWARD, REAL, Result, Watch
from phalanx.verify.witness import Witness, replayed

UNCONFIRMED = "a counterexample was not confirmed when it was replayed"
UNCHECKED = "there was no time to count the roundings of a proof"
FAILURES = (
    *(PhalanxError, RuntimeError, MemoryError, ArithmeticError, ValueError, LookupError),
    *(TypeError, AttributeError, AssertionError, ImportError, OSError),
)
"""What a step may fail with; other steps are still believed, and the property may not be. Anything
else ends it all, and is raised."""

LONG = 60
"""Steps of alpha-CROWN in full."""

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
"""Of the time left at least, for rechecks of one method, and the share of open cases that it has
refuted."""


class _Run:
    """One property on its way to an answer."""

    def __init__(
        self, network: Network, prop: Property, clock: Clock, plan: Portfolio, watch: Watch
    ) -> None:
        self.network, self.prop, self.clock = network, prop, clock
        self.plan, self.watch = plan, watch
        self.engines = suited(plan.engines, network.graph)
        self.open = list(range(len(prop.cases)))
        self.refuted: dict[int, tuple[str, str]] = {}
        self.best: dict[int, float] = {}
        self.witness: Witness | None = None
        self.failures: list[Exception] = []
        self.undecided = ""
        self.late: list[int] = []
        self.inside: dict[bytes, Inside] = {}
        self.sound: dict[bytes, Known] = {}
        self.stats: dict[str, object] = {}
        self.rechecked = 0.0
        self.evidence: dict[int, Evidence] = {}
        self.checker = CheckerBounds(network.graph, prop) if plan.proof else None
        watch.cases = len(prop.cases)

    # steps

    def decided(self) -> bool:
        """Whether nothing is left to do."""
        return self.witness is not None or not self.open

    def proven(self) -> bool:
        """Whether every case is refuted, by whoever counts; and the network answers numbers."""
        broken = any(isinstance(failure, NonFiniteError) for failure in self.failures)
        return not self.open and not broken

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
            self.watch.proven = self.proven()

    def attack(self, effort: Effort, clock: Clock) -> None:
        """Look for a counterexample of any open case."""
        self.witness = falsified(
            self.network, self.prop, tuple(self.open), clock, effort=effort, seed=self.plan.seed
        )

    def bound(self, method: str, clock: Clock) -> None:
        """Refute open cases by a bounding method."""
        graph = prepared(self.network.graph, mixed=is_mixed(self.prop))
        refuted: list[Refuted] = []
        parts = fields(self.prop, self.open)
        options, end = Options(), self.clock
        if method == FULL:
            if max(int((part.lower < part.upper).sum()) for part in parts) <= FEW_INPUTS:
                return
            # A step that is begun may use what it needs; no other is begun when its share is over.
            end, clock, options = clock, self.clock, Options(iterations=LONG)
        known = self.inside
        parts = [
            replace(part, boxes=known[part.key].boxes) if part.key in known else part
            for part in parts
        ]
        try:
            for number, found in bounded(graph, parts, method, clock, options=options, end=end):
                self._remember(number, found)
                if found.lower > 0:
                    refuted.append((number, found))
                else:
                    self.best[number] = max(found.lower, self.best.get(number, -math.inf))
        except OutOfTime:  # what was found before stands
            pass
        if refuted and (self.checker is not None or (self.plan.recheck and rechecks(graph))):
            self.recheck(method, graph, refuted)
        else:
            self.refute(method, REAL, [number for number, _ in refuted])

    def _remember(self, number: int, found: Found) -> None:
        """What a method found out about the values in between."""
        inside = None if found.trace is None else inside_of(found.trace, found.place[1])
        case = self.prop.cases[number]
        key = key_of(case.lower, case.upper)
        if inside is not None and (key in self.inside or len(self.inside) < MOST_BOXES):
            self.inside[key] = inside

    def recheck(self, method: str, graph: Graph, refuted: list[Refuted]) -> None:
        """Count roundings; only cases whose refutation stands are refuted.

        Those that it denies or does not reach in time stay open, and all do where it fails.
        """
        begun, stand = self.clock.spent(), []
        # Where nothing else is open, all the time that is left is for this.
        clock = self.clock.share(max(RECHECK, len(refuted) / len(self.open)))
        if self.checker is not None:
            rechecked = self.checker.recheck(refuted, self.evidence)
        else:
            rechecked = recheck_cases(graph, self.prop, refuted, clock, self.sound)
        try:
            for number, stands in rechecked:
                if stands:
                    stand.append(number)
        except OutOfTime:
            self.undecided = UNCHECKED
        finally:
            self.rechecked += self.clock.spent() - begun
        self.refute(method, OUTWARD, stand)

    def refute(self, method: str, arithmetic: str, numbers: Collection[int]) -> None:
        """Cases that are no longer open."""
        for number in numbers:
            # What is proven of rounded coefficients holds of the file's own up to that rounding.
            whole = self.prop.cases[number].exact.whole
            self.refuted[number] = (method, arithmetic if whole or method == "smt" else REAL)
        self.open = [number for number in self.open if number not in self.refuted]

    def search(self, name: str, number: int, end: Clock, part: float, _: Clock) -> None:
        """Let an engine decide a case in its part of the time that is left."""
        case, clock = self.prop.cases[number], end.share(part)

        def confirm(x: Tensor) -> bool:
            return replayed(self.network, self.prop, number, x[None]) is not None

        def told(numbers: Mapping[str, Any]) -> None:
            self.watch.numbers = numbers

        key = key_of(case.lower, case.upper)
        known = None if is_mixed(self.prop) else self.inside.get(key)
        if known is not None:
            known = replace(known, sound=self.sound.get(key, NOTHING))
        proof = self.checker is not None
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
            self.refute(name, str(outcome.stats.get("arithmetic", REAL)), [number])
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
        by = Counter(method for method, _ in self.refuted.values())
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
            failures=tuple(f"{type(failure).__name__}: {failure}" for failure in self.failures),
        )

    def _judged(self) -> tuple[Verdict, str, str | None]:
        if self.witness is not None:
            return Verdict.FALSIFIED, f"replayed in {self.witness.runtime}", None
        if self.proven():
            counted = all(arithmetic == OUTWARD for _, arithmetic in self.refuted.values())
            methods = list(dict.fromkeys(method for method, _ in self.refuted.values()))
            return Verdict.VERIFIED, ", ".join(methods), OUTWARD if counted else REAL
        if self.failures:
            # An answer that is no number is none that the other steps could stand for.
            failure = min(
                self.failures, key=lambda failure: not isinstance(failure, NonFiniteError)
            )
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
    require_methods(plan)
    return _Run(network, prop, clock or Clock(timeout), plan, watch or Watch()).run()
