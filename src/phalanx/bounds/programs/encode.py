"""`encode`: a prepared graph on boxes as one program.

Affine operators make forms of the columns there are, and cost nothing. Numbers that a curve or a
joint operator reads get a column with their box, unless the operator's answer is the same all over
it; what they answer gets one where lines leave it open. An operator says how it is written in a
file of `phalanx.bounds.programs.encodings`; a curve without one is written by its lines, anything
else by its box alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from phalanx.bounds.ops import Affine, Box, Curve, rows
from phalanx.bounds.programs.matrices import Matrices, offset
from phalanx.bounds.programs.program import Draft, Floats, Forms, Indices, Mask, Program
from phalanx.errors import DataError, GraphError
from phalanx.graph.ir import CONSTANT, INPUT, Graph, Node
from phalanx.registry import Registry

LARGEST = 1 << 22
"""Numbers that one operator may have in a program."""


@dataclass(frozen=True, eq=False)
class Written:
    """A curve's open entries: where their columns are and which rows are their lines below.

    Attributes:
        entries: into the flat output.
        columns: of what is answered there.
        below: for every line its rows (-1 where an entry has none), and its slopes.
    """

    entries: Indices
    columns: Indices
    below: list[tuple[Indices, Floats]]


@dataclass(eq=False)
class Sheet:
    """What an encoding is given to write on.

    Attributes:
        graph: prepared.
        boxes: of every node, ``(B, *shape)``.
        element: which element of the batch is written.
        exact: whole numbers are welcome.
        kept: the boxes say more than the network on its input's box does (after a split, or of an
            l2 ball): they are asked of a solver, also where an operator is constant on its box.
        matrices: of the graph's affine operators.
    """

    graph: Graph
    boxes: Mapping[str, Box]
    element: int
    exact: bool
    kept: bool
    matrices: Matrices
    draft: Draft = field(default_factory=Draft)
    forms: dict[str, Forms] = field(default_factory=dict)
    curves: dict[str, Written] = field(default_factory=dict)
    complete: bool = True
    _columns: dict[str, Indices] = field(default_factory=dict)

    def box(self, name: str) -> tuple[Floats, Floats]:
        """Both sides of a node's box, flat.

        Raises:
            DataError: NaN, or sides that cross.
        """
        box = self.boxes[name]
        low, high = (_flat(side, self.element) for side in box)
        if not bool((low <= high).all()):
            raise DataError(
                f"the box of {name!r} has a side that is NaN, or above the opposite one",
                why="nothing can be said of an empty set",
            )
        return low, high

    def columns(self, name: str, entries: Mask) -> Indices:
        """Columns ``(n,)`` that hold these entries of a node, within its box; -1 elsewhere."""
        held = self._columns.setdefault(name, np.full(len(entries), -1, dtype=np.intp))
        missing = np.flatnonzero(entries & (held < 0))
        if not len(missing):
            return held
        forms, (low, high) = self.forms[name].take(missing), self.box(name)
        low, high = low[missing], high[missing]
        alone = _single_columns(forms)
        if len(alone):
            there = forms.matrix.indices[forms.matrix.indptr[alone]].astype(np.intp)
            self.draft.cut_columns(there, low[alone], high[alone], ask=self.kept)
            held[missing[alone]] = there
        rest = np.setdiff1d(np.arange(len(missing)), alone)
        free = np.full(len(rest), -np.inf), np.full(len(rest), np.inf)
        fresh = self.draft.add_columns(low[rest], high[rest], asked=None if self.kept else free)
        self.draft.between(self.draft.forms(fresh).minus(forms.take(rest)), 0.0, 0.0)
        held[missing[rest]] = fresh
        return held

    def fresh(self, name: str, entries: Mask, free: tuple[Mask, Mask] | None = None) -> Indices:
        """New columns for these entries of a node's output, within its box.

        Args:
            name: the node.
            entries: which of its numbers.
            free: where the box's lower and upper sides follow from what is written besides.
        """
        low, high = (side[entries] for side in self.box(name))
        if free is None or self.kept:
            return self.draft.add_columns(low, high)
        asked = np.where(free[0][entries], -np.inf, low), np.where(free[1][entries], np.inf, high)
        return self.draft.add_columns(low, high, asked=asked)


Encode = Callable[[Node, Sheet], Forms]
"""Writes an operator down and answers with its output's forms."""

