"""Witnesses: inputs inside the exact box, answered wrongly again where the network really runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.errors import NonFiniteError
from phalanx.specs.property import Case, Property
from phalanx.verify.network import Network


@dataclass(frozen=True, eq=False)
class Witness:
    """A counterexample that was replayed.

    Attributes:
        x: the input, ``(n,)`` float64, inside the box as it was given. It becomes what the network
            was run on when it is rounded to the network's type.
        y: what the runtime answered, ``(m,)`` float64.
        case: which case of the property it is.
        runtime: where it was run.
    """

    x: Tensor
    y: Tensor
    case: int
    runtime: str


def admitted(case: Case, points: Tensor, dtype: torch.dtype) -> Tensor:
    """The inputs of the box nearest to points ``(B, n)``, as they are printed: float64.

    A number of ``dtype`` wherever the box holds one. Else (both sides lie between two neighbours)
    the number of the box nearest to the point: rounded to ``dtype``, as every runtime does, it
    leaves the box, and no input of this network could avoid that.

    >>> box = torch.tensor([0.1], dtype=torch.float64)
    >>> row = torch.ones(1, 1, dtype=torch.float64)
    >>> admitted(Case(box, box + 1, row, box), torch.zeros(1, 1), torch.float32).item() >= 0.1
    True
    """
    lower, upper = case.lower, case.upper
    inside = points.double().clamp(lower, upper)
    given = inside.to(dtype)
    above, below = given.double() > upper, given.double() < lower
    down = torch.nextafter(given, torch.full_like(given, -torch.inf))
    up = torch.nextafter(given, torch.full_like(given, torch.inf))
    given = torch.where(above, down, torch.where(below, up, given)).double()
    return torch.where((given >= lower) & (given <= upper), given, inside)


def replayed(network: Network, prop: Property, case: int, points: Tensor) -> Witness | None:
    """The first of some points ``(B, n)`` that is a counterexample when it is run again.

    Raises:
        NonFiniteError: the network answers one of them with NaN or infinity.
    """
    own = prop.cases[case]
    for x in admitted(own, points, network.dtype):
        answers = network.runtime(x)
        for y in answers:
            if not bool(torch.isfinite(y).all()):
                raise NonFiniteError(
                    f"{network.name} answers an input of the box with NaN or infinity",
                    why="such an answer is neither safe nor unsafe",
                )
        if all(own.holds_exactly(x, y) for y in answers):
            return Witness(x, answers[0], case, network.runtime.name)
    return None
