"""Cases refuted by bounds: a row that is above zero in the whole box leaves nothing unsafe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Which
from phalanx.bounds.options import Options
from phalanx.bounds.outward.passes import NOTHING, Known
from phalanx.bounds.prepare import prepare
from phalanx.bounds.problem import Between, Problem, Trace, methods
from phalanx.bounds.region import Region
from phalanx.graph.ir import Graph
from phalanx.specs.property import Case, Property
from phalanx.verify.network import speaking_of_inputs
from phalanx.verify.outcome import Clock, OutOfTime

MOST_BOXES = 16
"""Of so many boxes of inputs at most, what is known of the values in between is kept."""
AT_ONCE = 1 << 21
"""Numbers of one value of the network, over the boxes and rows of a pass."""


@dataclass(frozen=True, eq=False)
class Timed(Region):
    """A region whose every backward pass looks at a clock first.

    Raises:
        OutOfTime: in `least`, when it has run out.
    """

    clock: Clock | None = None

    def least(self, rows: Tensor, at: Which = None) -> Tensor:
        """See `Region.least`."""
        if self.clock is not None and self.clock.expired():
            raise OutOfTime
        return super().least(rows, at)


@dataclass(frozen=True, eq=False)
class Field:
    """The rows of several cases over one box.

    Attributes:
        lower, upper: the box, ``(n,)``.
        rows: ``(S, m)``, or ``(S, m + n)`` where the graph speaks of its inputs.
        offset: ``(S,)``.
        cases: numbers of the cases, and which of the rows are theirs.
        boxes: of all nodes on the box, where they are known; empty: not.
    """

    lower: Tensor
    upper: Tensor
    rows: Tensor
    offset: Tensor
    cases: tuple[tuple[int, slice], ...]
    boxes: Mapping[str, Box] = field(default_factory=dict)

    @property
    def key(self) -> bytes:
        """The same for cases of the same box."""
        return key_of(self.lower, self.upper)


@dataclass(frozen=True, eq=False)
class Inside:
    """The values in between on one box of inputs, whatever is asked of the output.

    Attributes:
        boxes: of all nodes of a prepared graph, ``(1, *shape)``.
        between: how those were found that CROWN did not find, for whoever checks them again.
        sound: the same with every rounding counted, as far as it is known.
        kept: what an engine keeps for the next case of the box.
    """

    boxes: Mapping[str, Box]
    between: Mapping[str, Between] = field(default_factory=dict)
    sound: Known = NOTHING
    kept: dict[str, Any] = field(default_factory=dict)


def inside_of(trace: Trace, element: int = 0) -> Inside | None:
    """What a method's trace says of one element; None: nothing."""
    if not trace.boxes:
        return None
    boxes = {
        name: Box(*(side[element : element + 1] for side in box))
        for name, box in trace.boxes.items()
    }
    return Inside(boxes, trace.between.get(element, {}))


def key_of(lower: Tensor, upper: Tensor) -> bytes:
    """What tells a box from others."""
    return lower.numpy().tobytes() + upper.numpy().tobytes()


@dataclass(frozen=True, eq=False)
class Found:
    """What bounds say of a case.

    Attributes:
        lower: of its best row.
        row: which of its rows.
        trace: how, of its batch; None of none.
        place: row and element in that batch.
    """

    lower: float
    row: int
    trace: Trace | None = None
    place: tuple[int, int] = (0, 0)


def prepared(graph: Graph, *, mixed: bool) -> Graph:
    """A network's graph in float64, ready for bounds; with ``mixed`` its outputs, then its inputs.

    Raises:
        GraphError: an operator that is not bounded.
    """
    graph = graph.to(torch.float64)
    if mixed:
        graph = speaking_of_inputs(graph)
    return prepare(graph, exact=True).to(torch.float64)


def is_mixed(prop: Property) -> bool:
    """Whether a row reads inputs."""
    return any(case.inputs is not None for case in prop.cases)


def fields(prop: Property, numbers: Sequence[int]) -> list[Field]:
    """Cases by their boxes, in order of their first one."""
    together: dict[bytes, list[int]] = {}
    for number in numbers:
        case = prop.cases[number]
        together.setdefault(key_of(case.lower, case.upper), []).append(number)
    mixed = is_mixed(prop)
    return [_field(prop, group, mixed=mixed) for group in together.values()]


