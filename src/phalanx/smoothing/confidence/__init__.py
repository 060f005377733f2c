"""Lower confidence bounds on a probability from counts; one file a bound."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from phalanx.registry import Registry


class Bound(Protocol):
    """One-sided bounds on the success probability of a binomial.

    Both hold with probability at least ``1 - alpha`` each, whatever the true probability is.

    Attributes:
        anytime: whether they hold for all numbers of samples together, so that one may look at
            the counts as often as one likes and stop when one likes. Others hold for a number of
            samples that was fixed before the first was drawn.
    """

    anytime: bool

    def lower(self, successes: int, trials: int, alpha: float) -> float:
        """A number in [0, 1) that exceeds the true probability at most alpha of the time."""
        ...

    def upper(self, successes: int, trials: int, alpha: float) -> float:
        """A number in (0, 1] that falls short of it at most alpha of the time."""
        ...


@runtime_checkable
class Randomised(Bound, Protocol):
    """A bound that needs a uniform number, drawn apart from the votes, once for an input."""

    def drawn(self, u: float) -> Bound:
        """The bound for this number in [0, 1]."""
        ...


bounds: Registry[Bound] = Registry(
    "bounds", "phalanx.smoothing.confidence", noun="confidence bound"
)
