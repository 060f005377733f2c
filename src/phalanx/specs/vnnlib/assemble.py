"""Conjunctions as the cases of a property, checked for what a file must say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from phalanx.errors import QueryError
from phalanx.specs.property import Case, Property
from phalanx.specs.vnnlib.formula import Conjunction, Row, Side

Namer = Callable[[int], str]
"""The name of an input, by its number."""

MOST_NUMBERS = 1 << 28
"""Sides of boxes and coefficients of one property."""


@dataclass
class _Draft:
    """Cases as lists, of which tensors are made all at once.

    Attributes:
        boxes: lower and upper sides.
        cases: number of the box, and rows.
    """

    boxes: list[tuple[list[float], list[float]]] = field(default_factory=list)
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
    sides = _box(common, ([-math.inf] * sizes[0], [math.inf] * sizes[0]))
    always = _rows(common)
    shared: int | None = None
    for number, extra in enumerate(extras):
        own = any(isinstance(atom, Side) for atom in extra)
        lower, upper = _box(extra, sides) if own else sides
        if own or shared is None:
            where = f" in case {number}" if number else ""
            _check_bounded(lower, upper, source, where, namer)
            wrong = next((i for i in range(sizes[0]) if lower[i] > upper[i]), None)
            if wrong is not None:
                between = f"between {lower[wrong]!r} and {upper[wrong]!r}"
                empty = f"{source}: {namer(wrong)} must lie {between}"
                continue
            draft.boxes.append((lower, upper))
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


def _box(
    conjunction: Conjunction, sides: tuple[list[float], list[float]]
) -> tuple[list[float], list[float]]:
    """The sides, cut with those of a conjunction."""
    lower, upper = list(sides[0]), list(sides[1])
    for atom in conjunction:
        if isinstance(atom, Side):
            if atom.above:
                upper[atom.at] = min(upper[atom.at], atom.value)
            else:
                lower[atom.at] = max(lower[atom.at], atom.value)
    return lower, upper


def _built(draft: _Draft, sizes: tuple[int, int]) -> Iterator[Case]:
    boxes = torch.tensor(draft.boxes, dtype=torch.float64).unbind()
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
        yield Case(lower, upper, outputs[at], offset[at], own_inputs, strict)


def _dense(rows: Sequence[tuple[tuple[int, float], ...]], width: int) -> Tensor:
    found = torch.zeros(len(rows), width, dtype=torch.float64)
    entries = [(index, column, v) for index, row in enumerate(rows) for column, v in row]
    if entries:
        at, column, value = zip(*entries, strict=True)
        found[list(at), list(column)] = torch.tensor(value, dtype=torch.float64)
    return found
