"""What can be said about one sample. Standard library only, so that every room may use it."""

from __future__ import annotations

from enum import Enum, StrEnum


class Verdict(StrEnum):
    """The outcome for one sample; the five are never blurred into one another.

    VERIFIED: the property holds (for smoothing: at the certificate's confidence and radius).
    FALSIFIED: a counterexample was re-executed.
    UNKNOWN: the method ran to its end or its time limit without deciding; carries a reason.
    ABSTAINED: a randomised method's statistics allow no claim at the stated confidence.
    ERROR: the computation failed. An error is never an "unknown" and counts as not certified.
    """

    VERIFIED = "verified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"
    ABSTAINED = "abstained"
    ERROR = "error"


class Abstention(Enum):
    """The label a smoothed classifier returns when its votes decide nothing."""

    ABSTAIN = "abstain"

    def __repr__(self) -> str:
        return "ABSTAIN"


ABSTAIN = Abstention.ABSTAIN
