"""The first certificate of smoothing, from differential privacy (Lecuyer et al., S&P 2019).

For comparison: it is never larger than `neyman-pearson`, which is tight.
"""

from __future__ import annotations

import numpy as np

from phalanx.smoothing.radii import radii
from phalanx.smoothing.radii._scaled import GaussianL2

_EPSILONS = np.geomspace(1e-4, 1.0, 2001)
"""The Gaussian mechanism is private in this form for epsilon at most 1."""


class DifferentialPrivacy(GaussianL2):
    """``R = sigma epsilon / sqrt(2 ln(1.25 / delta))`` for the best epsilon.

    A classifier that is (epsilon, delta)-private within R keeps its class if
    ``p > e^(2 epsilon) (1 - p) + (1 + e^epsilon) delta`` (proposition 1 with two classes); every
    epsilon is sound, so a grid is.

    >>> round(DifferentialPrivacy().radius(0.99, 1.0), 3)
    0.555
    """

    relative_error = 1e-9

    def l2_radius(self, p_lower: float) -> float:
        """The best of the grid, with the delta that just satisfies the condition."""
        slack = p_lower - np.exp(2 * _EPSILONS) * (1 - p_lower)
        delta = slack / (1 + np.exp(_EPSILONS)) * (1 - 1e-12)
        kept = delta > 0
        if not kept.any():
            return 0.0
        reach = _EPSILONS[kept] / np.sqrt(2 * np.log(1.25 / delta[kept]))
        return float(reach.max())


radii.register("differential-privacy")(DifferentialPrivacy())
