"""How far a class stays above several others (Jia, Cao, Wang & Gong, ICLR 2020, theorem 1)."""

from __future__ import annotations

from math import inf, isinf

from scipy.special import ndtr, ndtri

_ROUNDING = 1e-15
"""Relative, of a normal quantile."""
_MASS = 1e-13
"""Relative, of a normal distribution function where it is compared."""


def reach(p_lower: float, p_set: float, size: int) -> float:
    """The distance at sigma 1 up to which a class has more than the mean of ``size`` others.

    Moved by R, the class keeps at least ``Phi(Phi^-1(p) - R)``, and the others together get at
    most ``Phi(Phi^-1(p_set) + R)`` (Neyman-Pearson, once for each); the first falls and the
    second rises, so they meet once::

        Phi(Phi^-1(p) - R) = Phi(Phi^-1(p_set) + R) / size

    Args:
        p_lower: in (0, 1), at most the probability of the class.
        p_set: in (0, 1], at least that of the others together.

    Returns:
        The root, rounded down; 0 where there is none.

    >>> round(reach(0.6, 0.3, 1), 6), round(reach(0.6, 0.3, 2), 6), reach(0.3, 0.6, 2)
    (0.388874, 0.777748, 0.0)
    """
    if not p_lower * size > p_set:
        return 0.0
    own, others = float(ndtri(p_lower)), float(ndtri(p_set))

    def apart(distance: float) -> bool:
        kept = float(ndtr(own - distance)) * (1 - _MASS)
        return kept * size > float(ndtr(others + distance)) * (1 + _MASS)

    # There the others have at least one half, and the class no more than 1 / (2 size).
    low, high = 0.0, max(-others, own - float(ndtri(0.5 / size)))
    if high == inf or not apart(low):
        return 0.0
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if apart(middle) else (low, middle)
    sizes = abs(own) + (0.0 if isinf(others) else abs(others))
    return max(0.0, low - _ROUNDING * sizes)
