"""Given radii, decided as soon as the votes allow it, at whatever look that is.

Each radius asks whether the class has more than a probability p; `log_wealth` tests that at every
number of samples at once, and its mirror image gives up what is hopeless. All radii share the
samples and one alpha: what rejects a larger p rejects every smaller one, so a wrong conclusion
needs the true probability itself to be rejected. A share of alpha is kept for one fixed-n bound
at the last sample, which reaches further where almost all votes agree.

Source: Ville 1939; Voracek 2024 (arXiv 2406.17830) for smoothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phalanx.smoothing.confidence.truncated_mixture import fewest_successes
from phalanx.smoothing.stopping import rules
from phalanx.smoothing.stopping._looks import LookByLook, Path, anytime_alpha


@rules.register("anytime")
@dataclass(frozen=True)
class Anytime(LookByLook):
    """Stops when every target is shown or hopeless, at the latest after ``n`` samples."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.setting.require_targets("anytime")

    def decided(self, path: Path) -> NDArray[np.bool_]:
        """Whether every target is decided, at each look: bool ``(..., looks)``."""
        sizes, place = np.unique(path.seen, return_inverse=True)
        needed = np.array([self._needed(int(n)) for n in sizes])[place.reshape(path.seen.shape)]
        hits, seen = path.hits[..., None], path.seen[..., None]
        shown, hopeless = hits >= needed[..., 0, :], seen - hits >= needed[..., 1, :]
        # What is decided stays so, and with a target every larger one is given up.
        ever = np.logical_or.accumulate
        given_up = ever(ever(hopeless, axis=-2), axis=-1)
        return np.asarray((ever(shown, axis=-2) | given_up).all(axis=-1))

    def _needed(self, seen: int) -> tuple[list[int], list[int]]:
        """For each target, the fewest votes that show it and the fewest others that end it."""
        s = self.setting
        shown, hopeless = -math.log(anytime_alpha(s)), -math.log(s.beta)
        return (
            [fewest_successes(seen, p, shown) for p in s.targets],
            [fewest_successes(seen, 1 - p, hopeless) for p in s.targets],
        )
