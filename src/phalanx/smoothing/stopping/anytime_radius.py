"""The radius itself, until what is certified is most of what ``n`` samples could still give.

For average certified radii and whole curves: no radius is asked for, and an input whose class is
hopeless, or whose votes are mixed, ends early. The bound is that of `anytime`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phalanx.smoothing.confidence.truncated_mixture import log_wealth
from phalanx.smoothing.stopping import rules
from phalanx.smoothing.stopping._looks import LookByLook, Path, anytime_alpha


@rules.register("anytime-radius")
@dataclass(frozen=True)
class AnytimeRadius(LookByLook):
    """Stops at ``fraction`` of the radius that is still in reach, at the latest after ``n``."""

    def decided(self, path: Path) -> NDArray[np.bool_]:
        """Whether enough of what is in reach is certified, at each look: bool ``(looks,)``."""
        s = self.setting
        reach = [self._reach(*pair) for pair in zip(path.hits, path.seen, strict=True)]
        wanted = np.array([s.probability(s.fraction * s.radius(p)) for p in reach])
        shown = log_wealth(path.hits, path.seen, wanted) >= -math.log(anytime_alpha(s))
        return np.asarray(shown | (np.array([s.radius(p) for p in reach]) == 0))

    def _reach(self, hits: int, seen: int) -> float:
        """The probability that could still be shown, if every further vote agreed.

        No more than what the votes so far leave plausible; that is a guess which decides when
        to stop, and no part of what is concluded.
        """
        s = self.setting
        unanimous = s.bound.lower(int(hits) + s.n - int(seen), s.n, s.alpha - anytime_alpha(s))
        return min(unanimous, s.bound.upper(int(hits), int(seen), s.beta))
