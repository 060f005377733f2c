"""Unsound parts, one of each kind, each wrong in a way that tools in the field are wrong.

`plant` registers them and does nothing else. ``pytest -p planted_plugin`` calls it and runs
the harness with them on board; that it turns red is the test of the harness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

from torch import Tensor, nn

from phalanx.ensembles.ensemble import reducers
from phalanx.models.build import networks
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.double_sampling.boxes import Boxes
from phalanx.smoothing.double_sampling.laws import GeneralisedGaussian, SecondLaw
from phalanx.smoothing.double_sampling.radius import Certified, certified_radii
from phalanx.smoothing.higher_order.slope import Halves
from phalanx.smoothing.radii import L2, Ball, radii
from phalanx.smoothing.stopping import (
    Chunk,
    Evidence,
    Setting,
    Votes,
    cut,
    fixed_evidence,
    missing,
    rules,
    tally,
)

NAME = "planted"


class Wald:
    """The textbook interval ``p -/+ z sqrt(p (1 - p) / n)``: certain as soon as k = n."""

    anytime = False

    def lower(self, successes: int, trials: int, alpha: float) -> float:
        """Too high for small counts and for shares near 1."""
        return max(0.0, successes / trials - self._half_width(successes, trials, alpha))

    def upper(self, successes: int, trials: int, alpha: float) -> float:
        """Too low for the same counts."""
        return min(1.0, successes / trials + self._half_width(successes, trials, alpha))

    def _half_width(self, successes: int, trials: int, alpha: float) -> float:
        p = successes / trials
        return NormalDist().inv_cdf(1 - alpha) * math.sqrt(p * (1 - p) / trials)


@dataclass(frozen=True)
class Peeking:
    """Clopper-Pearson after every chunk, at the full alpha, until it is above the target."""

    setting: Setting

    def decide(self, votes: Votes) -> list[Chunk] | Evidence:
        """The next chunk, unless the bound just happens to be high enough."""
        s = self.setting
        selection, estimation = [*cut("selection", s.n0, s.chunk)], [*cut("estimation", s.n, 10)]
        counted = len(votes.get("estimation", ()))
        if missing(votes, [*selection, estimation[0]]):
            return [*selection, estimation[0]]
        found = fixed_evidence(
            tally(votes, selection), tally(votes, estimation[:counted]), s.bound, s.alpha
        )
        if counted < len(estimation) and all(found.p_lower < target for target in s.targets):
            return [estimation[counted]]
        return found


class RoundedRadius:
    """Cohen's radius to three digits, as published logs store it: half of them too large.

    With a second law of noise to two, as on a grid.
    """

    noise = "gaussian"
    threshold = 0.5

    def radius(self, p_lower: float, sigma: float, ball: Ball = L2) -> float:
        """Rounded to nearest, not towards zero."""
        return round(sigma * NormalDist().inv_cdf(max(p_lower, 0.5)), 3)

    def of_noise(self, noise: str, order: int | None) -> RoundedRadius:
        """The same, whatever the noise."""
        return self

    def l2_radii(self, first: GeneralisedGaussian, second: SecondLaw, boxes: Boxes) -> Certified:
        """Rounded to nearest."""
        found = certified_radii(first, second, boxes)
        return replace(found, radius=found.radius.round(2))


def plugged_in_slope(halves: Halves, q_upper: float, alpha: float) -> float:
    """The unbiased estimate of the squared slope, taken for a bound on it."""
    return math.sqrt(max(0.0, halves.product / halves.n1 / halves.n2))


def slope_without_noise(halves: Halves, q_upper: float, alpha: float) -> float:
    """A normal quantile for the part across the gradient alone, as if d were all that counts."""
    norms = math.sqrt(halves.norm1 * halves.norm2) / halves.n1 / halves.n2
    product = halves.product / halves.n1 / halves.n2
    return math.sqrt(max(0.0, product - NormalDist().inv_cdf(alpha) * norms / halves.n1))


def repaired_mean(logits: Tensor) -> Tensor:
    """Mean logits with every NaN quietly made zero."""
    return logits.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).mean(0)


class BatchCentred(nn.Module):
    """Subtracts the mean of the batch: an image's class depends on its company."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)``."""
        return self.linear((x - x.mean(0)).flatten(1))


class BatchScaled(nn.Module):
    """Scales by the range of the batch, which is 0 to 1 for every batch of clean images."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)``."""
        return self.linear(((x - x.min()) / (x.max() - x.min())).flatten(1))


class Overwriting(nn.Module):
    """Clamps its input where it lies, and with it that of every later member."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)``."""
        return self.linear(x.clamp_(0, 1).flatten(1))


def batch_centred(classes: int, shape: tuple[int, ...]) -> nn.Module:
    """Factory of `BatchCentred`."""
    return BatchCentred(math.prod(shape), classes)


def plant() -> None:
    """Register all of them under `NAME`."""
    bounds.register(NAME)(Wald())
    radii.register(NAME)(RoundedRadius())
    rules.register(NAME)(Peeking)
    reducers.register(NAME)(lambda: repaired_mean)
    networks.register(NAME)(batch_centred)


def uproot() -> None:
    """Take them away again."""
    for registry in (bounds, radii, reducers, networks, rules):
        registry.unregister(NAME)
