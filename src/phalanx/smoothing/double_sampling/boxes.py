"""What two counts say of a class: intervals for its probability under P and under Q."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainc, gammaincc, gammainccinv, gammaincinv

from phalanx.errors import ParameterError
from phalanx.smoothing.checks import check_count
from phalanx.smoothing.confidence.clopper_pearson import ClopperPearson
from phalanx.smoothing.double_sampling.pairs import Pair

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Boxes:
    """Confidence boxes of one class at each row: ``[p_low, p_high] x [q_low, q_high]``.

    All four hold together with the stated confidence. A bound that is not known is 0 or 1.

    Attributes:
        p_low, p_high, q_low, q_high: float64 ``(rows,)`` in [0, 1].

    Raises:
        ParameterError: not in order, NaN, or of different lengths.
    """

    p_low: Floats
    p_high: Floats
    q_low: Floats
    q_high: Floats

    def __post_init__(self) -> None:
        arrays = [
            np.atleast_1d(np.asarray(getattr(self, name), dtype=np.float64)) for name in _NAMES
        ]
        if arrays[0].ndim != 1 or len({array.shape for array in arrays}) != 1:
            raise ParameterError("the bounds of a box differ in length", repair="one of each a row")
        for name, array in zip(_NAMES, arrays, strict=True):
            object.__setattr__(self, name, array)
        for low, high, law in ((arrays[0], arrays[1], "P"), (arrays[2], arrays[3], "Q")):
            wrong = ~((low >= 0) & (low <= high) & (high <= 1))
            if wrong.any():
                row = int(np.flatnonzero(wrong)[0])
                raise ParameterError(
                    f"row {row}: [{low[row]}, {high[row]}] as the interval under {law}",
                    why="bounds of a probability lie in [0, 1], the lower one first",
                )

    def __len__(self) -> int:
        return len(self.p_low)

    def stacked(self) -> Floats:
        """pL, pU, qL, qU, float64 ``(4, rows)``."""
        return np.stack([getattr(self, name) for name in _NAMES])


_NAMES = ("p_low", "p_high", "q_low", "q_high")


def boxes_from_counts(
    p_hits: ArrayLike,
    p_trials: ArrayLike,
    q_hits: ArrayLike,
    q_trials: ArrayLike,
    alpha: float,
    *,
    two_sided: bool = True,
) -> Boxes:
    """Clopper-Pearson intervals whose ends all hold with 1 - alpha.

    Both numbers of samples have to be chosen before the first is counted.

    Args:
        p_hits, q_hits: votes for the class, int ``(rows,)``.
        p_trials, q_trials: samples of each law, one number or ``(rows,)``.
        two_sided: alpha / 4 an end; else alpha / 2 for each lower end, and the upper ones are 1.

    Raises:
        ParameterError: counts or alpha for which there is no interval.

    >>> box = boxes_from_counts([50_000], 50_000, [49_900], 50_000, 0.001)
    >>> round(float(box.p_low[0]), 9), round(float(box.q_low[0]), 9)
    (0.999834133, 0.997206516)
    >>> lower = boxes_from_counts([50_000], 50_000, [49_900], 50_000, 0.001, two_sided=False)
    >>> bool(lower.q_low > box.q_low), lower.q_high.tolist()
    (True, [1.0])
    """
    bound, sides = ClopperPearson(), []
    share = alpha / 4 if two_sided else alpha / 2
    for name, hits, trials in (("P", p_hits, p_trials), ("Q", q_hits, q_trials)):
        pairs = [(int(k), int(n)) for k, n in np.broadcast(np.atleast_1d(hits), trials)]
        for _, n in pairs:
            check_count(f"the number of samples of {name}", n)
        sides.append(np.array([bound.lower(k, n, share) for k, n in pairs]))
        if two_sided:
            sides.append(np.array([bound.upper(k, n, share) for k, n in pairs]))
        else:
            sides.append(np.ones(len(pairs)))
    return Boxes(sides[0], sides[1], sides[2], sides[3])


def possible(pair: Pair, boxes: Boxes) -> NDArray[np.bool_]:
    """Whether any set has probabilities in the box.

    Q is largest, for a given P, on the smallest radii, and smallest on the largest. Where the box
    holds no pair at all, the counts contradict one another, and nothing should be claimed.
    """
    p_low, p_high, q_low, q_high = boxes.stacked()
    if pair.mass is not None:
        mass = pair.mass[:, 0]
        most, least = np.minimum(p_high / mass, 1.0), 1 - np.minimum((1 - p_low) / mass, 1.0)
    elif pair.kappa > 0:
        wider, a = 1 + pair.kappa, pair.shape
        most = gammainc(a, gammaincinv(a, p_high) * wider)
        least = gammaincc(a, gammainccinv(a, p_low) * wider)
    else:
        return np.ones(len(boxes), dtype=bool)
    return np.asarray((q_low <= most + 1e-12) & (q_high >= least - 1e-12))
