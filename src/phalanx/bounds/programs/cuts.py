"""Rows that are added to a network's program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from phalanx.bounds.planes import Plane
from phalanx.bounds.programs.program import Floats, Forms


@dataclass(frozen=True, eq=False)
class Cuts:
    """Forms that are at most these numbers wherever the network's values are.

    Attributes:
        forms, most: ``(n,)`` each.
        plane: what they mean with multipliers ``(n,)``, none negative; None: nothing to be told.
    """

    forms: Forms
    most: Floats
    plane: Callable[[Floats], Plane] | None = None
