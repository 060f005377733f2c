"""`encode`: a network on a box and the rows of a case, in exact rational numbers.

The graph is taken as it is written: what folds layers into each other rounds their weights. What a
piecewise linear operator reads lies in a box that was found in double precision with every rounding
counted (`phalanx.bounds.outward`), or, where that has no answer, in the exact interval of its form;
pieces that the box does not meet are left out, because no input reaches them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isfinite

import torch
from torch import Tensor

from phalanx.bounds.outward.affine import AFFINE, roundings
from phalanx.bounds.outward.curves import STRAIGHT
from phalanx.bounds.outward.passes import uncovered
from phalanx.bounds.outward.sums import Sides
from phalanx.bounds.programs.encodings.max_pool import entries_of_windows
from phalanx.errors import GraphError, NonFiniteError
from phalanx.graph.ir import CONSTANT, INPUT, Graph, Node
from phalanx.specs.property import Case
from phalanx.verify.outcome import Clock, OutOfTime
from phalanx.verify.rechecking import ClockedPasses, widened
from phalanx.verify.smt.draft import Draft, numeral, term
from phalanx.verify.smt.forms import ONE, ZERO, Form, combined, constant, through
from phalanx.verify.smt.pieces import Range, curve, largest, pieces_of

KNOWN = (INPUT, CONSTANT, *AFFINE, "quotient", *STRAIGHT, "max-pool")
"""Operators that are piecewise linear."""


@dataclass(frozen=True, eq=False)
class Written:
    """A question to a solver: is there an input of the box on which all rows hold?

    Attributes:
        lines: SMT-LIB 2, without the rows.
        rows: of the case; a counterexample has all of them at zero or below.
        strict: which of them must be below.
        inputs: the form of every input, flat: a variable, or a number where it cannot move.
        choices: how many disjunctions there are.
        size: coefficients.
    """

    lines: tuple[str, ...]
    rows: tuple[Form, ...]
    strict: tuple[bool, ...]
    inputs: tuple[Form, ...]
    choices: int
    size: int

    def text(self, margin: Fraction = ZERO) -> str:
        """All of it, with rows that must be below zero by a margin."""
        found = list(self.lines)
        for row, strict in zip(self.rows, self.strict, strict=True):
            sign = "<" if strict and not margin else "<="
            found.append(f"(assert ({sign} {term(row)} {numeral(-margin)}))")
        return "\n".join(found)

    def point(self, values: Mapping[int, Fraction], usual: Tensor) -> Tensor:
        """The input ``(n,)`` that a solver's values stand for, each rounded to float64 once.

        Args:
            values: of variables.
            usual: the input's numbers, for those that the solver did not need.
        """
        found = usual.clone()
        for at, form in enumerate(self.inputs):
            variable = form.alone()
            if variable is None:
                found[at] = float(form.constant)
            elif variable in values:
                found[at] = float(values[variable])
        return found


def laid_out(graph: Graph) -> Graph:
    """The graph in float64 as it is written, with its inputs' shapes at every node.

    Raises:
        GraphError: an operator that is not piecewise linear, or weights that were rounded.
        NonFiniteError: a weight is NaN or infinite.
    """
    shapes = {node.name: node.shape for node in graph}
    nodes = []
    for node in graph.to(torch.float64):
        if node.op not in KNOWN:
            raise GraphError(
                f"node {node.name!r} ({node.op}) is not piecewise linear",
                why="rational arithmetic has no other operators",
                repair="--engine branch-and-bound",
            )
        if roundings(node):
            raise GraphError(
                f"node {node.name!r} ({node.op}) has weights that were rounded",
                why="an ensemble's shares and what is folded into them are no numbers of any type",
                repair="--engine branch-and-bound",
            )
        if not all(bool(torch.isfinite(t).all()) for t in node.tensors.values()):
            raise NonFiniteError(f"node {node.name!r} ({node.op}) has NaN or infinite weights")
        inputs = tuple(shapes[name] for name in node.inputs)
        seen = {"inputs": inputs, "input": inputs[0]} if inputs else {}
        nodes.append(replace(node, attributes={**node.attributes, **seen}))
    return Graph(tuple(nodes), graph.output)


def boxes(graph: Graph, case: Case, clock: Clock) -> dict[str, Sides]:
    """Outward boxes of the values before the first operator whose roundings are not counted.

    Args:
        graph: from `laid_out`.
        case: its box, one unit in the last place wider: its sides may be decimals.
        clock: looked at before every backward pass.

    Raises:
        OutOfTime: it ran out.
    """
    stop = uncovered(graph)
    nodes = graph.nodes if stop is None else graph.nodes[: graph.nodes.index(stop)]
    region = widened(graph, case)
    last = graph.output if stop is None else nodes[-1].name
    with torch.no_grad():
        return ClockedPasses(clock, Graph(nodes, last), region).sides


class TooMany(Exception):
    """A network takes more coefficients than anybody would wait for."""


@dataclass(frozen=True)
class Budget:
    """What writing a network down may take.

    Attributes:
        clock: looked at between numbers.
        coefficients: of one value's forms, and of all that is written.
    """

    clock: Clock
    coefficients: int

    def spent(self, forms: Iterable[Form], draft: Draft) -> list[Form]:
        """The forms, made one by one.

        Raises:
            OutOfTime, TooMany: a limit was passed.
        """
        found, size = [], 0
        for form in forms:
            found.append(form)
            size += len(form.terms)
            if max(size, draft.size) > self.coefficients:
                raise TooMany
            if self.clock.expired():
                raise OutOfTime
        return found


def encode(graph: Graph, case: Case, budget: Budget) -> Written:
    """The network and the case, written down.

    Args:
        graph: a network, in its own type, not prepared.
        case: the question.
        budget: see `Budget`.

    Raises:
        GraphError, NonFiniteError: see `laid_out`. OutOfTime, TooMany: a limit was passed.
    """
    graph = laid_out(graph)
    sides = boxes(graph, case, budget.clock)
    draft, forms = Draft(), dict[str, list[Form]]()
    for node in graph:
        sources = [forms[name] for name in node.inputs]
        forms[node.name] = budget.spent(_written(draft, node, sources, sides, case), draft)
    inputs, outputs = forms[graph.input.name], forms[graph.output]
    rows = _rows(case, inputs, outputs)
    strict = [False] * len(rows) if case.strict is None else case.strict.tolist()
    kept = tuple(draft.lines), rows, tuple(strict), tuple(inputs)
    return Written(*kept, draft.choices, draft.size)


def _written(
    draft: Draft,
    node: Node,
    sources: Sequence[Sequence[Form]],
    sides: Mapping[str, Sides],
    case: Case,
) -> Iterator[Form]:
    """The forms of a node's value, entry by entry."""
    if node.op == INPUT:
        yield from _inputs(draft, case)
    elif node.op == CONSTANT:
        yield from map(constant, node.tensors["value"].flatten().tolist())
    elif node.op in AFFINE:
        yield from through(node, sources)
    else:
        yield from _bent(draft, node, sources[0], sides.get(node.inputs[0]))


