"""What the gradient certificate gains over Cohen's, and what it needs to know for it.

Votes with a given probability and slope are drawn as sums: about ``q n`` rows of noise in each
half, whose mean has the norm of the slope. For each dimension, probability and slope (a share of
the largest one) the median over repetitions of the bound on the slope and of the certified radius
is printed, beside Cohen's radius at the same total alpha and that of known p and slope.

Run ``python benchmarks/gradient_certificate.py``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from phalanx.smoothing.certificate import certify_counts
from phalanx.smoothing.higher_order.certificate import SHARE, certify_gradient
from phalanx.smoothing.higher_order.radius import GradientRadius, largest_slope
from phalanx.smoothing.higher_order.slope import Halves, halves_of, slope_upper

RESULTS = Path(__file__).parent / "results"
N, ALPHA, SIGMA = 100_000, 0.001, 1.0
DIMENSIONS = (784, 3072, 150_528)
PROBABILITIES = (0.6, 0.8, 0.95, 0.99, 0.999)
SHARES = (0.0, 0.25, 0.5)
REPETITIONS = 5


def drawn(rng: np.random.Generator, d: int, q: float, slope: float) -> Halves:
    """Two sums over the rows of N/2 that vote otherwise."""
    n = N // 2
    sums = rng.normal(size=(2, d)) * np.sqrt(rng.binomial(n, q, size=(2, 1)))
    sums[:, 0] += n * slope
    return halves_of(sums[0], sums[1], n, n)


def rows(repetitions: int) -> Iterator[dict[str, Any]]:
    """One row for each dimension, probability and slope."""
    rng = np.random.default_rng(0)
    for d, p, share in product(DIMENSIONS, PROBABILITIES, SHARES):
        slope = share * largest_slope(p)
        votes = {0: round(N * p), 1: N - round(N * p)}
        bounds, radii = [], []
        for _ in range(repetitions):
            halves = drawn(rng, d, 1 - p, slope)
            found = certify_gradient({0: 100}, votes, halves, sigma=SIGMA, alpha=ALPHA)
            bounds.append(slope_upper(halves, 1 - (found.p_lower or 0.0), SHARE * ALPHA))
            radii.append(found.radius or 0.0)
        cohen = certify_counts({0: 100}, votes, sigma=SIGMA, alpha=ALPHA)
        yield {
            "d": d,
            "p": p,
            "slope": slope,
            "largest_slope": largest_slope(p),
            "slope_upper": float(np.median(bounds)),
            "radius": float(np.median(radii)),
            "cohen": cohen.radius,
            "known": GradientRadius(slope).radius(p, SIGMA),
        }


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--out", type=Path, default=RESULTS / "gradient_certificate.json")
    options = parser.parse_args()
    print(f"n {N}, alpha {ALPHA} of which {SHARE} for the slope, sigma {SIGMA:g}")
    names = ("d", "p", "slope", "largest", "bound", "radius", "cohen", "known")
    print("".join(f"{name:>9}" for name in names))
    found = []
    for row in rows(options.repetitions):
        found.append(row)
        d, p, *numbers = row.values()
        print(f"{d:9d}{p:9.3f}" + "".join(f"{number:9.4f}" for number in numbers))
    settings = {"n": N, "alpha": ALPHA, "share": SHARE, "repetitions": options.repetitions}
    options.out.write_text(json.dumps({**settings, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
