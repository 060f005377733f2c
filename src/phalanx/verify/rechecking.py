"""Refuted cases, once more in double precision with every rounding counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from math import prod
from typing import Any

import torch
from torch import Tensor

from phalanx.bounds.outward.passes import NOTHING, Known, Passes, uncovered
from phalanx.bounds.outward.recheck import recheck, recheck_side_by_side
from phalanx.bounds.outward.rounding import down, up
from phalanx.bounds.problem import Trace
from phalanx.bounds.region import Region
from phalanx.graph.ir import Graph
from phalanx.specs.property import Case, Property
from phalanx.verify.bounding import MOST_BOXES, Found, full_rows, key_of
from phalanx.verify.outcome import Clock, OutOfTime

NUMBERS_AT_ONCE = 1 << 20
"""Of one value of the network, over the boxes of a pass."""

Refuted = tuple[int, Found]
"""The number of a case, and the bound that refutes it."""


class ClockedPasses(Passes):
    """Passes each of which looks at a clock first.

    Raises:
        OutOfTime: here or in a pass, when it has run out.
    """

    def __init__(self, clock: Clock, *args: Any, **kwargs: Any) -> None:
        self.clock = clock
        super().__init__(*args, **kwargs)

    def least_of(self, *args: Any, **kwargs: Any) -> Tensor:
        """See `Passes.least_of`."""
        if self.clock.expired():
            raise OutOfTime
        return super().least_of(*args, **kwargs)


def rechecks(graph: Graph) -> bool:
    """Whether the roundings of all operators of a prepared graph are accounted for."""
    return uncovered(graph) is None


def recheck_cases(
    graph: Graph,
    prop: Property,
    refuted: Sequence[Refuted],
    clock: Clock,
    sound: dict[bytes, Known] | None = None,
) -> Iterator[tuple[int, bool]]:
    """Numbers of cases, and whether their refutation stands with all roundings counted.

    Many boxes are first gone through side by side, by intervals; what these do not bear out is
    rechecked box by box, as it was found.

    Args:
        graph: prepared, in float64, one that `rechecks`.
        prop: the property.
        refuted: cases, and how they were refuted; those over one box one after the other.
        clock: when to stop.
        sound: values in between by boxes (`key_of`), whatever is asked of the output: what earlier
            rechecks found, to which these add.

    Raises:
        OutOfTime: it ran out; what was yielded before stands, of the others nothing is known.
    """
    groups, known = _by_box(refuted), set()
    if len(groups) > 1:
        for found, stands in _side_by_side(graph, prop, refuted, clock):
            if stands or _by_intervals(found[1].trace):  # else a closer look may bear it out
                known.add(found[0])
                yield found[0], stands
        groups = _by_box([pair for pair in refuted if pair[0] not in known])
    for group in groups:
        if clock.expired():
            raise OutOfTime
        yield from _rechecked(graph, prop, group, clock, {} if sound is None else sound)


def _by_box(refuted: Sequence[Refuted]) -> list[list[Refuted]]:
    keyed = groupby(refuted, lambda pair: (id(pair[1].trace), pair[1].place[1]))
    return [list(group) for _, group in keyed]


def _side_by_side(
    graph: Graph, prop: Property, refuted: Sequence[Refuted], clock: Clock
) -> Iterator[tuple[Refuted, bool]]:
    """Which cases intervals refute; of none where they cannot be asked."""
    size = max(1, NUMBERS_AT_ONCE // max(prod(node.shape) for node in graph))
    for start in range(0, len(refuted), size):
        if clock.expired():
            raise OutOfTime
        part = refuted[start : start + size]
        region = widened(graph, *(prop.cases[number] for number, _ in part))
        rows = torch.stack([_row(graph, prop.cases[n], found.row) for n, found in part])
        lowest = recheck_side_by_side(graph, region, rows)
        if lowest is None:
            return
        yield from zip(part, _stands(prop, part, lowest), strict=True)


def _by_intervals(trace: Trace | None) -> bool:
    """Whether a method had nothing but intervals and usual lines, as they have side by side."""
    if trace is None or trace.backward or trace.parallel:
        return False
    return not (trace.places or trace.planes or trace.between)


def _rechecked(
    graph: Graph,
    prop: Property,
    group: list[Refuted],
    clock: Clock,
    sound: dict[bytes, Known],
) -> list[tuple[int, bool]]:
    """The cases of one box."""
    first = prop.cases[group[0][0]]
    rows = torch.stack([_row(graph, prop.cases[n], found.row) for n, found in group])
    trace, element = group[0][1].trace, group[0][1].place[1]
    if trace is not None and trace.places:
        at = [found.place[0] for _, found in group]
        places = {name: place[:, at] for name, place in trace.places.items()}
        trace = Trace(trace.backward, trace.parallel, places)
    elif trace is not None and graph.output in trace.between.get(element, {}):
        at = [found.place[0] for _, found in group]
        between = dict(trace.between[element])
        output = between[graph.output]
        own = {name: place[:, at] for name, place in output.places.items()}
        between[graph.output] = replace(output, places=own)
        trace = Trace(trace.backward, trace.parallel, between={element: between})
    key = key_of(first.lower, first.upper)

    def passes_of(*given: Any, backward: bool, **more: Any) -> Passes:
        passes = ClockedPasses(
            clock, *given, backward=backward, known=sound.get(key, NOTHING), **more
        )
        if backward and (key in sound or len(sound) < MOST_BOXES):
            sound[key] = passes.left
        return passes

    lowest = recheck(graph, widened(graph, first), rows, trace, element, passes_of)
    stands = _stands(prop, group, lowest)
    return [(number, ok) for (number, _), ok in zip(group, stands, strict=True)]


def _stands(prop: Property, refuted: Sequence[Refuted], lowest: Tensor) -> list[bool]:
    """Whether rows are above zero with their offsets; of NaN nothing is true, nor of infinity."""
    offsets = torch.stack([prop.cases[n].offset[found.row] for n, found in refuted])
    return ((lowest > -offsets) & torch.isfinite(lowest)).tolist()


def _row(graph: Graph, case: Case, row: int) -> torch.Tensor:
    shape = graph[graph.output].shape
    mixed = case.outputs.shape[-1] != torch.Size(shape).numel()
    rows = full_rows(case) if mixed else case.outputs
    return rows[row].reshape(shape)


def widened(graph: Graph, *cases: Case) -> Region:
    """Their boxes, one unit in the last place larger: sides may be decimals that were rounded."""
    shape = (len(cases), *graph.input.shape)
    lower = down(torch.stack([case.lower for case in cases])).reshape(shape)
    upper = up(torch.stack([case.upper for case in cases])).reshape(shape)
    return Region(lower, upper, (lower + upper) / 2)
