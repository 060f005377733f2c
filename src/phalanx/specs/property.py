"""`Property`: what must hold, told by what must never happen: a disjunction of unsafe cases."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

from phalanx.errors import DataError


@dataclass(frozen=True)
class Exact:
    """Numbers of a case that float64 cannot hold, by their place.

    Attributes:
        lower, upper: sides whose shortest decimal form is another number.
        offset: of rows; in the case they are rounded down, which makes more of the rows unsafe.
    """

    lower: Mapping[int, Fraction] = field(default_factory=dict)
    upper: Mapping[int, Fraction] = field(default_factory=dict)
    offset: Mapping[int, Fraction] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Case:
    """One way to be unsafe: an input in the box with ``outputs y + inputs x + offset <= 0``.

    All in float64 and flat (row-major), whatever the network computes in.

    Attributes:
        lower, upper: the box of inputs, ``(n,)``.
        outputs: coefficients of the network's outputs, ``(J, m)``; J may be 0, then every input of
            the box is unsafe.
        inputs: coefficients of its inputs, ``(J, n)``, or None where no row reads them.
        offset: ``(J,)``.
        strict: rows that must be below zero, not at it: bool ``(J,)``, or None where none must.
        exact: what these numbers were before they were rounded.

    Raises:
        DataError: NaN, an infinite side of the box, an empty box, or shapes that do not fit.
    """

    lower: Tensor
    upper: Tensor
    outputs: Tensor
    offset: Tensor
    inputs: Tensor | None = None
    strict: Tensor | None = None
    exact: Exact = Exact()

    def __post_init__(self) -> None:
        rows, n = len(self.offset), self.lower.numel()
        shapes = [
            (self.lower, (n,)),
            (self.upper, (n,)),
            (self.offset, (rows,)),
            (self.outputs, (rows, self.outputs.shape[-1])),
        ]
        if self.inputs is not None:
            shapes.append((self.inputs, (rows, n)))
        for tensor, shape in shapes:
            if tuple(tensor.shape) != shape:
                raise DataError(
                    f"a property with a part of shape {tuple(tensor.shape)}, expected {shape}"
                )
            if tensor.dtype != torch.float64:
                raise DataError(f"a property in {tensor.dtype}", why="properties are float64")
            if not _finite(tensor):
                raise DataError("a property with a number that is NaN or infinite")
        if self.strict is not None and self.strict.shape != self.offset.shape:
            raise DataError(f"{rows} rows of which {tuple(self.strict.shape)} are strict")
        if not bool((self.lower <= self.upper).all()):
            at = int((self.lower > self.upper).nonzero()[0])
            raise DataError(
                f"input {at} must lie between {self.lower[at]:g} and {self.upper[at]:g}",
                why="of an empty set of inputs everything is true",
            )

    def values(self, x: Tensor, y: Tensor) -> Tensor:
        """The rows at inputs ``(B, n)`` with outputs ``(B, m)``: float64 ``(B, J)``; unsafe <= 0.

        >>> one = torch.ones(1, dtype=torch.float64)
        >>> case = Case(-one, one, one[None], -2 * one)
        >>> case.values(torch.zeros(1, 1), torch.tensor([[1.5]])).item()
        -0.5
        """
        found = y.flatten(1).double() @ self.outputs.T + self.offset
        return found if self.inputs is None else found + x.flatten(1).double() @ self.inputs.T

    def holds(self, x: Tensor, y: Tensor) -> Tensor:
        """Whether inputs ``(B, n)`` with outputs ``(B, m)`` are unsafe in this way: bool ``(B,)``.

        No tolerance, but rows are added up in float64: see `holds_exactly`. NaN is never unsafe
        here; whoever runs the network reports it as an error.
        """
        flat = x.flatten(1).double()
        inside = ((flat >= self.lower) & (flat <= self.upper)).all(1)
        values = self.values(x, y)
        held = (
            values <= 0
            if self.strict is None
            else torch.where(self.strict, values < 0, values <= 0)
        )
        return inside & held.all(1)

    def holds_exactly(self, x: Tensor, y: Tensor) -> bool:
        """Whether one input ``(n,)``, as it is printed, is unsafe with outputs ``(m,)``.

        Nothing is rounded: the numbers are those of the file, the outputs are what they are, and
        the input is the shortest decimal number that is read as it.

        >>> row = torch.tensor([[1.0, 1e16, -1e16]], dtype=torch.float64)
        >>> zero = torch.zeros(1, dtype=torch.float64)
        >>> case, y = Case(zero, zero, row, zero), torch.tensor([0.5, 1.0, 1.0]).double()
        >>> bool(case.holds(zero[None], y[None])), case.holds_exactly(zero, y)
        (True, False)
        """
        x = x.double()
        inside = bool(((x >= self.lower) & (x <= self.upper)).all())
        inside = inside and all(_printed(x[i]) >= side for i, side in self.exact.lower.items())
        inside = inside and all(_printed(x[i]) <= side for i, side in self.exact.upper.items())
        if not inside or not bool(torch.isfinite(y).all()):
            return False
        strict = [False] * len(self.offset) if self.strict is None else self.strict.tolist()
        rows = zip(self._rows_exactly(x, y.double()), strict, strict=True)
        return all(value < 0 or (value == 0 and not above) for value, above in rows)

    def _rows_exactly(self, x: Tensor, y: Tensor) -> Iterator[Fraction]:
        """The rows at one input and its outputs."""
        for row, offset in enumerate(self.offset.tolist()):
            total = self.exact.offset.get(row, Fraction(offset))
            for at in self.outputs[row].nonzero().flatten().tolist():
                total += Fraction(self.outputs[row, at].item()) * Fraction(y[at].item())
            if self.inputs is not None:
                for at in self.inputs[row].nonzero().flatten().tolist():
                    total += Fraction(self.inputs[row, at].item()) * _printed(x[at])
            yield total


def _printed(number: Tensor) -> Fraction:
    """The shortest decimal number that is read as this one."""
    return Fraction(repr(number.item()))


def _finite(tensor: Tensor) -> bool:
    """Whether all numbers are; a finite sum says so, and is found quickly."""
    return math.isfinite(tensor.sum().item()) or bool(torch.isfinite(tensor).all())


@dataclass(frozen=True)
class Property:
    """What must never happen: the network is safe where no case has a counterexample.

    Attributes:
        cases: at least one.
        name: for messages and tables.

    Raises:
        DataError: no case, or cases of different sizes.
    """

    cases: tuple[Case, ...]
    name: str = "property"

    def __post_init__(self) -> None:
        if not self.cases:
            raise DataError("a property without a case", why="it would hold of everything")
        sizes = {(case.lower.numel(), case.outputs.shape[-1]) for case in self.cases}
        if len(sizes) > 1:
            raise DataError(f"cases of different numbers of inputs and outputs: {sorted(sizes)}")

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of inputs and outputs."""
        return self.cases[0].lower.numel(), self.cases[0].outputs.shape[-1]
