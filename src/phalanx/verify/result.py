"""`Result`: what `verify` answers, and what is already known while it works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from phalanx.verdicts import Verdict
from phalanx.verify.outcome import TIMEOUT
from phalanx.verify.proof.evidence import Evidence
from phalanx.verify.witness import Witness

OUTWARD = "outward"
REAL = "real"


@dataclass(frozen=True, eq=False)
class Result:
    """The answer to a property.

    Attributes:
        verdict: VERIFIED: every case was refuted. FALSIFIED: the witness was replayed. UNKNOWN:
            see the reason. ERROR: something failed, and what did not fail decided nothing.
        reason: how it was decided, or why it was not.
        witness: see `Witness`; only of a falsified property.
        arithmetic: of a verified property: ``outward``: every case was proven with all roundings of
            the proof counted; ``real``: in exact arithmetic, up to roundings of float64, as some
            engines prove, and bounds that were not to be rechecked or cannot be. Neither speaks of
            the roundings of the network's own execution.
        seconds: wall clock.
        cases, refuted: how many there are, and how many of them are proven to be empty.
        lower: least over open cases of the best bound; None where there is none.
        by: how many cases each method refuted.
        stats: numbers of the search.
        rechecked: seconds of proving once more with roundings counted.
        evidence: how each case was refuted, where a proof was asked for.
        failures: what steps failed with, whatever the others decided.
    """

    verdict: Verdict
    reason: str
    seconds: float
    cases: int
    refuted: int = 0
    witness: Witness | None = None
    arithmetic: str | None = None
    lower: float | None = None
    by: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    stats: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    rechecked: float = 0.0
    evidence: Mapping[int, Evidence] = field(default_factory=lambda: MappingProxyType({}))
    failures: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """``unsat``, ``sat``, ``timeout``, ``unknown`` or ``error``."""
        if self.verdict is Verdict.VERIFIED:
            return "unsat"
        if self.verdict is Verdict.FALSIFIED:
            return "sat"
        if self.verdict is Verdict.ERROR:
            return "error"
        return "timeout" if self.reason == TIMEOUT else "unknown"

    def __repr__(self) -> str:
        how = f" in {self.arithmetic} arithmetic" if self.arithmetic else ""
        return (
            f"Result: {self.verdict} ({self.reason}){how}, {self.refuted} of {self.cases} cases"
            f" refuted, {self.seconds:.2f} s, of which {self.rechecked:.2f} s to check again"
            + "".join(f"; a step failed: {failure}" for failure in dict.fromkeys(self.failures))
        )


class Watch:
    """What is known so far, for whoever may not wait for the end.

    Args:
        told: called with whether all cases are refuted, whenever that changes.

    Attributes:
        stage: what is being done.
        refuted, cases: how far it is.
        numbers: of the search: domains, bound.
    """

    def __init__(self, told: Callable[[bool], None] | None = None) -> None:
        self.stage = ""
        self.refuted = self.cases = 0
        self.numbers: Mapping[str, Any] = {}
        self._told, self._proven = told, False

    @property
    def proven(self) -> bool:
        """All cases are refuted, and nothing is left to do before that may be said."""
        return self._proven

    @proven.setter
    def proven(self, value: bool) -> None:
        if value != self._proven and self._told is not None:
            self._told(value)
        self._proven = value
