"""What the literature reports for deterministic certification, a row for each way and network.

``deterministic.csv`` holds the benchmark of Li, Xie & Li, "SoK: Certified Robustness for Deep
Neural Networks" (IEEE S&P 2023, arXiv 2009.04131), as its site (sokcertifiedrobustness.github.io)
gives it: 100 test images, at most 60 s an image; radii by binary search within 120 s. A figure of
0 says that a way was too loose or too slow.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.resources import files

SOURCE = (
    "Li, Xie & Li, IEEE S&P 2023 (arXiv 2009.04131): 100 images, 60 s an image; their networks are"
    " not published, ours have the same layers and were trained here"
)

MEASURED = ("radius", "seconds", "radius_seconds")


@dataclass(frozen=True)
class PublishedCell:
    """One way of certifying one network.

    Attributes:
        eps: the l_inf radius of ``certified``, in input units: what the network was trained for.
        certified: accuracy there, 0 to 1.
        radius: average over images, in input units.
        seconds: an image, for ``certified``.
        radius_seconds: an image, for ``radius``.
    """

    eps: float
    certified: float | None
    radius: float | None
    seconds: float | None
    radius_seconds: float | None


def cell(data: str, network: str, training: str, method: str) -> PublishedCell | None:
    """The published figures, all names as the source has them; None where there are none.

    >>> cell("mnist", "CNNa", "clean", "CROWN")
    PublishedCell(eps=0.02, certified=0.89, radius=0.039, seconds=0.02, radius_seconds=0.09)
    >>> cell("mnist", "my network", "clean", "CROWN") is None
    True
    """
    return _cells().get((data, network, training, method))


@cache
def _cells() -> dict[tuple[str, str, str, str], PublishedCell]:
    text = files("phalanx.reporting.published").joinpath("deterministic.csv").read_text("utf-8")
    return {
        (row["data"], row["network"], row["training"], row["method"]): PublishedCell(
            _number(row["eps"]),
            None if not row["certified"] else float(row["certified"]) / 100,
            *(float(row[name]) if row[name] else None for name in MEASURED),
        )
        for row in csv.DictReader(text.splitlines())
    }


def _number(text: str) -> float:
    """Of a number or a quotient of two."""
    above, _, below = text.partition("/")
    return float(Fraction(above) / Fraction(below or 1))
