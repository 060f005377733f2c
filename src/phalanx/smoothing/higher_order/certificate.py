"""From votes and the two halves to what is proven: a share of alpha for the slope."""

from __future__ import annotations

from phalanx.errors import ParameterError
from phalanx.runs.schema import Counts
from phalanx.smoothing.certificate import Certificate, certify_rule
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.confidence.clopper_pearson import check_alpha
from phalanx.smoothing.higher_order.radius import GradientRadius
from phalanx.smoothing.higher_order.slope import Halves, slope_upper
from phalanx.smoothing.stopping import Evidence, fixed_evidence

SHARE = 0.1
"""Of alpha, for the slope: at n = 100,000 it costs the bound on p less than 0.001 sigma."""


def certify_gradient(
    selection: Counts,
    estimation: Counts,
    halves: Halves,
    *,
    sigma: float,
    alpha: float,
    share: float = SHARE,
    bound: str = "clopper-pearson",
) -> Certificate:
    """Mohapatra et al. (2020) on counts of a number of samples fixed in advance.

    The bound on p fails with probability ``(1 - share) alpha`` and that on the slope with
    ``share alpha``; where neither does, the radius holds. What remains of 1 after the bound on p
    also bounds, in the same event, the probability of another vote that the slope needs.

    Args:
        selection: votes of the n0 samples that choose the class.
        estimation: votes of n fresh samples.
        halves: of the noise of these n samples, for the class that was chosen.
        sigma: noise level in input units.
        alpha: probability that the certificate may be wrong.
        share: of alpha, for the slope, in (0, 1).
        bound: a registered confidence bound.

    Raises:
        ParameterError: a share outside (0, 1), or halves of another number of samples.
    """
    check_alpha(alpha)
    _check_share(share)
    evidence = fixed_evidence(selection, estimation, bounds.get(bound), (1 - share) * alpha)
    return certify_slope(evidence, halves, sigma=sigma, alpha=alpha, share=share)


def certify_slope(
    evidence: Evidence, halves: Halves, *, sigma: float, alpha: float, share: float = SHARE
) -> Certificate:
    """As `certify_gradient`, from evidence at level ``(1 - share) alpha`` of a fixed number.

    Raises:
        ParameterError: a share outside (0, 1), or halves of other samples.
    """
    _check_share(share)
    if halves.n1 + halves.n2 != evidence.n:
        raise ParameterError(
            f"the halves have {halves.n1} and {halves.n2} rows, the votes {evidence.n}",
            why="both are of the same samples",
        )
    if evidence.n_a == evidence.n and (halves.norm1 or halves.norm2):
        raise ParameterError("rows were summed that voted for another class, and none did")
    slope = slope_upper(halves, 1 - evidence.p_lower, share * alpha)
    return certify_rule(evidence, GradientRadius(slope), sigma=sigma, alpha=alpha)


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise ParameterError(f"share is {share!r}", why="it is a part of alpha, between 0 and 1")
