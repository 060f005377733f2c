"""An upper confidence bound on the slope, from two halves of the noise.

The gradient at sigma 1 of the probability of a class is ``E[z 1{vote for it}]``, and because
``E[z] = 0`` its negative is ``b = E[y]`` with ``y = z 1{vote for another}``. Only the rows that
vote otherwise are summed: there are few of them, so ``b`` is far better known this way.

Let ``Y1`` and ``Y2`` be the means of y over two halves of n1 and n2 rows, drawn independently of
the choice of the class, and q the probability of another vote. The bound rests on one fact.

*For a unit vector u and t > 0*, with ``h(z) = exp(-t z) - 1 + t z >= 0``::

    E exp(-t <u, y>) = 1 - t <u, b> + E[h(<u, z>) 1{other vote}]
                    <= exp(-t <u, b> + psi(t)),   psi(t) = max over B of mass q of E[h 1_B],

the maximum being over sets (or weights in [0, 1]) of a standard normal. By Chernoff a mean of n
such numbers is below ``<u, b> - D(q, n, a)`` with probability at most a, where
``D = min over t of (psi(t) + log(1/a)/n) / t``. It grows with q, so an upper bound on q may stand
for q. It is near ``sqrt(2 v log(1/a) / n)`` with v the second moment of the tails of mass q.

*Step 1*, u = b/|b|: but for probability a/2, ``<Y1, b> >= |b|^2 - |b| D(q, n1, a/2)``.
*Step 2*, u = Y1/|Y1|, which is fixed once the first half is drawn: but for probability a/2,
``<Y1, Y2> >= <Y1, b> - |Y1| D(q, n2, a/2)``. Together ::

    |b|^2 - |b| D1 <= <Y1, Y2> + |Y1| D2,

a quadratic inequality that bounds |b| (where a vector is 0 its step is trivial). Its floor at
b = 0 is near ``(2 d v q log(2/a) / (n1 n2))^(1/4)``, against ``sqrt(d p / n)`` for the norm of a
mean. That two halves be multiplied is the idea of Mohapatra et al. (NeurIPS 2020); the
complement and the tails of mass q, which shrink with q, make the bound tight where p is high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from phalanx.errors import ParameterError
from phalanx.smoothing.checks import check_count
from phalanx.smoothing.confidence.clopper_pearson import check_alpha

# Of sums over float64 products, relative to the product of the norms; and of D.
_SUM_SLACK = 1e-9
_SLACK = 1e-9

_NODES, _WEIGHTS = (values / 2 for values in np.polynomial.legendre.leggauss(32))
_NODES = _NODES + 0.5
_STEPS = 60
_WIDTH = 1e-9  # of a split of the mass, relative to it
_ROUNDING = 1e-14  # of a gain, relative to t
_RATES = 128
_LARGEST_RATE = 5.0  # beyond, too few nodes


@dataclass(frozen=True)
class Halves:
    """What two halves of the estimation noise say of the slope.

    The sums are over rows that did not vote for the class, of their standard normals z, d values
    each: noise before it is multiplied by sigma.

    Attributes:
        n1, n2: all rows of the first and of the second half, at least 1 each.
        norm1, norm2: squared norms of the two sums.
        product: their inner product.

    Raises:
        ParameterError: numbers that no two sums have.
    """

    n1: int
    n2: int
    norm1: float
    norm2: float
    product: float

    def __post_init__(self) -> None:
        check_count("n1", self.n1)
        check_count("n2", self.n2)
        values = (self.norm1, self.norm2, self.product)
        finite = all(math.isfinite(value) for value in values)
        if not finite or min(self.norm1, self.norm2) < 0:
            raise ParameterError(f"the halves have products {values}", why="they are finite")
        largest = math.sqrt(self.norm1) * math.sqrt(self.norm2)
        if abs(self.product) > largest * (1 + _SUM_SLACK):
            raise ParameterError(
                f"two sums of norms {math.sqrt(self.norm1):g} and {math.sqrt(self.norm2):g} have"
                f" no inner product of {self.product:g}"
            )


def halves_of(first: NDArray[np.float64], second: NDArray[np.float64], n1: int, n2: int) -> Halves:
    """The record of two sums ``(d,)`` over n1 and n2 rows; each product is correctly rounded.

    >>> halves_of(np.array([3.0, 4.0]), np.array([1.0, 0.0]), 10, 10).product
    3.0
    """
    a, b = (np.asarray(values, dtype=np.float64).ravel() for values in (first, second))
    if a.shape != b.shape:
        raise ParameterError(f"sums of {a.size} and {b.size} values are of no one input")
    return Halves(n1, n2, math.fsum(a * a), math.fsum(b * b), math.fsum(a * b))


def slope_upper(halves: Halves, q_upper: float, alpha: float) -> float:
    """A number that is below the slope at sigma 1 at most alpha of the time; see the module.

    Args:
        halves: of a class that was chosen on other samples, n1 and n2 fixed in advance.
        q_upper: at least the probability of another vote. It may be a confidence bound with an
            alpha of its own, from the same votes.
        alpha: probability that the slope is larger.

    Raises:
        ParameterError: alpha is no such probability, or q_upper not in (0, 1).
    """
    first = deviation(q_upper, halves.n1, alpha / 2)
    second = deviation(q_upper, halves.n2, alpha / 2)
    norm1, norm2 = math.sqrt(halves.norm1) / halves.n1, math.sqrt(halves.norm2) / halves.n2
    product = halves.product / halves.n1 / halves.n2 + _SUM_SLACK * norm1 * norm2
    known = max(0.0, first * first / 4 + product + norm1 * second)
    return (first / 2 + math.sqrt(known)) * (1 + _SLACK)


@lru_cache(maxsize=1024)
def deviation(q: float, n: int, alpha: float) -> float:
    """``D(q, n, alpha)`` of the module, rounded up.

    Args:
        q: probability of another vote, or more; above 1/2 nothing better is known than for 1.
        n: rows in the mean.
        alpha: probability that the mean is lower by more than this.

    >>> round(deviation(0.05, 50_000, 0.00025), 4), round(deviation(1, 50_000, 0.00025), 4)
    (0.0096, 0.0182)
    """
    check_alpha(alpha)
    check_count("n", n)
    if not 0 < q <= 1:
        raise ParameterError(f"a probability of {q}", why="another vote has more than 0, up to 1")
    nats = -math.log(alpha) / n
    guess = math.sqrt(2 * nats / _second_moment(q))
    # Every t gives a bound; the best of a fine grid is as good as the best of all.
    rates = np.geomspace(min(guess / 16, 0.05), min(4 * guess, _LARGEST_RATE), _RATES)
    return float(np.min((excess(rates, q) + nats) / rates)) * (1 + _SLACK)


def _second_moment(q: float) -> float:
    """``E[z^2 1_B]`` for B the two tails of mass q together."""
    if q > 0.5:
        return 1.0
    cut = -float(ndtri(q / 2))
    return 2 * (cut * math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi)) + q


def excess(t: NDArray[np.float64], q: float) -> NDArray[np.float64]:
    """``psi(t)``: the most that ``E[(exp(-t z) - 1 + t z) 1_B]`` can be for mass q, from above.

    The worst set is ``z <= -c1`` or ``z >= c2``, the function being convex. What splits the mass
    is found by bisection; the sum of the tails is concave in the split, so its tangent at the
    split that was found bounds what a better one, `_WIDTH` away, could add.

    Args:
        t: positive, float64 ``(T,)``.
        q: in (0, 1]; above 1/2 the whole line is taken, ``exp(t^2/2) - 1``.
    """
    t = np.asarray(t, dtype=np.float64)
    if q > 0.5:
        return np.asarray(np.expm1(t * t / 2))
    low, high = np.full_like(t, q / 2), np.full_like(t, q * (1 - _WIDTH / 2))
    for _ in range(_STEPS):
        left = (low + high) / 2
        more = _gain(left, q, t) > 0
        low, high = np.where(more, left, low), np.where(more, high, left)
    left = (low + high) / 2
    c1, c2 = -ndtri(left), -ndtri(q - left)
    tails = _tail(c1, t) + _tail(c2, -t)
    better = _WIDTH * np.abs(_gain(left, q, t)) + _ROUNDING * t
    return np.asarray(tails * (1 + _SLACK) + q * better)


def _gain(left: NDArray[np.float64], q: float, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """What moving mass from the right tail to the left one is worth: ``h(-c1) - h(c2)``."""
    z1, z2 = ndtri(left), -ndtri(q - left)
    return np.asarray(np.expm1(-t * z1) + t * z1 - np.expm1(-t * z2) - t * z2)


def _tail(cut: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """``E[(exp(t z) - 1 - t z) 1{z >= cut}]``, cut >= 0, without cancellation.

    ``exp(x) - 1 - x = x^2 int_0^1 (1-s) exp(s x) ds``; for each s the integral over z is known,
    with ``r = s t``: ``exp(r^2/2) ((cut + r) phi(cut - r) + (1 + r^2) Phi(r - cut))``.
    """
    r = t[:, None] * _NODES
    gap = cut[:, None] - r
    density = np.exp(-gap * gap / 2) / math.sqrt(2 * math.pi)
    inner = np.exp(r * r / 2) * ((gap + 2 * r) * density + (1 + r * r) * ndtr(-gap))
    return np.asarray(t * t * (inner * (1 - _NODES) @ _WEIGHTS))
