"""Cases side by side, as tensors that a batch of boxes can pick its own from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.bounds.outward.rounding import down, up
from phalanx.errors import DataError
from phalanx.specs.property import Case

NEVER = -1.0
"""The value of a row that only fills up: it says nothing, as an unsafe point has rows <= 0."""


@dataclass(frozen=True, eq=False)
class Cases:
    """Cases of G different boxes, at most K a box and J rows a case.

    Attributes:
        lower, upper: the boxes, ``(G, n)``.
        outputs: ``(G, K, J, m)``; rows that fill up are zero.
        inputs: ``(G, K, J, n)``, or None where no row reads inputs.
        offset: ``(G, K, J)``; `NEVER` where a row fills up.
        strict: ``(G, K, J)``: rows that must be below zero in a counterexample, not at it.
        real: ``(G, K)``: False where a case fills up.
    """

    lower: Tensor
    upper: Tensor
    outputs: Tensor
    inputs: Tensor | None
    offset: Tensor
    strict: Tensor
    real: Tensor

    @property
    def hull(self) -> tuple[Tensor, Tensor]:
        """The smallest box that holds all boxes."""
        return self.lower.amin(0), self.upper.amax(0)

    def values(self, group: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Rows ``(B, K, J)`` at inputs ``(B, n)`` with outputs ``(B, m)``, float64."""
        found = torch.einsum("bkjm,bm->bkj", self.outputs[group], y.double()) + self.offset[group]
        if self.inputs is None:
            return found
        return found + torch.einsum("bkjn,bn->bkj", self.inputs[group], x.double())

    def unsafe(self, group: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Whether inputs of their box are counterexamples of one of its cases: ``(B,)``."""
        at = x.double()
        inside = ((at >= self.lower[group]) & (at <= self.upper[group])).all(1)
        values = self.values(group, x, y)
        held = torch.where(self.strict[group], values < 0, values <= 0)
        holds = held.all(2) & self.real[group]
        return inside & holds.any(1) & torch.isfinite(y).all(1)

    def nearest(self, group: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The largest row of the case that is nearest to a counterexample, ``(B,)``."""
        worst = self.values(group, x, y).amax(2)
        return torch.where(self.real[group], worst, torch.inf).amin(1).nan_to_num(torch.inf)


def side_by_side(cases: Sequence[Case]) -> Cases:
    """Cases of equal boxes share a group, in the order in which their boxes come first.

    Raises:
        DataError: none, or of different sizes.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> found = side_by_side([Case(-one, one, one[None], one), Case(-one, one, -one[None], one)])
    >>> tuple(found.offset.shape)
    (1, 2, 1)
    """
    if not cases:
        raise DataError("nothing to search for", why="there is no case")
    n, m = cases[0].lower.numel(), cases[0].outputs.shape[-1]
    groups: dict[bytes, list[Case]] = {}
    for case in cases:
        if (case.lower.numel(), case.outputs.shape[-1]) != (n, m):
            raise DataError("cases of different numbers of inputs or outputs")
        key = torch.cat([case.lower, case.upper]).numpy().tobytes()
        groups.setdefault(key, []).append(case)
    most = max(len(group) for group in groups.values())
    rows = max(1, *(len(case.offset) for case in cases))
    size = (len(groups), most, rows)
    outputs = torch.zeros(*size, m, dtype=torch.float64)
    offset = torch.full(size, NEVER, dtype=torch.float64)
    strict, real = (torch.zeros(shape, dtype=torch.bool) for shape in (size, size[:2]))
    reads = any(case.inputs is not None for case in cases)
    inputs = torch.zeros(*size, n, dtype=torch.float64) if reads else None
    for g, group in enumerate(groups.values()):
        for k, case in enumerate(group):
            count = len(case.offset)
            real[g, k] = True
            outputs[g, k, :count], offset[g, k, :count] = case.outputs, case.offset
            if case.strict is not None:
                strict[g, k, :count] = case.strict
            if inputs is not None and case.inputs is not None:
                inputs[g, k, :count] = case.inputs
    lower, upper = (
        torch.stack([getattr(group[0], side) for group in groups.values()])
        for side in ("lower", "upper")
    )
    return Cases(*_around(lower, upper), outputs, inputs, offset, strict, real)


def _around(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes one unit in the last place wider, where sides may be decimals that were rounded.

    Not where an input is fixed, nor where float64 has the decimal: few digits in both bases.
    """
    fixed = lower == upper
    keep = [fixed | ((side.abs() < 1e6) & (side * 1024 % 1 == 0)) for side in (lower, upper)]
    return torch.where(keep[0], lower, down(lower)), torch.where(keep[1], upper, up(upper))
