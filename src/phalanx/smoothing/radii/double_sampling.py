"""Double sampling (DSRS; Li et al., ICML 2022): votes under a second law say where the noise is.

The rule has what every other has, a radius from a bound on one probability: Neyman-Pearson's.
With votes under a narrower law it has a larger one, see `phalanx.smoothing.double_sampling`.
"""

from __future__ import annotations

from phalanx.errors import ParameterError
from phalanx.smoothing.double_sampling.boxes import Boxes
from phalanx.smoothing.double_sampling.laws import GeneralisedGaussian, SecondLaw
from phalanx.smoothing.double_sampling.radius import Certified, certified_radii
from phalanx.smoothing.radii import L2, Ball, default_rule, radii, rule_of

NOISES = ("gaussian", "generalised-gaussian")
"""Distributions whose density depends on the length of the noise alone, as the theorem needs."""


class DoubleSampling:
    """The smallest probability that a class may have with both bounds, at one half.

    Args:
        noise: distribution of the first law, one of `NOISES`.
        order: of the noise, where it has one.

    Raises:
        ParameterError: the theorem does not hold for the noise.

    >>> round(DoubleSampling().radius(0.9, 1.0), 4)
    1.2816
    """

    threshold = 0.5

    def __init__(self, noise: str = "gaussian", order: int | None = None) -> None:
        if noise not in NOISES:
            raise ParameterError(
                f"the certificate 'double-sampling' does not hold for {noise} noise",
                why=f"it holds for {' and '.join(NOISES)}",
                repair=f"--noise {NOISES[1]}",
            )
        self.noise, self._plain = noise, rule_of(default_rule(noise), order)

    def of_noise(self, noise: str, order: int | None) -> DoubleSampling:
        """The rule for another noise."""
        return DoubleSampling(noise, order)

    def radius(self, p_lower: float, sigma: float, ball: Ball = L2) -> float:
        """What a bound on the probability under the first law gives alone."""
        return self._plain.radius(p_lower, sigma, ball)

    def l2_radii(self, first: GeneralisedGaussian, second: SecondLaw, boxes: Boxes) -> Certified:
        """What bounds under both laws give together: the distances, and what proves them."""
        return certified_radii(first, second, boxes)


radii.register("double-sampling")(DoubleSampling())
