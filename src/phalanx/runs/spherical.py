"""The radius of generalised Gaussian noise a second time, sharing no code with the first.

Lengths are in units of ``s sqrt 2`` with ``s^2 = sigma^2 d / (d - 2k)``; there a noise vector has
``|e|^2 = t`` with t of the Gamma law of shape ``d/2 - k``. The classifier that loses a class of
probability p first, when the input moves by c, accepts where the density around the moved input is
less than Lambda times that around the first one (Neyman and Pearson). The density is a function of
``g(t) = t + k log t``, so that is outside of a sphere: around the moved input

    |y|^2 > tau,   g(tau) = g(t) - log Lambda,   tau = k W(exp(g(t)/k - log(k) - log(Lambda)/k))

with Lambert's W. The share of a sphere beyond another one is a Beta law, and probabilities are
integrals over t. Two equations, p around the input and 1/2 around the moved one, are solved for c
and Lambda together (Li et al. 2022, arXiv 2206.07912, section 5 has the formulas).
"""

from __future__ import annotations

from functools import cache, lru_cache
from math import exp, inf, log, pi, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammainccinv, gammaincinv, gammaln, wrightomega

from phalanx.errors import RunError

Floats = NDArray[np.float64]
NODES = 500
NEAR_HALF, ALMOST_ONE = 0.501, 1 - 1e-12
RELATIVE_SLACK, SLACK = 1e-3, 1e-4
"""By how much, of itself and of sigma, a radius that was verified by integration with an error
bound may lie below: 1e-5 of itself for the usual orders, most where order and p leave t near 0."""
_TAIL = 1e-16
_RESIDUAL = 1e-9
_STEP = 1e-10
"""Of the slopes' differences, squared: 1e-5, far above the rounding of what is subtracted."""


@lru_cache(maxsize=1 << 14)
def spherical_radius(p: float, d: int, k: int, sigma: float) -> float:
    """The distance at which a class of probability p may have fallen to 1/2; 0 for p <= 1/2.

    >>> round(spherical_radius(0.99, 784, 380, 0.5), 4), spherical_radius(0.5, 784, 380, 0.5)
    (1.1309, 0.0)
    >>> abs(spherical_radius(0.9, 20, 0, 1.0) - NormalDist().inv_cdf(0.9)) < 1e-12
    True
    """
    if p <= 0.5:
        return 0.0
    if p > ALMOST_ONE:
        return inf
    z, unit = NormalDist().inv_cdf(p), sigma * sqrt(2 * d / (d - 2 * k))
    if k == 0:
        return sigma * z
    law = _law(d, k)
    if p < NEAR_HALF:  # both equations are flat there, and a plane loses the class first
        return unit * (p - 0.5) / law.density_of_a_value
    from scipy.optimize import root  # slow to load, and most runs have other noise

    # What a Gaussian of the same level gives is near; as powers, both stay above 0.
    start = (log(z * sigma / unit), log(z * z / 2))
    found = root(law.equations, start, (p,), tol=1e-12, options={"eps": _STEP})
    if not np.abs(law.equations(found.x, p)).max() < _RESIDUAL:
        raise RunError(f"no radius was found for a probability of {p!r} at order {k} of {d} values")
    return unit * exp(float(found.x[0]))


class _Law:
    """Probabilities of what lies beyond spheres around the moved input, at distance c."""

    def __init__(self, d: int, k: int) -> None:
        self.k, self.half, shape = k, (d - 1) / 2, d / 2 - k
        # Even in the length itself, on whose scale everything varies.
        low, high = sqrt(gammaincinv(shape, _TAIL)), sqrt(gammainccinv(shape, _TAIL))
        nodes, weights = _rule()
        self.r = low + (high - low) * nodes
        self.t = self.r**2
        density = np.exp((shape - 1) * np.log(self.t) - self.t - gammaln(shape))
        self.mass = density * 2 * self.r * (high - low) * weights
        inverse = gammaln(shape - 0.5) - gammaln(shape)
        self.density_of_a_value = exp(inverse + gammaln(d / 2) - gammaln(self.half)) / sqrt(pi)

    def equations(self, at: Floats, p: float) -> Floats:
        """What is left of both, at the logarithms of c and of log Lambda."""
        c, level = exp(float(at[0])), exp(float(at[1]))
        missed = max(self.missed(c, level), 1e-300)
        return np.array([log(missed / (1 - p)), self.moved(c, level) - 0.5])

    def rise(self, log_lambda: float) -> Floats:
        """``tau - t``, for every node t, with all digits where it is small."""
        level = self.t / self.k
        tau = self.k * wrightomega(level + np.log(level) - log_lambda / self.k)
        w = np.log(tau / self.t)
        w -= (self.t * np.expm1(w) + self.k * w + log_lambda) / (self.t * np.exp(w) + self.k)
        return np.asarray(self.t * np.expm1(w))

    def missed(self, c: float, log_lambda: float) -> float:
        """What the classifier does not accept, around the input."""
        return self._mean((self.rise(log_lambda) - c * c) / (4 * self.r * c))

    def moved(self, c: float, log_lambda: float) -> float:
        """What it accepts around the moved input."""
        return self._mean((self.rise(-log_lambda) - c * c) / (4 * self.r * c))

    def _mean(self, places: Floats) -> float:
        """Of the shares of spheres, by the Beta law of ``(1 + cosine) / 2``."""
        shares = betainc(self.half, self.half, np.clip(0.5 + places, 0.0, 1.0))
        return float(self.mass @ shares)


@cache
def _law(d: int, k: int) -> _Law:
    return _Law(d, k)


@cache
def _rule() -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(NODES)
    return (x + 1) / 2, w / 2
