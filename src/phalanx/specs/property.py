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
        outputs, inputs: coefficients, by row and column; in the case the nearest float64 stands in
            for each, so that what is proven with it holds up to that rounding.
    """

    lower: Mapping[int, Fraction] = field(default_factory=dict)
    upper: Mapping[int, Fraction] = field(default_factory=dict)
    offset: Mapping[int, Fraction] = field(default_factory=dict)
    outputs: Mapping[tuple[int, int], Fraction] = field(default_factory=dict)
    inputs: Mapping[tuple[int, int], Fraction] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether the case's coefficients are those of the file."""
        return not self.outputs and not self.inputs


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
        if not bool(((x >= self.lower) & (x <= self.upper)).all()):
            return False
        printed = self.printed(x)
        if printed is None or not bool(torch.isfinite(y).all()):
            return False
        strict = [False] * len(self.offset) if self.strict is None else self.strict.tolist()
        rows = zip(self._rows_exactly(printed, y.double()), strict, strict=True)
        return all(value < 0 or (value == 0 and not above) for value, above in rows)

    def printed(self, x: Tensor) -> list[Fraction] | None:
        """An input of the float64 box in decimal numbers of the exact one; None: it has none.

        A number that is a side's nearest float64 stands for the side itself, where its own shortest
        form is another number: an input may be fixed at one that no float64 is read as.
        """
        found = [Fraction(repr(number)) for number in x.tolist()]
        for at in self.exact.lower.keys() | self.exact.upper.keys():
            low, high = self.exactly(at)
            if x[at] == self.lower[at] and found[at] < low:
                found[at] = low
            elif x[at] == self.upper[at] and found[at] > high:
                found[at] = high
            if not low <= found[at] <= high:
                return None
        return found

    def exactly(self, at: int) -> tuple[Fraction, Fraction]:
        """The sides of an input, as the file has them or as they are printed."""
        sides = (self.exact.lower, self.lower), (self.exact.upper, self.upper)
        low, high = (
            exact[at] if at in exact else Fraction(repr(near[at].item())) for exact, near in sides
        )
        return low, high

    def row_exactly(self, row: int) -> tuple[dict[int, Fraction], dict[int, Fraction], Fraction]:
        """A row's coefficients of outputs and of inputs, and its offset."""
        offset = self.exact.offset.get(row, Fraction(self.offset[row].item()))
        outputs = _factors(self.outputs[row], row, self.exact.outputs)
        if self.inputs is None:
            return outputs, {}, offset
        return outputs, _factors(self.inputs[row], row, self.exact.inputs), offset

    def _rows_exactly(self, x: list[Fraction], y: Tensor) -> Iterator[Fraction]:
        """The rows at one input and its outputs."""
        for row in range(len(self.offset)):
            outputs, inputs, total = self.row_exactly(row)
            total += sum(factor * Fraction(y[at].item()) for at, factor in outputs.items())
            yield total + sum(factor * x[at] for at, factor in inputs.items())


def _factors(
    near: Tensor, row: int, exact: Mapping[tuple[int, int], Fraction]
) -> dict[int, Fraction]:
    columns = near.nonzero().flatten().tolist()
    return {at: exact.get((row, at), Fraction(near[at].item())) for at in columns}


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
