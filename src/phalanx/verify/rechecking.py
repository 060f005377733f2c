"""Refuted cases, once more in double precision with every rounding counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import torch

from phalanx.bounds.outward.passes import uncovered
from phalanx.bounds.outward.recheck import recheck
from phalanx.bounds.outward.rounding import down, up
from phalanx.bounds.problem import Trace
from phalanx.bounds.region import Region
from phalanx.graph.ir import Graph
from phalanx.specs.property import Case, Property
from phalanx.verify.bounding import Found, full_rows
from phalanx.verify.outcome import Clock

TIMES = 4.0
"""Time must be left for as many times what the slowest recheck took; else none is begun."""


def recheck_cases(
    graph: Graph, prop: Property, refuted: Sequence[tuple[int, Found]], clock: Clock
) -> Iterator[tuple[int, bool]]:
    """Numbers of cases, and whether their refutation stands with all roundings counted.

    Cases that are not reached in time, and networks with operators whose roundings are not
    accounted for, are left out.

    Args:
        graph: prepared, in float64.
        prop: the property.
        refuted: cases, and how they were refuted; those over one box one after the other.
        clock: no recheck is begun that would probably not end in time.
    """
    if uncovered(graph) is not None:
        return
    slowest = 0.0
    keyed = groupby(refuted, lambda pair: (id(pair[1].trace), pair[1].place[1]))
    groups = [list(group) for _, group in keyed]
    for done, group in enumerate(groups):
        # A property whose cases are not all rechecked gains nothing: begin only what will end.
        if clock.left() < max(TIMES, len(groups) - done) * slowest:
            return
        begun = clock.spent()
        yield from _rechecked(graph, prop, group)
        slowest = max(slowest, clock.spent() - begun)


def _rechecked(
    graph: Graph, prop: Property, group: list[tuple[int, Found]]
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
    lowest = recheck(graph, widened(graph, first), rows, trace, element)
    offsets = torch.stack([prop.cases[n].offset[found.row] for n, found in group])
    stands = (lowest > -offsets).tolist()  # of NaN nothing is true
    return [(number, ok) for (number, _), ok in zip(group, stands, strict=True)]


def _row(graph: Graph, case: Case, row: int) -> torch.Tensor:
    shape = graph[graph.output].shape
    mixed = case.outputs.shape[-1] != torch.Size(shape).numel()
    rows = full_rows(case) if mixed else case.outputs
    return rows[row].reshape(shape)


def widened(graph: Graph, case: Case) -> Region:
    """The box, one unit in the last place larger: sides may be decimals that were rounded."""
    shape = (1, *graph.input.shape)
    lower, upper = down(case.lower).reshape(shape), up(case.upper).reshape(shape)
    return Region(lower, upper, (lower + upper) / 2)
