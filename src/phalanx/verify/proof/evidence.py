"""How a case was refuted, as a search tells it: hints for a checker, which believes none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from phalanx.verify.proof.rounding import Array

Integers = NDArray[np.int64]
Signs = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class ByBound:
    """One row is above zero on the whole box.

    Attributes:
        row: which.
        slopes: below ReLUs, flat, by their names; those without have their usual lines.
    """

    row: int
    slopes: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class BySigns:
    """L sub-problems of decided signs, which together leave nothing out.

    Attributes:
        units: T units: the name of a ReLU and a flat entry.
        signs: ``(L, T)``: 1 on, -1 off, 0 open.
        slopes: of open units below, ``(L, T)`` in float16.
        multipliers: of decided signs, ``(L, T)``.
        shares: of the case's rows, ``(L, J)``.
    """

    units: tuple[tuple[str, int], ...]
    signs: Signs
    slopes: NDArray[np.float16]
    multipliers: Array
    shares: Array


@dataclass(frozen=True, eq=False)
class ByBoxes:
    """A tree of boxes, in the order in which it is walked: a cut, what is below, what is above it.

    Attributes:
        inputs: which flat input is cut, -1 where nothing is, ``(N,)``.
        places: where, one for each cut.
    """

    inputs: Integers
    places: Array


Evidence = ByBound | BySigns | ByBoxes
