"""Octahedra of several numbers, cut along the axes: what ReLUs of them can be.

An octahedron bounds every sum of k numbers with coefficients -1, 0 and 1. On each orthant ReLUs are
linear, so a linear function of numbers and ReLUs is largest at a corner of an orthant's part: where
k of the octahedron's sides and of the planes ``z_i = 0`` meet. Coefficients being small whole
numbers, no such point is ill-conditioned: it is computed to some units in the last place, which
`SLACK` exceeds by far.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

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


def reach_of(points: Floats, normals: Floats) -> Floats:
    """How far points ``(n, d)`` reach in directions ``(f, d)``, and a little further ``(f,)``."""
    room = SLACK * (1 + np.abs(points).max()) * np.abs(normals).sum(1)
    return np.asarray((points @ normals.T).max(0) + room, dtype=np.float64)


def reach(low: Floats, high: Floats, arguments: Floats, answers: Floats) -> float:
    """What ``arguments z + answers relu(z)`` is at most on an octahedron; infinite: nothing.

    >>> ends = np.array([-1.0, -2, -1, -2]), np.array([1.0, 2, 1, 2])
    >>> round(reach(*ends, np.array([0.0, 0.0]), np.array([1.0, 1.0])), 6)
    2.0
    """
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return np.inf
    z = corners(low, high, len(arguments))
    if not len(z):
        return np.inf
    points = np.concatenate([z, np.maximum(z, 0.0)], axis=1)
    return float(reach_of(points, np.concatenate([arguments, answers])[None])[0])
