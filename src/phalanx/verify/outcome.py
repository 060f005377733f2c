"""`Outcome`: what a step of verification found out; `Clock`: how long it may take."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor

from phalanx.errors import ParameterError
from phalanx.verdicts import Verdict
from phalanx.verify.proof.evidence import Evidence

CLOSING = "seconds of closing"
"""The number that says how long what was found took to be proven once more."""
TIMEOUT = "timeout"
"""The reason of an unknown whose time ran out."""
EXHAUSTED = "exhausted"
"""The reason of an unknown where nothing was left to try."""


class OutOfTime(Exception):
    """A clock ran out in the middle of a step; what was not finished says nothing."""


class Clock:
    """A deadline, in seconds of a clock that never goes back.

    Args:
        seconds: from now on; infinity is no deadline.

    Raises:
        ParameterError: NaN, or not positive.

    >>> Clock(60.0).expired()
    False
    """

    def __init__(self, seconds: float = math.inf) -> None:
        if not seconds > 0:
            raise ParameterError(
                f"a time limit of {seconds} seconds", why="it must be positive", repair="60"
            )
        self._start = time.monotonic()
        self._seconds = seconds

    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def left(self) -> float:
        """Seconds until the deadline; negative behind it."""
        return self._seconds - self.spent()

    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self.left() <= 0

    def share(self, part: float) -> Clock:
        """A clock that stops after ``part`` of the time left; already expired if none is."""
        return Clock(max(self.left() * part, math.ulp(0.0)))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What is known of a case (or of a whole property).

    Attributes:
        verdict: VERIFIED: the case has no counterexample. FALSIFIED: the witness is one; whoever
            found it has evaluated the network there, whoever reports it replays it once more.
            UNKNOWN: neither, for the reason. An error is raised, not returned, by an engine.
        reason: how it was decided (the engine's name), or why it was not (`TIMEOUT`, ...).
        witness: an input, ``(n,)`` flat, of a falsified case; else None.
        lower: the best bound found: over all inputs left open, the least over inputs of the
            largest row is at least this; None: not computed.
        evidence: how the whole case was refuted, where that was asked for.
        stats: numbers to show, such as ``domains``; no meaning for the verdict.

    Raises:
        ParameterError: a falsified outcome without a witness, a witness of another one, or no
            reason of an unknown one.
    """

    verdict: Verdict
    reason: str
    witness: Tensor | None = None
    lower: float | None = None
    stats: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    evidence: Evidence | None = None

    def __post_init__(self) -> None:
        if (self.verdict is Verdict.FALSIFIED) != (self.witness is not None):
            raise ParameterError(
                f"an outcome {self.verdict} with witness {self.witness}",
                why="a counterexample, and nothing else, comes with one",
            )
        if self.verdict is Verdict.UNKNOWN and not self.reason:
            raise ParameterError("an unknown without a reason", repair=f"for example {TIMEOUT!r}")
        if self.lower is not None and math.isnan(self.lower):
            raise ParameterError("a bound that is NaN", repair="None where none was computed")
