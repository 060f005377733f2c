"""Where the worst classifier's boundary runs, and the angles on it.

Lengths are in units of ``law.unit``, so ``|x|^2 = t`` and ``|x - delta|^2 = tau``, and the
distance is ``c = rho / unit``. The worst classifier accepts x where
``p(x - delta) < Lambda(t) p(x)`` with ``Lambda = l1 + l2 q/p``, that is where
``tau + k log tau > t + k log t - log Lambda``. For each t the boundary is ``tau = t e^w``, with w
the root of a convex increasing function; nothing else in this room is found by iteration.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaln

Floats = NDArray[np.float64]


def log_stretch(t: Floats, log_lambda: Floats, k: int) -> Floats:
    """``w`` with ``t (e^w - 1) + k w + log Lambda = 0``; broadcasts.

    The function is convex and increases, so Newton's steps come down to the root from above. At
    ``k = 0`` there is no root where log Lambda >= t, and everything is accepted; w = -40 says so.

    >>> w = log_stretch(np.array(4.0), np.array(2.0), 10)
    >>> bool(abs(4 * np.expm1(w) + 10 * w + 2) < 1e-14)
    True
    """
    if k == 0:
        with np.errstate(divide="ignore"):
            return np.maximum(np.log1p(np.maximum(-log_lambda / t, -1.0)), -40.0)
    w = np.asarray(-log_lambda / (k + t))
    going = np.ones(w.shape, dtype=bool)
    for _ in range(100):
        step = (t * np.expm1(w) + k * w + log_lambda) / (t * np.exp(w) + k)
        w = np.where(going, w - step, w)
        # Element by element, so that no row's result depends on its company.
        going &= np.abs(step) > 1e-9 * np.abs(w) + 1e-14
        if not going.any():
            break
    # One more step: the last was below 1e-9, so the next error is of the order of its square.
    return np.asarray(w - (t * np.expm1(w) + k * w + log_lambda) / (t * np.exp(w) + k))


def seen_from_centre(t: Floats, stretch: Floats, c: Floats) -> Floats:
    """``z - 1/2`` of the share ``I(z)`` of the sphere ``|x|^2 = t`` that is accepted.

    Args:
        stretch: ``e^w - 1``.
    """
    root = np.sqrt(t)
    return np.asarray((c * c - t * stretch) / (4 * c * root))


def seen_from_shifted(t: Floats, tau: Floats, c: Floats) -> Floats:
    """``z - 1/2`` of the share of the sphere ``|x - delta|^2 = tau`` with ``|x|^2 < t``."""
    return np.asarray((t - tau - c * c) / (4 * c * np.sqrt(tau)))


def share(half: float, offset: Floats) -> Floats:
    """``I(1/2 + offset)``: the Beta(half, half) law below, 0 and 1 outside of [-1/2, 1/2]."""
    return np.asarray(betainc(half, half, np.clip(0.5 + offset, 0.0, 1.0)))


def density(half: float, offset: Floats) -> Floats:
    """The density of that law, symmetric about 0 and falling from there (``half >= 1``)."""
    inside = np.maximum(1 - 4 * np.square(offset), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = (half - 1) * (np.log(inside) - np.log(4.0)) - betaln(half, half)
    return np.where(inside > 0, np.exp(logs), 0.0)
