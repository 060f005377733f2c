"""Clopper-Pearson: the exact one-sided binomial bound (Clopper & Pearson, 1934)."""

from __future__ import annotations

from numbers import Real

from scipy.special import betaincinv

from phalanx.errors import ParameterError
from phalanx.smoothing.confidence import bounds

# scipy's inverse incomplete beta is accurate to a few ulp; the bound is moved outward by
# far more than that, and by far less than any count could show.
SLACK = 1e-13

# Far below, that accuracy is lost: of random counts at alpha 1e-250 one in forty gets a
# "bound" that fails 50,000 times more often than alpha says.
SMALLEST_ALPHA = 1e-12


class ClopperPearson:
    """``lower`` is the p at which ``successes`` or more has probability exactly alpha."""

    anytime = False

    def lower(self, successes: int, trials: int, alpha: float) -> float:
        """``BetaInv(alpha; k, n - k + 1)``, rounded down; 0 when ``k = 0``.

        >>> round(ClopperPearson().lower(100, 100, 0.001), 12)
        0.933254300797
        """
        check_counts(successes, trials, alpha)
        if successes == 0:
            return 0.0
        p = float(betaincinv(successes, trials - successes + 1, alpha))
        return max(0.0, p * (1 - SLACK))

    def upper(self, successes: int, trials: int, alpha: float) -> float:
        """``BetaInv(1 - alpha; k + 1, n - k)``, rounded up; 1 when ``k = n``."""
        check_counts(successes, trials, alpha)
        return 1.0 - self.lower(trials - successes, trials, alpha)


def check_counts(successes: int, trials: int, alpha: float) -> None:
    """Refuse counts and levels for which no bound exists."""
    check_alpha(alpha)
    if trials < 1:
        raise ParameterError(f"a confidence bound from {trials} samples", why="it needs 1 or more")
    if not 0 <= successes <= trials:
        raise ParameterError(f"{successes} successes in {trials} samples")


def check_alpha(alpha: object) -> None:
    """Refuse a failure probability outside [`SMALLEST_ALPHA`, 1).

    Below `SMALLEST_ALPHA` the inverse incomplete beta function is not accurate enough for its
    value to be a bound, and the arithmetic of the run is the larger risk anyway.
    """
    if isinstance(alpha, Real) and 0 < float(alpha) < SMALLEST_ALPHA:
        raise ParameterError(
            f"alpha is {alpha!r}",
            why=f"below {SMALLEST_ALPHA:g} the bound cannot be computed accurately enough to hold",
            repair="--alpha 0.001",
        )
    if not (isinstance(alpha, Real) and 0 < float(alpha) < 1):
        raise ParameterError(
            f"alpha is {alpha!r}",
            why="it is the probability that a certificate may be wrong, between 0 and 1",
            repair="--alpha 0.001",
        )


bounds.register("clopper-pearson")(ClopperPearson())