encodings: Registry[Encode] = Registry(
    "encodings", "phalanx.bounds.programs.encodings", noun="encoding"
)


@dataclass(frozen=True, eq=False)
class Encoding:
    """A network on boxes, written down.

    Attributes:
        program: the columns of the input come first.
        forms: of every node, in the program's columns.
        inputs: how many numbers the input has.
        complete: whether the program says all that the network does, and not only what it implies.
        curves: see `Written`.
    """

    program: Program
    forms: Mapping[str, Forms]
    inputs: int
    complete: bool
    curves: Mapping[str, Written]

    def cost(self, name: str, coefficients: Floats) -> tuple[Floats, float]:
        """What to minimise for ``coefficients . value`` of a node: costs, and a constant."""
        forms = self.forms[name]
        found = np.zeros(self.program.columns)
        found[: forms.matrix.shape[1]] = coefficients @ forms.matrix
        return found, float(coefficients @ forms.offset)


def encode(
    graph: Graph,
    boxes: Mapping[str, Box],
    element: int = 0,
    *,
    exact: bool = False,
    kept: bool = False,
    matrices: Matrices | None = None,
) -> Encoding:
    """One element of a batch as a program.

    Args:
        graph: from `prepare`.
        boxes: of every node, for example an engine's.
        element: which element of them.
        exact: with whole numbers, where an operator is a choice between affine pieces.
        kept: see `Sheet`.
        matrices: from another element of the same graph, so that none is made twice.

    Raises:
        DataError: a box with NaN or crossed sides. GraphError: an operator that is too large.

    >>> import torch
    >>> from phalanx.graph.build import Builder
    >>> from phalanx.bounds.prepare import prepare
    >>> builder = Builder((2,))
    >>> graph = prepare(builder.graph(builder.add("relu", [builder.input])))
    >>> x = Box(torch.tensor([[-1.0, 1.0]]), torch.tensor([[2.0, 3.0]]))
    >>> y = Box(torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 3.0]]))
    >>> found = encode(graph, {graph.input.name: x, graph.output: y})
    >>> found.program.columns, found.program.rows, found.complete
    (3, 2, False)
    """
    sheet = Sheet(graph, boxes, element, exact, kept, matrices or Matrices())
    known = set(encodings.names())
    for node in graph:
        sheet.forms[node.name] = _written(node, sheet, known)
    program = sheet.draft.program()
    inputs = len(sheet.forms[graph.input.name])
    return Encoding(program, sheet.forms, inputs, sheet.complete, sheet.curves)


def _written(node: Node, sheet: Sheet, known: set[str]) -> Forms:
    if node.op == INPUT:
        low, high = sheet.box(node.name)
        if len(low) > LARGEST:
            raise GraphError(f"an input of {len(low)} numbers", why=f"at most {LARGEST} are taken")
        return sheet.draft.forms(sheet.draft.add_columns(low, high))
    if node.op == CONSTANT:
        return Forms.constant(_flat(node.tensors["value"].unsqueeze(0), 0))
    if node.op in known:
        return encodings.get(node.op)(node, sheet)
    row = rows.get(node.op)
    if isinstance(row, Affine):
        return _affine(node, sheet)
    if isinstance(row, Curve):
        return encodings.get("curve")(node, sheet)
    sheet.complete = False
    everywhere = np.ones(len(sheet.box(node.name)[0]), dtype=bool)
    return sheet.draft.forms(sheet.fresh(node.name, everywhere))


def _affine(node: Node, sheet: Sheet) -> Forms:
    found = Forms.constant(offset(node))
    for name, weights in zip(node.inputs, sheet.matrices.of(node), strict=True):
        found = found.plus(sheet.forms[name].through(weights))
    return found


def _single_columns(forms: Forms) -> Indices:
    """Which forms are one column and nothing else."""
    matrix = forms.matrix
    counts = np.diff(matrix.indptr)
    single = (counts == 1) & (forms.offset == 0)
    single[single] = matrix.data[matrix.indptr[:-1][single]] == 1.0
    return np.flatnonzero(single)


def _flat(side: Tensor, element: int) -> Floats:
    one = side[min(element, len(side) - 1)]
    return np.asarray(one.detach().double().reshape(-1).numpy(), dtype=np.float64)
