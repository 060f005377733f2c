"""ReLUs taken together: the convex hull of k of them over an octahedron (Singh et al. 2019).

The octahedron bounds every sum of the arguments with coefficients -1, 0 and 1. On each orthant the
ReLUs are linear, so the hull's corners are corners of the octahedron's parts: points where k of its
sides and of the planes ``z_i = 0`` meet. Coefficients being small whole numbers, no such point is
ill-conditioned.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from phalanx.bounds.programs.program import Floats, Indices

SLACK = 1e-9
"""Points outside of an octahedron by this, in units of its size, count as its corners; sides of the
hull are moved outward by it."""


def directions(count: int) -> Floats:
    """All sums with coefficients -1, 0, 1 but for the sign, ``((3^k - 1) / 2, k)``.

    >>> directions(2).tolist()
    [[0.0, 1.0], [1.0, -1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    found = itertools.product((-1.0, 0.0, 1.0), repeat=count)
    return np.array([row for row in found if next((v for v in row if v), -1.0) > 0])


def corners(low: Floats, high: Floats, count: int) -> Floats:
    """Corners ``(n, k)`` of all orthants' parts of ``low <= directions z <= high``.

    >>> ends = np.array([-1.0, -9.0, -1.0, -9.0]), np.array([1.0, 9.0, 1.0, 9.0])
    >>> sorted({tuple(point) for point in (corners(*ends, 2) + 0.0).tolist()})[:3]
    [(-1.0, -1.0), (-1.0, 0.0), (-1.0, 1.0)]
    """
    ways = directions(count)
    axes = np.eye(count)
    sides = np.concatenate([ways, ways, axes])
    at = np.concatenate([low, high, np.zeros(count)])
    chosen = np.array(list(itertools.combinations(range(len(sides)), count)))
    systems = sides[chosen]
    regular = np.abs(np.linalg.det(systems)) > 0.5  # the determinants are whole numbers
    found = np.linalg.solve(systems[regular], at[chosen[regular]][..., None])[..., 0]
    slack = SLACK * (1 + np.abs(low).max() + np.abs(high).max())
    image = found @ ways.T
    inside = ((image >= low - slack) & (image <= high + slack)).all(1)
    return np.unique(found[inside], axis=0)


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
    reach = (points @ normals.T).max(0)
    room = SLACK * (1 + np.abs(points) @ np.abs(normals).T).max(0)
    return Sides(normals[:, :count], normals[:, count:], reach + room)


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
