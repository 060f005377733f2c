"""What the literature reports for l2 randomized smoothing, to stand beside our own figures.

``smoothing_l2.csv`` has one row a curve: data, sigma (empty: the best sigma was chosen at each
radius), network, training, noise, certificate, test images, trained models averaged over, average
certified radius, ``radius:percent`` pairs, where the row was read, and what to be careful about.
Figures recomputed from the per-sample logs that authors publish say so in ``source``.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files

GAUSSIAN = "gaussian"
_ALIASES = {"cifar-10": "cifar10", "cifar_10": "cifar10", "imagenet-1k": "imagenet"}


@dataclass(frozen=True)
class PublishedCurve:
    """One published certified-accuracy curve.

    Attributes:
        training: training method (for the leaderboard: the paper's title).
        network: the network certified, empty where not stated.
        data: ``"mnist"``, ``"cifar10"`` or ``"imagenet"``.
        sigma: standard deviation of the noise; None where it was chosen per radius.
        acr: average certified radius in l2 input units, None where not published.
        certified: certified accuracy (0 to 1) by radius; empty where not published.
        images: test images behind the figures, None where not stated.
        runs: independently trained models averaged over, None where not stated.
        noise: ``"gaussian"``, ``"generalised gaussian"`` or empty where not stated.
        certificate: how the radius was proven.
        source: paper and repository or table.
        caution: why the row may not be comparable; empty when there is nothing to say.
    """

    training: str
    network: str
    data: str
    sigma: float | None
    acr: float | None
    certified: Mapping[float, float]
    images: int | None
    runs: int | None
    noise: str
    certificate: str
    source: str
    caution: str

    @property
    def label(self) -> str:
        """Training method and network, as tables show them."""
        return ", ".join(part for part in (self.training, self.network) if part)


def figures(
    data: str, sigma: float | None, *, noise: str | None = GAUSSIAN
) -> list[PublishedCurve]:
    """The published curves for one data set and one noise level, in the file's order.

    Args:
        data: name of the data set; case and the hyphen of CIFAR-10 do not matter.
        sigma: noise level, matched to 1e-9 relative; None asks for the curves for which the best
            sigma was chosen at each radius (no single classifier has such a curve).
        noise: keep only this noise distribution; None keeps every row.

    Returns:
        The matching curves; empty when nothing is published for the pair.

    >>> [curve.acr for curve in figures("mnist", 0.5)][0]
    1.558
    >>> figures("my-own-images", 0.5)
    []
    """
    name = _ALIASES.get(data.lower(), data.lower())
    return [
        curve
        for curve in _curves()
        if curve.data == name
        and _same(curve.sigma, sigma)
        and (noise is None or curve.noise == noise)
    ]


def _same(published: float | None, asked: float | None) -> bool:
    if published is None or asked is None:
        return published is asked
    return math.isclose(published, asked, rel_tol=1e-9)


@cache
def _curves() -> tuple[PublishedCurve, ...]:
    text = files("phalanx.reporting.published").joinpath("smoothing_l2.csv").read_text("utf-8")
    return tuple(_curve(row) for row in csv.DictReader(text.splitlines()))


def _curve(row: dict[str, str]) -> PublishedCurve:
    pairs = (pair.split(":") for pair in row["certified"].split())
    return PublishedCurve(
        training=row["training"],
        network=row["network"],
        data=row["data"],
        sigma=float(row["sigma"]) if row["sigma"] else None,
        acr=float(row["acr"]) if row["acr"] else None,
        certified={float(radius): float(Decimal(p).scaleb(-2)) for radius, p in pairs},
        images=int(row["images"]) if row["images"] else None,
        runs=int(row["runs"]) if row["runs"] else None,
        noise=row["noise"],
        certificate=row["certificate"],
        source=row["source"],
        caution=row["caution"],
    )
