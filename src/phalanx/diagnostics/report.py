"""`CorrelationReport`: what was measured and predicted, as JSON values and as text."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from phalanx.diagnostics.law import LawReport


@dataclass(frozen=True)
class SizeRow:
    """What k members do; means over images and choices of k members, None where absent.

    Attributes:
        k: number of members whose logits are averaged.
        variance: measured ``sigma^2(k) / sigma^2(1)``.
        variance_theory: ``(1 + zeta (k - 1)) / k``.
        success: measured share of draws that give the predicted class.
        success_gaussian: the same if margins were Gaussian with one member's covariance.
        success_chebyshev: lower bound on it from mean and variance alone.
        radius, radius_predicted: mean certified radius in input units, from counts and from
            ``n_A ~ Bin(n, success_gaussian)``.
    """

    k: int
    variance: float | None
    variance_theory: float | None
    success: float
    success_gaussian: float
    success_chebyshev: float
    radius: float
    radius_predicted: float


@dataclass(frozen=True)
class CorrelationReport:
    """Zeta and its consequences; see `SizeRow` for the rows.

    Attributes:
        members, images, samples: how much was looked at; ``samples`` per image, in two halves.
        sigma, alpha: noise level in input units; level of the radii.
        zeta_noise: mean over images of the members' correlation over noise, None if no image
            has margins that vary.
        zeta_members: the same when the spread of the members' means counts as variance.
        zeta_of_image: zeta over noise of every image, by its index in the data set.
        pairs: smallest and largest correlation of a pair of members.
        largest_radius: what ``samples / 2`` unanimous draws certify, a cap on every radius.
        rows: k = 1 .. members.
        law: predicted distribution of radii against n and k.
    """

    members: int
    images: int
    samples: int
    sigma: float
    alpha: float
    zeta_noise: float | None
    zeta_members: float | None
    zeta_of_image: dict[int, float | None]
    pairs: tuple[float, float] | None
    largest_radius: float
    rows: list[SizeRow] = field(default_factory=list)
    law: LawReport | None = None

    @property
    def without_variance(self) -> int:
        """Images whose margins the noise does not move: they have no correlation."""
        return sum(zeta is None for zeta in self.zeta_of_image.values())

    def gain(self, k: int) -> tuple[float | None, float | None]:
        """Predicted and measured mean radius of k members over that of one."""
        one, many = self.rows[0], self.rows[k - 1]
        return (
            _ratio(many.radius_predicted, one.radius_predicted),
            _ratio(many.radius, one.radius),
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON values: the form in which a run keeps it (absent numbers are None)."""
        head = {k: v for k, v in asdict(self).items() if k not in {"rows", "zeta_of_image", "law"}}
        gains = [self.gain(row.k) for row in self.rows]
        return {
            **head,
            "without_variance": self.without_variance,
            "variance_ratio": [
                {"k": r.k, "measured": r.variance, "theory": r.variance_theory} for r in self.rows
            ],
            "chebyshev": [
                {
                    "k": r.k,
                    "bound": r.success_chebyshev,
                    "gaussian_p": r.success_gaussian,
                    "measured_p": r.success,
                }
                for r in self.rows
            ],
            "radius_gain": [
                {
                    "k": r.k,
                    "predicted": predicted,
                    "measured": measured,
                    "predicted_radius": r.radius_predicted,
                    "measured_radius": r.radius,
                }
                for r, (predicted, measured) in zip(self.rows, gains, strict=True)
            ],
            "zeta_of_image": [{"image": i, "zeta": z} for i, z in self.zeta_of_image.items()],
            **({} if self.law is None else {"radius_law": self.law.as_dict()}),
        }

    def table(self) -> str:
        """A few lines of plain text."""
        law = [] if self.law is None else ["", *self.law.lines()]
        return "\n".join([*self._headline(), "", *self._lines(), *law])

    def _headline(self) -> list[str]:
        known = [zeta for zeta in self.zeta_of_image.values() if zeta is not None]
        lines = [
            f"correlation of {self.members} members under noise sigma={self.sigma:g}:"
            f" {self.images} images, {self.samples} draws each"
        ]
        if known:
            low, high = np.quantile(known, [0.25, 0.75])
            lines.append(
                f"  zeta over noise    {self.zeta_noise:.3f}"
                f"   middle half of the images {low:.3f} .. {high:.3f}"
            )
            lines.append(f"  zeta over members  {self.zeta_members:.3f}")
        if self.pairs is not None:
            lines.append(f"  pairs of members   {self.pairs[0]:.3f} .. {self.pairs[1]:.3f}")
        if self.without_variance:
            lines.append(
                f"  {self.without_variance} of {self.images} images have margins that noise does"
                " not move: no correlation exists there"
            )
        one = f" (one member: {self.rows[0].radius:.3f} on average)" if self.rows else ""
        lines.append(
            f"  radii{one}: alpha={self.alpha:g}, {self.samples - self.samples // 2} counted draws"
            f" cap them at {self.largest_radius:.3f}; estimates, not certificates"
        )
        return lines

    def _lines(self) -> list[str]:
        groups = f"{'':4}{'variance ratio':^18}{'p_A':^27}{'radius gain':^20}"
        names = ["measured", "theory", "measured", "Gaussian", "Chebyshev", "measured", "predicted"]
        lines = [groups.rstrip(), f"{'k':>3} " + "".join(f"{name:>10}" for name in names)]
        for row in self.rows:
            predicted, measured = self.gain(row.k)
            values = [
                row.variance,
                row.variance_theory,
                row.success,
                row.success_gaussian,
                row.success_chebyshev,
                measured,
                predicted,
            ]
            cells = "".join(f"{'-' if v is None else f'{v:.4f}':>10}" for v in values)
            lines.append(f"{row.k:>3} {cells}")
        return lines


def _ratio(many: float, one: float) -> float | None:
    return many / one if one > 0 else None
