"""What can be said about one sample. Light enough that every room may use it."""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NoReturn

from phalanx.errors import ParameterError


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
    """The label a smoothed classifier returns when its votes decide nothing.

    It is no class and no truth value: class 0 is false and every other one true, so that
    ``if label:`` would take an abstention for one or the other. Ask ``label is ABSTAIN``.
    """

    ABSTAIN = "abstain"

    def __repr__(self) -> str:
        return "ABSTAIN"

    def __bool__(self) -> NoReturn:
        raise _misread("a truth value")

    def __int__(self) -> NoReturn:
        raise _misread("a class index")


def _misread(what: str) -> ParameterError:
    return ParameterError(
        f"ABSTAIN is not {what}",
        why="the votes decided nothing about this input",
        repair="ask `label is ABSTAIN` first",
    )


ABSTAIN = Abstention.ABSTAIN
