"""From votes to what is proven for one input."""

from __future__ import annotations

from dataclasses import dataclass

from phalanx.runs.schema import INVALID, Counts
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.radii import radii
from phalanx.verdicts import Verdict


@dataclass(frozen=True)
class Certificate:
    """What is proven about the smoothed classifier at one input.

    With probability at least ``1 - alpha`` over the noise that was drawn: the smoothed
    classifier returns ``predicted`` for every input whose distance in ``norm`` is below
    ``radius``. ``arithmetic`` is ``"real"``: sums and normals are taken as exact reals.

    Attributes:
        verdict: verified, abstained, or error; no other.
        predicted: class index, None when abstained or errored.
        radius: float64 rounded towards zero, 0 when abstained, None on an error.
        n_a, n: votes for the selected class among the estimation samples.
        p_lower: the confidence bound that gave the radius.
    """

    verdict: Verdict
    predicted: int | None
    radius: float | None
    n_a: int | None
    n: int
    p_lower: float | None
    sigma: float
    alpha: float
    norm: str = "l2"
    arithmetic: str = "real"
    reason: str = ""


def selected(selection: Counts) -> int:
    """The class with most selection votes; ties go to the lowest index."""
    votes = {c: v for c, v in selection.items() if c != INVALID}
    return min(votes, key=lambda c: (-votes[c], c))


def certify_counts(
    selection: Counts,
    estimation: Counts,
    *,
    sigma: float,
    alpha: float,
    bound: str = "clopper-pearson",
    certificate: str = "neyman-pearson",
) -> Certificate:
    """CERTIFY of Cohen et al. (2019), on counts.

    Args:
        selection: votes of the n0 samples that choose the class.
        estimation: votes of n fresh samples.
        sigma: noise level in input units.
        alpha: probability that the certificate may be wrong, in (0, 1).
        bound: a registered confidence bound.
        certificate: a registered radius rule.

    Returns:
        Verified with a radius, abstained, or error when any vote had non-finite logits.

    >>> certify_counts({7: 100}, {7: 100000}, sigma=0.25, alpha=0.001).verdict.value
    'verified'
    """
    n = sum(estimation.values())
    broken = selection.get(INVALID, 0) + estimation.get(INVALID, 0)
    if broken:
        reason = f"{broken} of {n + sum(selection.values())} samples had NaN or infinite logits"
        return Certificate(Verdict.ERROR, None, None, None, n, None, sigma, alpha, reason=reason)
    rule, label = radii.get(certificate), selected(selection)
    n_a = estimation.get(label, 0)
    p_lower = bounds.get(bound).lower(n_a, n, alpha)
    radius = rule.radius(p_lower, sigma)
    if p_lower <= rule.threshold:
        verdict, predicted = Verdict.ABSTAINED, None
    else:
        verdict, predicted = Verdict.VERIFIED, label
    return Certificate(verdict, predicted, radius, n_a, n, p_lower, sigma, alpha, norm=rule.norm)


def largest_radius(
    n: int,
    sigma: float,
    alpha: float,
    *,
    bound: str = "clopper-pearson",
    certificate: str = "neyman-pearson",
) -> float:
    """The radius that n unanimous votes give: the cap of every certificate of the run."""
    return radii.get(certificate).radius(bounds.get(bound).lower(n, n, alpha), sigma)
