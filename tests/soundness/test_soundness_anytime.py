"""What the harness must say of bounds that only pretend to hold at every number of samples."""

from __future__ import annotations

import math

import checks_bounds
import numpy as np
import pytest
from scipy.special import betaln

from phalanx.smoothing.confidence.clopper_pearson import ClopperPearson
from phalanx.smoothing.confidence.truncated_mixture import SHAPE, TruncatedMixture


class Peeking:
    """Clopper-Pearson, looked at after every sample."""

    anytime = True
    lower, upper = ClopperPearson().lower, ClopperPearson().upper


class Uncut(TruncatedMixture):
    """The mixture over all q: two-sided, so it also grows where the truth lies below p."""

    def lower(self, successes, trials, alpha):
        grid = np.linspace(1e-9, 1 - 1e-9, 2001)
        missed = trials - successes
        mixture = betaln(1 + successes, SHAPE + missed) - betaln(1, SHAPE)
        wealth = mixture - successes * np.log(grid) - missed * np.log1p(-grid)
        rejected = np.flatnonzero(wealth >= -math.log(alpha))
        return float(grid[rejected[-1]]) if len(rejected) else 0.0


@pytest.mark.parametrize("bound", [Peeking(), Uncut()], ids=lambda bound: type(bound).__name__)
def test_the_harness_sees_peeking_and_the_uncut_mixture(bound):
    with pytest.raises(AssertionError):
        checks_bounds.anytime_coverage(bound)
