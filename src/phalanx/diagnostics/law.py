"""The radius law over a data set: radii against the number of samples and of members.

Predicted radii follow from the first half of an image's draws: the variance law gives the
success probability p_A(k) of k averaged members if margins are Gaussian, and
``n_A ~ Bin(n, p_A(k))`` the distribution of radii at every n (`phalanx.runs.radius_law`). What
was measured comes from the second half, at its own number of draws, and tests the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from phalanx.runs.radius_law import (
    QUANTILES,
    Spread,
    observed,
    predicted,
    radii_of_counts,
    share_quantiles,
)

SAMPLES = (100, 1_000, 10_000, 100_000)
"""Numbers of samples at which radii are predicted."""


@dataclass(frozen=True)
class LawRow:
    """Radii of k members at n samples, over images and choices of members."""

    k: int
    n: int
    radii: Spread


@dataclass(frozen=True)
class LawReport:
    """The radius law of an ensemble.

    Attributes:
        sigma, alpha: noise level in input units; level of the radii.
        rows: predictions, for every k at every n of `SAMPLES` and at the measured one.
        measured: radii that the second half of the draws certifies, for every k.
        p_predicted, p_measured: `QUANTILES` of p_A over images, one list a k.
    """

    sigma: float
    alpha: float
    rows: Sequence[LawRow]
    measured: Sequence[LawRow]
    p_predicted: Sequence[Sequence[float]]
    p_measured: Sequence[Sequence[float]]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "sigma": self.sigma,
            "alpha": self.alpha,
            "quantiles": list(QUANTILES),
            "predicted": [{"k": r.k, "n": r.n, **asdict(r.radii)} for r in self.rows],
            "measured": [{"k": r.k, "n": r.n, **asdict(r.radii)} for r in self.measured],
            "p_A": [
                {"k": k, "predicted": list(before), "measured": list(after)}
                for k, (before, after) in enumerate(
                    zip(self.p_predicted, self.p_measured, strict=True), 1
                )
            ],
        }

    def lines(self) -> list[str]:
        """Plain text: the law of one member and of all, and the test of the prediction."""
        most = max(row.k for row in self.rows)
        quantiles = "".join(f"{f'{q:.0%}':>8}" for q in QUANTILES)
        head = f"{'k':>3}{'n':>9}{'none':>8}{'mean':>8}{quantiles}"
        shown = [row for row in self.rows if row.k in {1, most}]
        lines = [
            "radius law n_A ~ Bin(n, p_A): radii over images, as margins and zeta predict them;"
            " estimates, not certificates",
            head,
            *(_line(row) for row in sorted(shown, key=lambda row: (row.k, row.n))),
            "measured at the counted draws",
            *(_line(row) for row in self.measured),
            f"p_A over images{'':6}{'predicted':^24}{'measured':^24}".rstrip(),
            f"{'k':>3}{'':18}{quantiles}{quantiles}",
        ]
        for k, (before, after) in enumerate(zip(self.p_predicted, self.p_measured, strict=True), 1):
            cells = "".join(f"{value:>8.4f}" for value in (*before, *after))
            lines.append(f"{k:>3}{'':18}{cells}")
        return lines


def law_of(
    successes: Sequence[Sequence[float]],
    counts: Sequence[Sequence[int]],
    table: np.ndarray,
    *,
    sigma: float,
    alpha: float,
) -> LawReport:
    """The law of an ensemble from what was predicted and counted.

    Args:
        successes: predicted p_A of every image and choice, one list a k = 1, 2, ...
        counts: measured counts of the same.
        table: radius of every count, ``(draws + 1,)``.
        sigma, alpha: of the radii.
    """
    draws = len(table) - 1
    tables = {n: radii_of_counts(n, sigma=sigma, alpha=alpha) for n in {*SAMPLES, draws}}
    rows = [
        LawRow(k, n, predicted(of_k, tables[n]))
        for k, of_k in enumerate(successes, 1)
        for n in sorted(tables)
    ]
    return LawReport(
        sigma=sigma,
        alpha=alpha,
        rows=rows,
        measured=[
            LawRow(k, draws, observed(table[list(of_k)])) for k, of_k in enumerate(counts, 1)
        ],
        p_predicted=[share_quantiles(of_k) for of_k in successes],
        p_measured=[share_quantiles(np.array(of_k) / draws) for of_k in counts],
    )


def _line(row: LawRow) -> str:
    r = row.radii
    cells = "".join(f"{value:>8.3f}" for value in (r.mean, r.low, r.median, r.high))
    return f"{row.k:>3}{row.n:>9,}{f'{r.none:.1%}':>8}{cells}"
