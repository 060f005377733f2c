"""From votes to what is proven for one input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from phalanx.errors import ParameterError
from phalanx.runs.schema import Counts
from phalanx.smoothing.charge import FREE, Charge
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.radii import GAUSSIAN_RULE, L2, Ball, RadiusAgainst, RadiusRule, radii
from phalanx.smoothing.stopping import Evidence, fixed_evidence
from phalanx.verdicts import Verdict


@dataclass(frozen=True)
class Certificate:
    """What is proven about the smoothed classifier at one input.

    With probability at least ``1 - alpha`` over the noise that was drawn: the smoothed
    classifier returns ``predicted`` (or has it among its k most likely classes, see
    `phalanx.smoothing.radii.among`) for every input whose distance in ``norm`` is below
    ``radius``. Where ``arithmetic`` is ``"real"``, sums and normals are taken as exact reals;
    where it is ``"lattice"`` they are exact, and ``covers`` says which inputs are meant: those
    on the ``"grid"``, or ``"all"``.

    Attributes:
        verdict: verified, abstained, or error; no other.
        predicted: class index, None when abstained or errored.
        radius: float64 rounded towards zero, 0 when abstained, None on an error.
        n_a, n: votes for the selected class among the estimation samples.
        p_lower: the confidence bound that gave the radius, after the charge of the arithmetic.
        details: JSON values of what else the claim rests on.
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
    covers: str = ""
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def certify_evidence(
    evidence: Evidence,
    *,
    sigma: float,
    alpha: float,
    certificate: str = GAUSSIAN_RULE,
    ball: Ball = L2,
    charge: Charge = FREE,
    arithmetic: str = "real",
    covers: str = "",
) -> Certificate:
    """From what a stopping rule concluded to what is proven.

    Args:
        evidence: of one classifier for one input.
        sigma: noise level in input units.
        alpha: probability that the evidence, and with it the certificate, may be wrong.
        certificate: a registered radius rule.
        ball: the norm of the radius, and the dimension where that matters.
        charge: what the arithmetic takes off the bound and off the radius.
        arithmetic, covers: what the certificate says of itself, see `Certificate`.

    Returns:
        Verified with a radius, abstained, or error when any vote had non-finite logits. A radius
        of 0 that is verified speaks of the image alone.
    """
    return certify_rule(
        evidence,
        radii.get(certificate),
        sigma=sigma,
        alpha=alpha,
        ball=ball,
        charge=charge,
        arithmetic=arithmetic,
        covers=covers,
    )


def certify_rule(
    evidence: Evidence,
    rule: RadiusRule,
    *,
    sigma: float,
    alpha: float,
    ball: Ball = L2,
    charge: Charge = FREE,
    arithmetic: str = "real",
    covers: str = "",
) -> Certificate:
    """As `certify_evidence`, for a rule that is no registered one."""
    said: dict[str, Any] = {"norm": ball.norm, "arithmetic": arithmetic, "covers": covers}
    if evidence.broken:
        reason = f"{evidence.broken} of {evidence.samples} samples had NaN or infinite logits"
        return failed(reason, sigma=sigma, alpha=alpha, n=evidence.n, **said)
    p_lower = charge.lower(evidence.p_lower)
    if not evidence.others:
        radius, verified = rule.radius(p_lower, sigma, ball), p_lower > rule.threshold
    else:
        # That the vote is for one of t others is one event: the arithmetic is charged once.
        together = [charge.upper(p) for p in evidence.others]
        radius = require_against(rule).radius_against(p_lower, together, sigma, ball)
        verified = any(p_lower * size > p for size, p in enumerate(together, 1))
    verdict = Verdict.VERIFIED if verified else Verdict.ABSTAINED
    return Certificate(
        verdict,
        evidence.label if verified else None,
        charge.radius(radius),
        evidence.n_a,
        evidence.n,
        p_lower,
        sigma,
        alpha,
        **said,
    )


def require_against(rule: RadiusRule) -> RadiusAgainst:
    """The rule, if it can use a bound on the runner-up.

    Raises:
        ParameterError: it cannot.
    """
    if not isinstance(rule, RadiusAgainst):
        raise ParameterError(
            f"{type(rule).__name__} has no use for a bound on the runner-up",
            repair="--set certificate=neyman-pearson, or no share for the runner-up",
        )
    return rule


def failed(
    reason: str, *, sigma: float, alpha: float, n: int = 0, norm: str = "l2", **said: Any
) -> Certificate:
    """An error, which certifies nothing."""
    return Certificate(
        Verdict.ERROR, None, None, None, n, None, sigma, alpha, norm, reason=reason, **said
    )


def certify_counts(
    selection: Counts,
    estimation: Counts,
    *,
    sigma: float,
    alpha: float,
    bound: str = "clopper-pearson",
    certificate: str = GAUSSIAN_RULE,
    ball: Ball = L2,
) -> Certificate:
    """CERTIFY of Cohen et al. (2019), on the counts of a number of samples fixed in advance.

    Args:
        selection: votes of the n0 samples that choose the class.
        estimation: votes of n fresh samples.
        bound: a registered confidence bound.
        sigma, alpha, certificate, ball: as for `certify_evidence`.

    >>> certify_counts({7: 100}, {7: 100000}, sigma=0.25, alpha=0.001).verdict.value
    'verified'
    """
    evidence = fixed_evidence(selection, estimation, bounds.get(bound), alpha)
    return certify_evidence(evidence, sigma=sigma, alpha=alpha, certificate=certificate, ball=ball)
