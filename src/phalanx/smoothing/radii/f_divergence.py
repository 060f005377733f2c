"""Certificates from f-divergences (Dvijotham et al., ICLR 2020), the best of the usual ones.

For comparison: the hockey-stick divergences, which give `neyman-pearson`, are left out.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from phalanx.smoothing.radii import radii
from phalanx.smoothing.radii._scaled import GaussianL2
from phalanx.smoothing.radii.renyi import EPSILON, ORDERS, bernoulli_divergence

_ORDERS = np.concatenate([np.linspace(0.01, 0.99, 99), ORDERS])


class FDivergence(GaussianL2):
    """The largest radius of Kullback-Leibler, alpha divergences and total variation.

    The class can be lost at distance R only if the noise there differs as much as votes of
    probability 1/2 from votes of probability p. At sigma 1:

    * KL: ``R^2 / 2`` against ``-log(4 p (1-p)) / 2``, and the other way ``log 2 - H(p)``;
    * alpha divergences (Hellinger, chi-square, ...): as Renyi, of every order a > 0;
    * total variation: ``2 Phi(R/2) - 1`` against ``p - 1/2``.

    >>> round(FDivergence().radius(0.6, 1.0), 4), round(FDivergence().radius(0.99, 1.0), 3)
    (0.2513, 1.908)
    """

    relative_error = 1e-9

    def l2_radius(self, p_lower: float) -> float:
        """The largest of them."""
        p, q = p_lower, 1 - p_lower
        # Near p = 1/2 these cancel; what rounding may have added is taken away.
        kl = -math.log(4 * p * q) - 8 * EPSILON
        back = 2 * (math.log(2) + p * math.log(p) + q * math.log(q)) - 8 * EPSILON
        alpha = float(np.max(2 * bernoulli_divergence(_ORDERS, p) / _ORDERS))
        variation = 2 * float(ndtri((p + 0.5) / 2 - EPSILON))
        return max(math.sqrt(max(kl, back, alpha, 0.0)), variation)


radii.register("f-divergence")(FDivergence())