def _field(prop: Property, numbers: list[int], *, mixed: bool) -> Field:
    rows, offsets, places, at = [], [], [], 0
    for number in numbers:
        case = prop.cases[number]
        rows.append(full_rows(case) if mixed else case.outputs)
        offsets.append(case.offset)
        places.append((number, slice(at, at + len(case.offset))))
        at += len(case.offset)
    first = prop.cases[numbers[0]]
    return Field(first.lower, first.upper, torch.cat(rows), torch.cat(offsets), tuple(places))


def full_rows(case: Case) -> Tensor:
    """Coefficients of outputs and inputs, ``(J, m + n)``."""
    inputs = case.inputs
    if inputs is None:
        inputs = case.outputs.new_zeros(len(case.offset), len(case.lower))
    return torch.cat([case.outputs, inputs], 1)


def bounded(
    graph: Graph,
    parts: Sequence[Field],
    method: str,
    clock: Clock,
    *,
    options: Options | None = None,
    end: Clock | None = None,
) -> Iterator[tuple[int, Found]]:
    """Numbers of cases and what a bounding method says of them, batch by batch.

    Args:
        graph: from `prepared`.
        parts: what is asked.
        method: a registered one.
        clock: looked at before every backward pass.
        options: of the method.
        end: asked in place of `Problem.go_on`; None: nothing is.

    Raises:
        OutOfTime: the clock ran out; what was yielded before stands.
    """
    parts = [part for part in parts if len(part.offset)]
    for batch in _batches(graph, parts):
        yield from _of_batch(graph, batch, method, clock, options=options or Options(), end=end)


def _batches(graph: Graph, parts: Sequence[Field]) -> Iterator[list[Field]]:
    widest = max(prod(node.shape) for node in graph)
    batch: list[Field] = []
    rows = 0
    for part in parts:
        rows = max(rows, len(part.offset))
        if batch and (len(batch) + 1) * max(rows, widest) * widest > AT_ONCE:
            yield batch
            batch, rows = [], len(part.offset)
        batch.append(part)
    if batch:
        yield batch


def _of_batch(
    graph: Graph,
    batch: list[Field],
    method: str,
    clock: Clock,
    *,
    options: Options,
    end: Clock | None,
) -> Iterator[tuple[int, Found]]:
    shape, most = graph.input.shape, max(len(part.offset) for part in batch)
    lower = torch.stack([part.lower for part in batch]).reshape(-1, *shape)
    upper = torch.stack([part.upper for part in batch]).reshape(-1, *shape)
    region = Timed(lower, upper, (lower + upper) / 2, clock=clock)
    rows = torch.stack([_padded(part.rows, most) for part in batch], 1)
    rows = rows.reshape(most, len(batch), *graph[graph.output].shape)
    enough = torch.stack([_padded(-part.offset[:, None], most)[:, 0] for part in batch], 1)
    go_on = None if end is None else lambda: not end.expired()
    problem = Problem(graph, region, rows, options, boxes=_boxes(batch), enough=enough, go_on=go_on)
    with torch.no_grad():
        found = methods.get(method)(problem).detach()
    for element, part in enumerate(batch):
        own = found[: len(part.offset), element] + part.offset
        for number, where in part.cases:
            if where.start == where.stop:
                continue
            # A bound that is NaN is none; neither is infinity, as it came of an overflow.
            best = own[where].nan_to_num(-torch.inf, -torch.inf, -torch.inf)
            row = int(best.argmax())
            place = (where.start + row, element)
            yield number, Found(float(best[row]), row, problem.trace, place)


def _boxes(batch: list[Field]) -> dict[str, Box]:
    """Boxes of all nodes, where they are known for the whole batch."""
    if not all(part.boxes for part in batch):
        return {}
    names = batch[0].boxes
    return {
        name: Box(
            *(
                torch.cat([getattr(part.boxes[name], side) for part in batch])
                for side in ("lower", "upper")
            )
        )
        for name in names
    }


def _padded(rows: Tensor, count: int) -> Tensor:
    return torch.cat([rows, rows[:1].expand(count - len(rows), -1)])
