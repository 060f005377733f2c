"""The two laws as the numerics see them: one row an input, in units of ``law.unit``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincc, gammainccinv, gammaincinv, gammaln, xlogy

from phalanx.errors import ParameterError
from phalanx.smoothing.double_sampling.laws import (
    GeneralisedGaussian,
    SecondLaw,
    SmallerVariance,
    Truncation,
    check_pair,
)

Floats = NDArray[np.float64]
TAIL = 1e-14
"""Probability left out below and above the radii that are integrated over; it is charged."""


@dataclass(frozen=True)
class Pair:
    """P and a second law for each row; without one, Neyman-Pearson.

    The density ratio is ``q/p = exp(kappa0 - kappa t)`` (smaller variance) or ``1/mass`` up to
    ``cut`` and 0 behind it (truncation, kappa = kappa0 = 0).

    Attributes:
        kappa: 0 unless Q has a smaller variance.
        cut, mass: float64 ``(rows, 1)``, or None unless Q is truncated.
    """

    law: GeneralisedGaussian
    kappa: float = 0.0
    cut: Floats | None = None
    mass: Floats | None = None

    @property
    def shape(self) -> float:
        """``a`` of both Gamma laws."""
        return self.law.shape

    @property
    def kappa0(self) -> float:
        """What makes q a density: ``(1 + kappa)^a = exp(kappa0)``."""
        return self.shape * math.log1p(self.kappa)

    @property
    def bottom(self) -> float:
        """Below it lies `TAIL` of the narrower law."""
        return float(gammaincinv(self.shape, TAIL)) / (1 + self.kappa)

    @property
    def top(self) -> float:
        """Above it lies `TAIL` of the wider law."""
        return float(gammainccinv(self.shape, TAIL))

    def rows(self, where: NDArray[np.bool_] | NDArray[np.int64]) -> Pair:
        """The same for some of the rows."""
        if self.cut is None or self.mass is None:
            return self
        return replace(self, cut=self.cut[where], mass=self.mass[where])

    def plain(self) -> Pair:
        """The same without a second law."""
        return Pair(self.law)

    def below(self, t: Floats) -> tuple[Floats, Floats]:
        """P and Q of ``|x|^2 <= t``."""
        p = self._low(t)
        if self.mass is not None:
            return p, np.minimum(p / self.mass, 1.0)
        return p, self._low(t * (1 + self.kappa))

    def above(self, t: Floats) -> tuple[Floats, Floats]:
        """P and Q of ``|x|^2 > t``, accurate where they are small."""
        p = self._high(t)
        if self.cut is not None and self.mass is not None:
            return p, np.maximum(p - self._high(self.cut), 0.0) / self.mass
        return p, self._high(t * (1 + self.kappa))

    def _low(self, t: Floats) -> Floats:
        return np.asarray(gammainc(self.shape, t), dtype=np.float64)

    def _high(self, t: Floats) -> Floats:
        return np.asarray(gammaincc(self.shape, t), dtype=np.float64)

    def gamma(self, t: Floats) -> Floats:
        """The density of t under P."""
        return np.asarray(np.exp(xlogy(self.shape - 1, t) - t - gammaln(self.shape)))


def pair_of(law: GeneralisedGaussian, second: SecondLaw | Sequence[SecondLaw], rows: int) -> Pair:
    """P with one second law for all rows, or with one for each (all of one kind).

    Raises:
        ParameterError: the number of laws is not that of the rows, or the kinds differ.
    """
    many = [second] * rows if isinstance(second, SmallerVariance | Truncation) else list(second)
    if len(many) != rows:
        raise ParameterError(f"{len(many)} second laws for {rows} rows", repair="one, or one a row")
    for one in many:
        check_pair(law, one)
    masses = [one.mass for one in many if isinstance(one, Truncation)]
    sigmas = {one.sigma for one in many if isinstance(one, SmallerVariance)}
    if len(sigmas) == 1 and not masses:
        return Pair(law, kappa=(law.sigma / sigmas.pop()) ** 2 - 1)
    if sigmas:
        raise ParameterError(
            "second laws of several kinds or levels in one call",
            why="rows are computed together",
            repair="a call for each level and for the truncated rows",
        )
    mass = np.array(masses, dtype=np.float64).reshape(-1, 1)
    return Pair(law, cut=np.asarray(gammaincinv(law.shape, mass)), mass=mass)
