"""`Stack`: cases side by side, so that thousands of them cost few passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.specs.property import Case, Property

MOST = 1 << 20
"""Numbers of boxes of one stack."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Several cases of a property, float64; those with fewer rows repeat their first one.

    Attributes:
        numbers: which cases, ``K`` of them.
        lower, upper: ``(K, n)``.
        outputs: ``(K, J, m)``.
        inputs: ``(K, J, n)``, or None where no case has any.
        offset: ``(K, J)``.
    """

    numbers: tuple[int, ...]
    lower: Tensor
    upper: Tensor
    outputs: Tensor
    inputs: Tensor | None
    offset: Tensor

    def __len__(self) -> int:
        return len(self.numbers)

    def values(self, x: Tensor, y: Tensor) -> Tensor:
        """Rows ``(B, J)`` at inputs ``(B, n)`` with outputs ``(B, m)``, one case an input.

        B is a multiple of K: the cases in order, again and again.
        """
        times = len(x) // len(self)
        found = torch.einsum("rkm,kjm->rkj", y.double().unflatten(0, (times, -1)), self.outputs)
        if self.inputs is not None:
            found = found + torch.einsum(
                "rkn,kjn->rkj", x.double().unflatten(0, (times, -1)), self.inputs
            )
        return (found + self.offset).flatten(0, 1)


def stacks(prop: Property, numbers: Sequence[int]) -> Iterator[Stack]:
    """Cases of a property in stacks of bounded size, in order."""
    size = max(1, MOST // prop.sizes[0])
    for start in range(0, len(numbers), size):
        yield stacked(prop, numbers[start : start + size])


def stacked(prop: Property, numbers: Sequence[int]) -> Stack:
    """Some cases of a property in one stack."""
    cases = [prop.cases[number] for number in numbers]
    rows = max(len(case.offset) for case in cases)
    mixed = any(case.inputs is not None for case in cases)
    return Stack(
        tuple(numbers),
        torch.stack([case.lower for case in cases]),
        torch.stack([case.upper for case in cases]),
        torch.stack([_padded(case.outputs, rows) for case in cases]),
        torch.stack([_padded(_inputs(case), rows) for case in cases]) if mixed else None,
        torch.stack([_padded(case.offset, rows) for case in cases]),
    )


def _inputs(case: Case) -> Tensor:
    if case.inputs is not None:
        return case.inputs
    return case.outputs.new_zeros(len(case.offset), len(case.lower))


def _padded(rows: Tensor, count: int) -> Tensor:
    if not len(rows):  # every input of the box is unsafe: 0 <= 0
        return rows.new_zeros(count, *rows.shape[1:])
    if len(rows) == count:
        return rows
    return torch.cat([rows, rows[:1].expand(count - len(rows), *rows.shape[1:])])
