"""ReLUs taken together: the convex hull of k of them over an octahedron (Singh et al. 2019).

See `phalanx.bounds.outward.octahedra` for the corners.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from phalanx.bounds.outward.octahedra import SLACK, corners, reach_of
from phalanx.bounds.programs.program import Floats, Indices


@dataclass(frozen=True, eq=False)
class Sides:
    """``arguments z + answers relu(z) <= most``, row by row: ``(f, k)``, ``(f, k)``, ``(f,)``."""

    arguments: Floats
    answers: Floats
    most: Floats


def hull(low: Floats, high: Floats, count: int) -> Sides | None:
    """The convex hull of ``(z, relu(z))`` over an octahedron; None where it is flat.

    What Qhull says (Barber et al. 1996) is taken for directions only: how far the corners reach in
    them is computed here. Sides that say nothing new, over arguments alone, are left out.

    Args:
        low, high: of the sums in `directions`.
        count: k.

    >>> found = hull(np.array([-1.0, -2, -1, -2]), np.array([1.0, 2, 1, 2]), 2)
    >>> z = np.array([[1.0, -1.0], [0.5, 0.5], [-1.0, 1.0]])
    >>> reach = z @ found.arguments.T + np.maximum(z, 0) @ found.answers.T
    >>> bool((reach <= found.most).all())
    True
    """
    z = corners(low, high, count)
    points = np.concatenate([z, np.maximum(z, 0.0)], axis=1)
    if len(points) <= 2 * count or not np.isfinite(points).all():
        return None
    try:
        normals = np.unique(ConvexHull(points).equations[:, :-1].round(12), axis=0)
    except QhullError:
        return None
    normals = normals[(np.abs(normals[:, count:]) > SLACK).any(1)]
    return Sides(normals[:, :count], normals[:, count:], reach_of(points, normals))


def together(gaps: Floats, count: int, block: int) -> Indices:
    """Groups ``(g, k)`` of entries: all of each ``block``, taken by falling ``gaps``.

    >>> together(np.array([1.0, 3.0, 2.0]), 2, 2).tolist()
    [[1, 2]]
    """
    order = np.argsort(-gaps, kind="stable")
    found = [
        group
        for start in range(0, len(order), block)
        for group in itertools.combinations(order[start : start + block].tolist(), count)
    ]
    return np.array(found, dtype=np.intp).reshape(-1, count)
