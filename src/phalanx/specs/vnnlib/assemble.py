"""Conjunctions as the cases of a property, checked for what a file must say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate
from math import isfinite
from operator import gt
from typing import NamedTuple

import torch
from torch import Tensor

from phalanx.errors import QueryError
from phalanx.specs.property import Case, Exact, Property
from phalanx.specs.vnnlib.formula import Conjunction, Row, Side

Namer = Callable[[int], str]
"""The name of an input, by its number."""

MOST_NUMBERS = 1 << 28
"""Sides of boxes and coefficients of one property."""


class _Box(NamedTuple):
    """Sides, and those of them that are other numbers than they look."""

    lower: list[float]
    upper: list[float]
    low: dict[int, Fraction]
    high: dict[int, Fraction]

    def cut(self, conjunction: Conjunction) -> _Box:
        """With the sides of a conjunction too."""
        box = _Box([*self.lower], [*self.upper], {**self.low}, {**self.high})
        for at, above, value, exact in (a for a in conjunction if isinstance(a, Side)):
            sides, places = (box.upper, box.high) if above else (box.lower, box.low)
            nearer = min if above else max
            if exact is None and at not in places:
                sides[at] = nearer(sides[at], value)
                continue
            here = Fraction(repr(value)) if exact is None else exact
            if isfinite(sides[at]):
                known = places.get(at, Fraction(repr(sides[at])))
                if nearer(here, known) == known:
                    continue
            sides[at] = value
            places.pop(at, None)
            if exact is not None:
                places[at] = exact
        return box

    def empty_at(self) -> int | None:
        """An input that no number is allowed for."""
        near = (i for i, low in enumerate(self.lower) if low >= self.upper[i])
        return next((i for i in near if gt(*self.exactly(i))), None)

    def exactly(self, at: int) -> tuple[float | Fraction, float | Fraction]:
        """The sides of an input."""
        if at not in self.low and at not in self.high:
            return self.lower[at], self.upper[at]
        sides = (self.low, self.lower), (self.high, self.upper)
        low, high = (exact.get(at, Fraction(repr(near[at]))) for exact, near in sides)
        return low, high


@dataclass
class _Draft:
    """Cases as lists, of which tensors are made all at once.

    Attributes:
        boxes: of the inputs.
        cases: number of the box, and rows.
    """

    boxes: list[_Box] = field(default_factory=list)
    cases: list[tuple[int, list[Row]]] = field(default_factory=list)


def assemble(
    common: Conjunction,
    extras: Iterable[Conjunction],
    sizes: tuple[int, int],
    *,
    name: str,
    source: str,
    namer: Namer,
) -> Property:
    """The property whose cases are ``common`` with one of ``extras`` each.

    Where several disjunctions are combined, combinations of boxes that do not meet vanish.

    Raises:
        QueryError: an input that is not bounded, a box that is empty in every combination, outputs
            that are not constrained, or too many numbers.
    """
    draft, empty, numbers = _Draft(), "", 0
    sides = _Box([-math.inf] * sizes[0], [math.inf] * sizes[0], {}, {}).cut(common)
    always = _rows(common)
    shared: int | None = None
    for number, extra in enumerate(extras):
        own = any(isinstance(atom, Side) for atom in extra)
        box = sides.cut(extra) if own else sides
        if own or shared is None:
            where = f" in case {number}" if number else ""
            _check_bounded(box.lower, box.upper, source, where, namer)
            wrong = box.empty_at()
            if wrong is not None:
                low, high = (str(side) for side in box.exactly(wrong))
                empty = f"{source}: {namer(wrong)} must lie between {low} and {high}"
                continue
            draft.boxes.append(box)
            numbers += 2 * sizes[0]
        at = len(draft.boxes) - 1
        if not own:
            shared = at = at if shared is None else shared
        rows = always + _rows(extra)
        if not any(row.outputs for row in rows):
            raise QueryError(
                f"{source}: case {number} asks nothing of the outputs",
                why="every input of its box would be a counterexample",
            )
        numbers += len(rows) * sum(sizes)
        if numbers > MOST_NUMBERS:
            raise QueryError(f"{source} has more than {MOST_NUMBERS} numbers")
        draft.cases.append((at, rows))
    if not draft.cases:
        raise QueryError(empty, why="of an empty set of inputs everything is true")
    return Property(tuple(_built(draft, sizes)), name)


def _check_bounded(
    lower: list[float], upper: list[float], source: str, where: str, namer: Namer
) -> None:
    for side, values in (("below", lower), ("above", upper)):
        for index, value in enumerate(values):
            if math.isinf(value):
                raise QueryError(
                    f"{source}: {namer(index)} is not bounded {side}{where}",
                    why="only a bounded set of inputs can be searched",
                )


def _rows(conjunction: Conjunction) -> list[Row]:
    return [atom for atom in conjunction if isinstance(atom, Row)]


def _built(draft: _Draft, sizes: tuple[int, int]) -> Iterator[Case]:
    sides = [(box.lower, box.upper) for box in draft.boxes]
    boxes = torch.tensor(sides, dtype=torch.float64).unbind()
    rows = [row for _, own in draft.cases for row in own]
    outputs, inputs = _dense([r.outputs for r in rows], sizes[1]), None
    if any(row.inputs for row in rows):
        inputs = _dense([row.inputs for row in rows], sizes[0])
    offset = torch.tensor([row.offset for row in rows], dtype=torch.float64)
    counts = [len(own) for _, own in draft.cases]
    starts = accumulate(counts, initial=0)
    for start, count, (box, own) in zip(starts, counts, draft.cases, strict=False):
        at = slice(start, start + count)
        mixed = inputs is not None and any(row.inputs for row in own)
        strict = torch.tensor([row.strict for row in own]) if any(r.strict for r in own) else None
        lower, upper = boxes[box].unbind()
        own_inputs = inputs[at] if inputs is not None and mixed else None
        exact = _exact(draft.boxes[box], own)
        yield Case(lower, upper, outputs[at], offset[at], own_inputs, strict, exact)


def _exact(box: _Box, rows: Sequence[Row]) -> Exact:
    offsets = {i: row.exact for i, row in enumerate(rows) if row.exact is not None}
    outputs, inputs = (
        {
            (i, at): factor
            for i, row in enumerate(rows)
            if row.factors is not None
            for at, factor in row.factors[part].items()
        }
        for part in (0, 1)
    )
    return Exact(box.low, box.high, offsets, outputs, inputs)


def _dense(rows: Sequence[tuple[tuple[int, float], ...]], width: int) -> Tensor:
    found = torch.zeros(len(rows), width, dtype=torch.float64)
    entries = [(index, column, v) for index, row in enumerate(rows) for column, v in row]
    if entries:
        at, column, value = zip(*entries, strict=True)
        found[list(at), list(column)] = torch.tensor(value, dtype=torch.float64)
    return found
