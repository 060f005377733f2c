"""The randomised Clopper-Pearson bound a second time, and the number it drew.

Shares no code with ``phalanx.smoothing``: the number comes from the run's seed and the image, and
the bound from a sum of binomial terms.
"""

from __future__ import annotations

import hashlib
from math import log, sqrt

import numpy as np

from phalanx.runs.arithmetic import log_mass, lower_limit, tail_over_mass

RANDOMISED = "randomised-clopper-pearson"
_STEPS = 60


def drawn_number(seed: int, image: int) -> float:
    """The number in [0, 1) of an image.

    >>> drawn_number(0, 3) == drawn_number(0, 3) != drawn_number(1, 3)
    True
    """
    state = hashlib.blake2b(digest_size=16, person=b"phalanx-noise-v1")
    for kind, text in (("int", str(seed)), ("int", str(image)), ("str", "bound")):
        state.update(f"{kind}:{len(text)}:{text}".encode())
    # The 53 highest bits of a little-endian number of 128.
    return (int.from_bytes(state.digest()[9:], "little") >> 3) / 2**53


def randomised_limit(n_a: int, n: int, alpha: float, drawn: float) -> float:
    """The p at which P(X > n_A) + u P(X = n_A) = alpha, u the drawn number or sqrt(alpha).

    >>> round(randomised_limit(990, 1000, 0.001, 0.5), 6)
    0.976619
    """
    u = max(drawn, sqrt(alpha))
    if n_a == 0:
        return 0.0
    if n_a == n:
        return float((alpha / u) ** (1 / n))
    hits, trials = np.array([n_a], dtype=float), np.array([n], dtype=float)
    low, high = lower_limit(n_a, n, alpha), lower_limit(n_a + 1, n, alpha)
    for _ in range(_STEPS):
        p = np.array([(low + high) / 2])
        share = float(tail_over_mass(hits, trials, p)[0]) - 1 + u
        above = float(log_mass(hits, trials, p)[0]) + log(share) > log(alpha)
        low, high = (low, float(p[0])) if above else (float(p[0]), high)
    return low
