"""From a bound on a probability to a radius; one file a certificate."""

from __future__ import annotations

from typing import Protocol

from phalanx.registry import Registry


class RadiusRule(Protocol):
    """A certificate for one noise distribution and one norm.

    ``noise`` is the one distribution the theorem speaks of, ``norm`` names the ball, and
    ``threshold`` is the largest probability that certifies nothing.
    """

    noise: str
    norm: str
    threshold: float

    def radius(self, p_lower: float, sigma: float) -> float:
        """Radius in input units certified by ``p_lower``, rounded towards zero, never < 0."""
        ...


radii: Registry[RadiusRule] = Registry("radii", "phalanx.smoothing.radii", noun="radius rule")
