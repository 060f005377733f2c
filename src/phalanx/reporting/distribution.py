"""How sure the votes were: the share of noisy copies that chose the predicted class."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtri

from phalanx.reporting.style import BAD, GOOD, IDLE, INK, RULE, rc
from phalanx.runs.schema import CertificateRecord
from phalanx.verdicts import Verdict

TICKS = (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 0.9999, 0.99999)
BINS = 44


def vote_shares(rows: Sequence[CertificateRecord]) -> dict[str, np.ndarray]:
    """``n_A / n`` of every row with known counts, float64 in [0, 1], by what came of the row.

    Keys in drawing order: ``"right"``, ``"certified"`` (no label), ``"wrong"``, ``"abstained"``.
    Errors and imported rows without counts have no share and are left out; so are empty keys.
    """
    found: dict[str, list[float]] = {
        key: [] for key in ("right", "certified", "wrong", "abstained")
    }
    for row in rows:
        if row.n_a is not None and row.n and row.verdict is not Verdict.ERROR:
            found[_outcome(row)].append(row.n_a / row.n)
    return {key: np.array(values) for key, values in found.items() if values}


def _outcome(row: CertificateRecord) -> str:
    if row.verdict is Verdict.ABSTAINED:
        return "abstained"
    return {True: "right", False: "wrong", None: "certified"}[row.correct]


def vote_figure(
    shares: dict[str, np.ndarray], n: int, *, floor: float = 0.5, salt: str = "votes"
) -> Figure:
    """Histogram of the vote shares on a probit axis, on which equal steps are equal radii.

    A share of 0 or 1 has no place on that axis and is drawn at ``(k + 1/2) / (n + 1)``.

    Args:
        shares: from `vote_shares`; not empty.
        n: votes per image.
        floor: a share below which nothing is certified.
        salt: makes the SVG ids of this figure its own.
    """
    place = {key: ndtri((values * n + 0.5) / (n + 1)) for key, values in shares.items()}
    every = np.concatenate(list(place.values()))
    edge = float(ndtri(floor))
    low, high = min(edge - 0.3, float(every.min())), max(edge + 0.3, float(every.max()))
    edges = np.linspace(low, high + 1e-9, BINS + 1)
    colours = {"right": GOOD, "certified": GOOD, "wrong": BAD, "abstained": IDLE}
    with mpl.rc_context(dict(rc(salt))):
        figure = Figure(figsize=(8.2, 2.9), layout="constrained")
        axes = figure.add_subplot()
        axes.hist(
            list(place.values()),
            bins=edges.tolist(),
            stacked=True,
            color=[colours[key] for key in place],
            label=[f"{key} ({len(values)})" for key, values in place.items()],
            rwidth=0.86,
        )
        axes.axvline(edge, color=INK, linewidth=1)
        ticks = [tick for tick in TICKS if low <= ndtri(tick) <= high]
        axes.set_xticks(ndtri(ticks), [f"{tick:g}" for tick in ticks])
        axes.set(xlabel="share of votes for the predicted class, n_A / n", ylabel="images")
        axes.axhline(0, color=RULE, linewidth=1.2)
        figure.legend(loc="outside upper left", ncols=4, borderaxespad=0.2)
    return figure
