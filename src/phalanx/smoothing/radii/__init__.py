"""From a bound on a probability to a radius; one file a certificate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from phalanx.errors import ParameterError
from phalanx.registry import Registry

NORMS = ("l1", "l2", "linf")


@dataclass(frozen=True)
class Ball:
    """Which changes of an input a radius speaks of.

    Attributes:
        norm: ``l1``, ``l2`` or ``linf``.
        dimension: values of one input; None where it is not known.

    Raises:
        ParameterError: no such norm, or no such dimension.
    """

    norm: str = "l2"
    dimension: int | None = None

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ParameterError(f"norm is {self.norm!r}", repair=f"one of {', '.join(NORMS)}")
        if self.dimension is not None and (type(self.dimension) is not int or self.dimension < 1):
            raise ParameterError(f"an input of {self.dimension!r} values")

    def inside(self, norm: str) -> float:
        """The largest radius of this ball inside the unit ball of another norm, within 2 ulp.

        ``|x|_inf <= |x|_2 <= |x|_1``, and ``|x|_1 <= sqrt(d) |x|_2 <= d |x|_inf``.

        Raises:
            ParameterError: it depends on the dimension, and that is not known.

        >>> Ball("linf", 784).inside("l2") * 28, Ball("l1").inside("l2")
        (1.0, 1.0)
        """
        power = max(NORMS.index(self.norm) - NORMS.index(norm), 0)  # of sqrt(d)
        return 1.0 if power == 0 else self.values() ** (-power / 2)

    def values(self) -> int:
        """The dimension.

        Raises:
            ParameterError: it is not known.
        """
        if self.dimension is None:
            raise ParameterError(
                f"this {self.norm} radius depends on the number of values of an input",
                why="and that is not known here",
                repair="Ball(norm, dimension=784)",
            )
        return self.dimension


L2 = Ball()


class RadiusRule(Protocol):
    """A certificate for one noise distribution.

    ``noise`` is the one distribution the theorem speaks of, and ``threshold`` is the largest
    probability that certifies nothing.
    """

    noise: str
    threshold: float

    def radius(self, p_lower: float, sigma: float, ball: Ball = L2) -> float:
        """Radius in input units certified by ``p_lower``, rounded towards zero, never < 0."""
        ...


@runtime_checkable
class RadiusAgainst(Protocol):
    """A radius rule that can use bounds on other classes' probabilities."""

    def radius_against(
        self, p_lower: float, others: Sequence[float], sigma: float, ball: Ball = L2
    ) -> float:
        """Radius within which one class stays among the ``len(others)`` most likely.

        ``others[t-1]`` bounds the probability of any t other classes together, of which some
        t of every ``len(others)`` have no more. Rounded towards zero; 0 where nothing is shown.
        """
        ...


@runtime_checkable
class OfOrder(Protocol):
    """A radius rule for a family of noises with an order."""

    def of_order(self, order: int) -> RadiusRule:
        """The rule for the member of that order."""
        ...


@runtime_checkable
class RadiusAbove(Protocol):
    """A radius rule that can say where a probability falls to another value than one half."""

    def above(self, threshold: float) -> RadiusRule:
        """The same rule for a threshold in (0, 1/2]."""
        ...


def among(rule: RadiusRule, top: int) -> RadiusRule:
    """The rule within whose radius a class stays among the ``top`` most likely ones.

    A class that is not has ``top`` others of at least its probability beside it, so it has at
    most ``1 / (top + 1)``.

    Raises:
        ParameterError: the rule is about one half alone.

    >>> from phalanx.smoothing.radii.neyman_pearson import NeymanPearson
    >>> round(among(NeymanPearson(), 3).radius(0.5, 1.0), 4)
    0.6745
    """
    if top == 1:
        return rule
    if not isinstance(rule, RadiusAbove):
        raise ParameterError(
            f"{type(rule).__name__} cannot certify the {top} most likely classes",
            why="it says where a probability falls to one half, and to nothing else",
            repair="Gaussian, Laplace or uniform noise with its own certificate, or --set top=1",
        )
    return rule.above(math.nextafter(1 / (top + 1), 1.0))


def probability_for(rule: RadiusRule, radius: float, sigma: float, ball: Ball = L2) -> float:
    """The smallest bound on a probability that certifies ``radius``, found by bisection.

    Raises:
        ParameterError: no probability below 1 does, or it is no radius.

    >>> from phalanx.smoothing.radii.neyman_pearson import NeymanPearson
    >>> round(probability_for(NeymanPearson(), 0.5, 0.5), 9)
    0.841344746
    """
    low, high = rule.threshold, 1 - 2.0**-53
    if not 0 <= radius <= rule.radius(high, sigma, ball):
        raise ParameterError(
            f"a radius of {radius!r} cannot be certified at sigma {sigma:g}",
            why=f"a radius is at least 0, and no probability gives more than"
            f" {rule.radius(high, sigma, ball):g}",
        )
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (low, middle) if rule.radius(middle, sigma, ball) >= radius else (middle, high)
    return high


radii: Registry[RadiusRule] = Registry("radii", "phalanx.smoothing.radii", noun="radius rule")


def rule_of(name: str, order: int | None = None) -> RadiusRule:
    """A registered rule, for one order of its noise where that has one.

    Raises:
        ParameterError: there is no such rule.
    """
    rule = radii.get(name)
    return rule if order is None or not isinstance(rule, OfOrder) else rule.of_order(order)


GAUSSIAN_RULE = "neyman-pearson"


def default_rule(noise: str) -> str:
    """The certificate for a noise where none is asked for: it has the noise's name.

    >>> default_rule("gaussian"), default_rule("laplace")
    ('neyman-pearson', 'laplace')
    """
    return GAUSSIAN_RULE if noise == "gaussian" else noise
