"""The two laws of the noise that double sampling draws from.

``P`` is the generalised Gaussian of order k in d dimensions, with density proportional to
``|x|^(-2k) exp(-|x|^2 / (2 s^2))`` and ``s^2 = sigma^2 d / (d - 2k)``, so that a coordinate has
variance sigma^2. Its radius is ``|x|^2 = 2 s^2 t`` with t of the Gamma law of shape
``a = d/2 - k``. ``Q`` is the same family with a smaller variance, or P cut to ``t <= T``. In both
cases the ratio of the densities depends on the radius alone (Li et al. 2022, arXiv 2206.07912,
section 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

from scipy.special import gammaincinv, gammaln

from phalanx.errors import ParameterError
from phalanx.noise.distributions.generalised_gaussian import gamma_shape, unit_length

_MOST_LOG_RATIO = 200.0


@dataclass(frozen=True)
class GeneralisedGaussian:
    """The first law, P.

    Attributes:
        d: dimensions of the input, at least 3.
        k: the order, a whole number with ``2k < d``; 0 is the Gaussian.
        sigma: standard deviation of a coordinate, in input units.

    Raises:
        ParameterError: one of them is out of range.

    >>> law = GeneralisedGaussian(784, 380, 0.5)
    >>> law.shape, round(law.unit, 4)
    (12.0, 4.0415)
    """

    d: int
    k: int
    sigma: float

    def __post_init__(self) -> None:
        whole: tuple[tuple[str, object], ...] = (("d", self.d), ("k", self.k))
        for name, value in whole:
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise ParameterError(f"{name} is {value!r}", why="it is a whole number")
        if self.d < 3 or self.k < 0 or 2 * self.k + 1 >= self.d:
            raise ParameterError(
                f"order {self.k} in {self.d} dimensions",
                why="the density and its slope are integrable where 0 <= 2k < d - 1, d at least 3",
                repair=f"an order of at most {max(0, self.d // 2 - 1)}",
            )
        check_level("sigma", self.sigma)

    @property
    def shape(self) -> float:
        """``a``, the shape of the Gamma law of ``t``."""
        return gamma_shape(self.d, self.k)

    @property
    def unit(self) -> float:
        """``s sqrt 2``: the length whose square is ``t = 1``, in input units."""
        return unit_length(self.d, self.k, self.sigma)

    @property
    def half(self) -> float:
        """``(d-1)/2``, both parameters of the Beta law of ``(1 + cosine) / 2``."""
        return (self.d - 1) / 2

    @property
    def steepest(self) -> float:
        """How fast a probability can change with the centre of the noise, per input unit.

        Half the integral of ``|dp/dx_1|``, which for a density that falls with the radius is the
        density of a coordinate at 0: ``E[1/|x|]`` times the density of a cosine at 0.

        >>> round(GeneralisedGaussian(10, 0, 1.0).steepest * math.sqrt(2 * math.pi), 12)
        1.0
        """
        inverse = math.exp(gammaln(self.shape - 0.5) - gammaln(self.shape)) / self.unit
        cosine = math.exp(gammaln(self.d / 2) - gammaln(self.half)) / math.sqrt(math.pi)
        return inverse * cosine


@dataclass(frozen=True)
class SmallerVariance:
    """Q of the family of P at another level, ``sigma`` below that of P, in input units."""

    sigma: float

    def __post_init__(self) -> None:
        check_level("the second sigma", self.sigma)


@dataclass(frozen=True)
class Truncation:
    """Q is P cut to the ball that has probability ``mass`` under P, 0 < mass < 1."""

    mass: float

    def __post_init__(self) -> None:
        mass: object = self.mass
        if not (isinstance(mass, Real) and 1e-6 <= float(mass) <= 1 - 1e-6):
            raise ParameterError(
                f"a truncation to the mass {self.mass!r}",
                why="it is a probability that leaves something on both sides, in (0, 1)",
                repair="published values are .5 and truncation_mass(p_lower)",
            )

    def threshold(self, law: GeneralisedGaussian) -> float:
        """``T``: the truncated law has ``t <= T``."""
        return float(gammaincinv(law.shape, self.mass))


SecondLaw = SmallerVariance | Truncation


def truncation_mass(p_lower: float) -> float:
    """The published choice of the mass from a first bound on p, kept within [.01, .99].

    >>> round(truncation_mass(0.9995037605889316), 12), truncation_mass(0.4)
    (0.808676165127, 0.5)
    """
    if not 0 <= p_lower <= 1:
        raise ParameterError(f"a lower bound of {p_lower!r} on a probability")
    if p_lower < 0.5:
        return 0.5
    if p_lower == 1:
        return 0.99
    return min(0.99, max(0.01, 0.08 * (-math.log1p(-p_lower) - 5) + 0.6))


def check_pair(law: GeneralisedGaussian, second: SecondLaw) -> None:
    """Refuse a second law that is not narrower than the first.

    Raises:
        ParameterError: the second sigma is not below the first, or so far below (for the shape of
            the law) that the two share no radii and a ratio of their densities overflows.
    """
    if not isinstance(second, SmallerVariance):
        return
    ratio = second.sigma / law.sigma
    if not ratio < 1 or -2 * law.shape * math.log(ratio) > _MOST_LOG_RATIO:
        raise ParameterError(
            f"a second sigma of {second.sigma:g} beside {law.sigma:g} at order {law.k}",
            why="the second law has the smaller variance, and its radii have to be likely under the"
            f" first: 2 (d/2 - k) log(sigma / second sigma) is at most {_MOST_LOG_RATIO:g}",
            repair=f"the published ratio gives {0.8 * law.sigma:g}, at an order near d/2",
        )


def check_level(name: str, sigma: object) -> None:
    """Refuse what is no positive finite length."""
    if not (isinstance(sigma, Real) and 1e-30 <= float(sigma) <= 1e30):
        raise ParameterError(
            f"{name} is {sigma!r}", why="it is a positive number in input units", repair="0.5"
        )
