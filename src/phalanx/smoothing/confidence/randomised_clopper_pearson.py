"""Clopper-Pearson with a drawn number, which makes it exact (Stevens, 1950; for smoothing Voracek
2024, arXiv 2406.17830).

Counts are whole numbers, so the plain bound fails less often than alpha. With a uniform ``u``,
drawn apart from the votes, the p at which ``P(X > k) + u P(X = k) = alpha`` fails exactly that
often, and is never below the plain bound, which is that of ``u = 1``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import betainc

from phalanx.errors import ParameterError
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.confidence.clopper_pearson import SLACK, ClopperPearson, check_counts

_PLAIN = ClopperPearson()


@dataclass(frozen=True)
class RandomisedClopperPearson:
    """The bound for one drawn number; until one is drawn it is the plain bound.

    A draw below ``sqrt(alpha)`` is taken as that: with ``u <= alpha`` even no vote at all would
    bound the probability by 1.

    Attributes:
        u: in [0, 1].
    """

    u: float = 1.0
    anytime = False

    def __post_init__(self) -> None:
        if not 0 <= self.u <= 1:
            raise ParameterError(f"a drawn number of {self.u!r}", why="it is between 0 and 1")

    def drawn(self, u: float) -> RandomisedClopperPearson:
        """The bound for another drawn number."""
        return RandomisedClopperPearson(u)

    def lower(self, successes: int, trials: int, alpha: float) -> float:
        """The root in p, rounded down; 0 when nothing succeeded.

        >>> bound = RandomisedClopperPearson()
        >>> plain, better = bound.lower(990, 1000, 0.001), bound.drawn(0.5).lower(990, 1000, 0.001)
        >>> round(plain, 6), round(better, 6)
        (0.976036, 0.976619)
        """
        check_counts(successes, trials, alpha)
        u = max(self.u, math.sqrt(alpha))
        if u == 1.0 or successes == 0:
            return _PLAIN.lower(successes, trials, alpha)
        if successes == trials:
            return math.exp(math.log(alpha / u) / trials) * (1 - SLACK)

        def excess(p: float) -> float:
            more = betainc(successes + 1, trials - successes, p)
            same_or_more = betainc(successes, trials - successes + 1, p)
            return float(u * same_or_more + (1 - u) * more) - alpha

        low = _PLAIN.lower(successes, trials, alpha)
        high = min(1.0, _PLAIN.lower(successes + 1, trials, alpha) * (1 + 4 * SLACK))
        p = brentq(excess, low, high, xtol=1e-15, rtol=1e-14)
        return max(low, p * (1 - 10 * SLACK))

    def upper(self, successes: int, trials: int, alpha: float) -> float:
        """One minus the lower bound of the failures, rounded up."""
        check_counts(successes, trials, alpha)
        below = self.lower(trials - successes, trials, alpha)
        return min(1.0, math.nextafter(1.0 - below, 2.0))


bounds.register("randomised-clopper-pearson")(RandomisedClopperPearson())