def _inputs(draft: Draft, case: Case) -> Iterator[Form]:
    """A variable for each number that can move, from side to side as decimals and as float64."""
    for at, (low, high) in enumerate(zip(case.lower.tolist(), case.upper.tolist(), strict=True)):
        below, above = case.exactly(at)
        below, above = min(below, Fraction(low)), max(above, Fraction(high))
        if below == above:
            yield Form({}, below)
        else:
            yield Form({draft.variable(below, above): ONE}, ZERO)


def _bent(draft: Draft, node: Node, source: Sequence[Form], sides: Sides | None) -> Iterator[Form]:
    """A curve, or the largest of windows."""
    ends = _ends(draft, source, sides)
    if node.op != "max-pool":
        pieces = pieces_of(node)
        for form, pair in zip(source, ends, strict=True):
            yield curve(draft, pieces, form, pair)
        return
    for window in entries_of_windows(node).T.tolist():
        at = [entry for entry in window if entry >= 0]
        yield largest(draft, [source[i] for i in at], [ends[i] for i in at])


def _ends(draft: Draft, source: Sequence[Form], sides: Sides | None) -> list[Range]:
    """Where each number lies: in its outward box, else in the exact interval of its form."""
    if sides is None:
        return [draft.range_of(form) for form in source]
    lows, highs = (side.flatten().tolist() for side in (sides.lower, sides.upper))
    return [
        (Fraction(low), Fraction(high))
        if isfinite(low) and isfinite(high)
        else draft.range_of(form)
        for form, low, high in zip(source, lows, highs, strict=True)
    ]


def _rows(case: Case, inputs: Sequence[Form], outputs: Sequence[Form]) -> tuple[Form, ...]:
    found = []
    for at in range(len(case.offset)):
        of_outputs, of_inputs, shift = case.row_exactly(at)
        forms = [outputs[i] for i in of_outputs] + [inputs[i] for i in of_inputs]
        found.append(combined([*of_outputs.values(), *of_inputs.values()], forms, shift))
    return tuple(found)
