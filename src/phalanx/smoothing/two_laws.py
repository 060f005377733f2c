"""The certificate of double sampling: two laws of noise, votes under both, one radius."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from phalanx.errors import ParameterError
from phalanx.noise.distributions import HasOrder, Noise, added_sigma, noise_of
from phalanx.noise.distributions.generalised_gaussian import GeneralisedGaussian as RadialNoise
from phalanx.smoothing.certificate import Certificate, certify_rule
from phalanx.smoothing.double_sampling.boxes import Boxes
from phalanx.smoothing.double_sampling.laws import (
    GeneralisedGaussian,
    SecondLaw,
    SmallerVariance,
    Truncation,
    check_pair,
)
from phalanx.smoothing.double_sampling.radius import Certified
from phalanx.smoothing.radii import L2, Ball, RadiusRule, UsesSecondLaw
from phalanx.smoothing.stopping import Evidence

SMALLER_VARIANCE, TRUNCATION = "smaller-variance", "truncation"
KINDS = (SMALLER_VARIANCE, TRUNCATION)
SHARE_OF_SIGMA, MASS = 0.8, 0.5
"""Published levels of the second law: of sigma, and the probability P is cut to."""
_DOWN = 1 - 1e-6
"""What is left of a radius after the rounding of noise in float32, as for plain radial noise."""


@dataclass(frozen=True)
class TwoLaws:
    """Both laws of a run: what noise is drawn from, and what the theorem speaks of.

    Attributes:
        noise, order, sigma: of the first law, as in `noise_of`.
        dimension: values of one input.
        kind: of the second law, one of `KINDS`.
        level: of the second law: its sigma, in input units, or the probability under the first
            law of the ball that it is cut to; None: the published one.

    Raises:
        ParameterError: no such kind or level, or one that does not go with the first law.
    """

    noise: str
    order: int | None
    sigma: float
    dimension: int
    kind: str = SMALLER_VARIANCE
    level: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ParameterError(
                f"the second law is {self.kind!r}", repair=f"one of {', '.join(KINDS)}"
            )
        if self.level is None:
            usual = SHARE_OF_SIGMA * self.sigma if self.kind == SMALLER_VARIANCE else MASS
            object.__setattr__(self, "level", usual)
        check_pair(self.first, self.second)

    @cached_property
    def _level(self) -> float:
        return float(self.level or 0.0)

    @cached_property
    def _radial(self) -> RadialNoise:
        """The first noise as a radial one; the Gaussian is that of order 0."""
        noise = noise_of(self.noise, self.sigma, self.order)
        # Gaussian noise is multiplied by sigma in float32.
        return noise if isinstance(noise, RadialNoise) else RadialNoise(added_sigma(self.sigma), 0)

    @cached_property
    def first(self) -> GeneralisedGaussian:
        """The first law, P."""
        return GeneralisedGaussian(
            self.dimension, self._radial.order_in(self.dimension), self._radial.sigma
        )

    @cached_property
    def second(self) -> SecondLaw:
        """The second law, Q."""
        if self.kind == TRUNCATION:
            return Truncation(self._level)
        exact = self.noise != "gaussian"
        return SmallerVariance(self._level if exact else added_sigma(self._level))

    @cached_property
    def second_noise(self) -> Noise:
        """What is added under the second law."""
        if self.kind == TRUNCATION:
            return replace(self._radial, mass=self._level)
        return noise_of(self.noise, self._level, self._order)

    @property
    def _order(self) -> int | None:
        known = isinstance(noise_of(self.noise, self.sigma), HasOrder)
        return self._radial.order_in(self.dimension) if known else None


@dataclass
class _Proven:
    """The radius rule of one input, at which a distance was proven."""

    noise: str
    distance: float
    threshold: float = 0.5

    def radius(self, p_lower: float, sigma: float, ball: Ball = L2) -> float:
        """The largest ball inside the l2 ball; whatever p_lower and sigma, which gave it."""
        radius = self.distance * _DOWN * ball.inside("l2")
        return math.nextafter(math.nextafter(radius, 0.0), 0.0)


def certify_two_laws(
    found: Sequence[Evidence],
    laws: TwoLaws,
    rule: RadiusRule,
    *,
    alpha: float,
    ball: Ball = L2,
) -> list[Certificate]:
    """What the votes of several classifiers for one input prove, computed together.

    Args:
        found: from `SplitSampling`; what has no second law is certified by the rule alone.
        rule: a registered one that uses a second law.
        alpha: probability that the evidence of one, and with it its certificate, may be wrong.

    Returns:
        Certificates whose ``details`` hold the numbers of samples, the intervals
        with their shares of alpha, and distance and multipliers that prove the radius.
    """
    proofs = iter(_proofs([one for one in found if _provable(one)], laws, rule))
    certificates = []
    for one in found:
        said, used = _said(one, laws, alpha), rule
        if one.second is not None:
            proof = next(proofs) if _provable(one) else {}
            said, used = said | proof, _Proven(laws.noise, proof.get("distance", 0.0))
        certificate = certify_rule(one, used, sigma=laws.sigma, alpha=alpha, ball=ball)
        certificates.append(certificate if one.broken else replace(certificate, details=said))
    return certificates


def _provable(one: Evidence) -> bool:
    return one.second is not None and not one.broken and one.p_lower > _Proven.threshold


def _said(one: Evidence, laws: TwoLaws, alpha: float) -> dict[str, Any]:
    """What the claim rests on beside the votes of the first law."""
    if one.second is None:
        return {"n_p": one.n, "n_q": 0, "alpha": {"p": alpha}}
    return {
        "law": laws.kind,
        "level": laws.level,
        "n_p": one.n,
        "n_q": one.second.n,
        "hits_q": one.second.hits,
        "alpha": {"p": alpha / 2, "q": alpha / 2},
        "p": [one.p_lower, 1.0],
        "q": [one.second.lower, 1.0],
    }


def _proofs(found: Sequence[Evidence], laws: TwoLaws, rule: RadiusRule) -> list[dict[str, float]]:
    """Distances, what was verified there and by which multipliers; empty where nothing was."""
    if not found:
        return []
    if not isinstance(rule, UsesSecondLaw):
        raise ParameterError(f"{type(rule).__name__} has no use for votes under a second law")
    one = np.ones(len(found))
    p = np.array([evidence.p_lower for evidence in found])
    q = np.array([evidence.second.lower if evidence.second else 0.0 for evidence in found])
    proven = rule.l2_radii(laws.first, laws.second, Boxes(p, one, q, one))
    return [_proof(proven, row) for row in range(len(found))]


def _proof(proven: Certified, row: int) -> dict[str, float]:
    names = ("bound", "error", "l1", "l2")
    values = {name: float(getattr(proven, name)[row]) for name in names}
    # With a multiplier of Q below 0 the proof is a chain, of which the last link says too little.
    if not proven.radius[row] > 0 or values["l2"] < 0:
        return {}
    return {"distance": float(proven.radius[row]), **values}
