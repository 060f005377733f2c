"""The radius itself, until what is certified is most of what ``n`` samples could still give.

For average certified radii and whole curves: no radius is asked for, and an input whose class is
hopeless, or whose votes are mixed, ends early. The bound is that of `anytime`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

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
        pairs = zip(path.hits.tolist(), path.seen.tolist(), strict=True)
        return np.array([self._enough(*pair) for pair in pairs])

    def _enough(self, hits: int, seen: int) -> bool:
        """The same at one look, remembered: other inputs give the same votes."""
        known = self._known
        if (hits, seen) not in known:
            s = self.setting
            reach = s.radius(self._reach(hits, seen))
            wanted = s.probability(s.fraction * reach)
            shown = log_wealth(hits, seen, wanted) >= -math.log(anytime_alpha(s))
            known[hits, seen] = bool(shown) or reach == 0
        return known[hits, seen]

    @cached_property
    def _known(self) -> dict[tuple[int, int], bool]:
        return {}

    def _reach(self, hits: int, seen: int) -> float:
        """The probability that could still be shown, if every further vote agreed.

        No more than what the votes so far leave plausible; that is a guess which decides when
        to stop, and no part of what is concluded.
        """
        s = self.setting
        unanimous = s.bound.lower(hits + s.n - seen, s.n, s.alpha - anytime_alpha(s))
        return min(unanimous, s.bound.upper(hits, seen, s.beta))
