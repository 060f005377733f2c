"""Bounds of affine and ReLU networks on boxes: intervals, and backward passes over a graph.

A row ``r . v`` of a value is carried to the input: through an affine operator by its adjoint,
through a ReLU by a line below it where its coefficient is positive and the chord where it is
negative. What a step may have lost by rounding is at most ``|r|`` times a charge that depends on
the box alone (`Passes.charges`), since all slopes are in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from phalanx.errors import GraphError
from phalanx.graph.ir import CONSTANT, INPUT, Graph, Node
from phalanx.verify.proof.operators import OPERATORS, Affine, parts
from phalanx.verify.proof.rounding import HALF_ULP, ROOM, TINY, Array, above, below, charge

RELU = "relu"
NUMBERS_AT_ONCE = 1 << 15
"""Coefficients of a value that a pass carries: they stay in the cache."""
FEWEST_ROWS = 128
"""Rows of a pass, however wide the network is."""

GROWING = ("pad", "concat")
MOVED = ("reshape", "transpose", "scale", "quotient", "batch-norm", "add", "sub", *GROWING)
"""Operators after which numbers of one input still move independently, if none is copied."""

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Sides(NamedTuple):
    """Lower and upper bounds ``(B, *shape)``."""

    lower: Array
    upper: Array

    def most(self) -> Array:
        """Largest absolute values."""
        return np.maximum(np.abs(self.lower), np.abs(self.upper))

    def middle(self) -> tuple[Array, Array]:
        """Centres, and radii that reach both sides."""
        centre = (self.lower + self.upper) / 2
        return centre, above(np.maximum(self.upper - centre, centre - self.lower)).clip(0)


class Lines(NamedTuple):
    """``below z <= relu(z) <= above z + high``, ``(B, *shape)`` each."""

    below: Array
    above: Array
    high: Array

    def at(self, index: Index) -> Lines:
        """Of the boxes that rows belong to."""
        return Lines(*(part if len(part) == 1 else part[index] for part in self))


class Below(NamedTuple):
    """``slopes x + constant`` below each of R rows, and its least value on the row's box."""

    slopes: Array
    constant: Array
    lower: Array


@dataclass(frozen=True, eq=False)
class Net:
    """A graph whose operators are known here.

    Attributes:
        nodes: in order; the first is the input.
        output: a name.
        affine: by name.
        constants: values ``(1, *shape)`` by name.
    """

    nodes: tuple[Node, ...]
    output: str
    affine: Mapping[str, Affine]
    constants: Mapping[str, Array]

    @property
    def relus(self) -> tuple[Node, ...]:
        """In order."""
        return tuple(node for node in self.nodes if node.op == RELU)

    @property
    def inputs(self) -> int:
        """How many numbers there are."""
        return prod(self.nodes[0].shape)

    @property
    def widest(self) -> int:
        """Numbers of the largest value."""
        return max(prod(node.shape) for node in self.nodes)

    @property
    def size(self) -> tuple[int, ...]:
        """The output's shape."""
        return next(node.shape for node in self.nodes if node.name == self.output)


def net_of(graph: Graph) -> Net:
    """The graph, for the checker.

    Raises:
        GraphError: an operator whose proofs are not checked, named; or a constant that is not
            finite.
    """
    nodes = tuple(part for node in graph for part in parts(node))
    shapes = {node.name: node.shape for node in nodes}
    affine, constants = {}, {}
    for node in nodes:
        if node.attributes.get("roundings"):
            raise GraphError(
                f"node {node.name!r} ({node.op}) has weights that were rounded",
                why="a checker takes the numbers of a network as they are",
                repair="verify without --proof",
            )
        for key, tensor in node.tensors.items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise GraphError(f"node {node.name!r} has a {key} with NaN or infinite numbers")
        if node.op == CONSTANT:
            constants[node.name] = node.tensors["value"].double().numpy()[None]
        elif node.op in OPERATORS:
            make = OPERATORS[node.op]
            affine[node.name] = make(node, tuple(shapes[name] for name in node.inputs))
        elif node.op not in (INPUT, RELU):
            raise GraphError(
                f"node {node.name!r} ({node.op}) is not checked",
                why=f"proofs speak of networks of relu, {', '.join(sorted(OPERATORS))}",
                repair="verify without --proof",
            )
    return Net(nodes, graph.output, affine, constants)


class Passes:
    """Bounds of every value of a network on B boxes.

    Args:
        net: see `net_of`.
        lower, upper: the boxes, ``(B, n)``.
    """

    def __init__(self, net: Net, lower: Array, upper: Array) -> None:
        self.net, self.count = net, len(lower)
        self.sides: dict[str, Sides] = {}
        self.lines: dict[str, Lines] = {}
        self.charges: dict[str, Array] = {}
        shape, independent = net.nodes[0].shape, {net.nodes[0].name}
        self._box = Sides(lower.reshape(-1, *shape), upper.reshape(-1, *shape))
        read = {node.inputs[0] for node in net.nodes if node.op == RELU}
        with np.errstate(all="ignore"):
            for node in net.nodes:
                exact = self._exact(node, independent)
                self.sides[node.name] = self._interval(node)
                if node.name in read and not exact:
                    self._tighten(node)

    def _exact(self, node: Node, independent: set[str]) -> bool:
        """Whether intervals say all there is: affine in numbers that move independently."""
        moving = [name for name in node.inputs if name not in self.net.constants]
        exact = node.name in self.net.affine and len(moving) == 1 and moving[0] in independent
        if exact and node.op in MOVED:
            source = self.sides[moving[0]].lower
            if node.op in GROWING or prod(node.shape) == prod(source.shape[1:]):
                independent.add(node.name)
        return exact or node.name in independent

    # forward

    def _interval(self, node: Node) -> Sides:
        if node.op == INPUT:
            return self._box
        if node.op == CONSTANT:
            value = self.net.constants[node.name]
            return Sides(value, value)
        inputs = [self.sides[name] for name in node.inputs]
        if node.op == RELU:
            self.lines[node.name] = _lines(inputs[0])
            line, most = self.lines[node.name], inputs[0].most()
            terms = charge(prod(node.shape) + 2)
            self.charges[node.name] = ROOM * (2 * HALF_ULP * most + terms * line.high)
            return Sides(inputs[0].lower.clip(0), inputs[0].upper.clip(0))
        affine = self.net.affine[node.name]
        pairs = [side.middle() for side in inputs]
        centre = affine.linear([c for c, _ in pairs]) + affine.offset
        size = affine.size([side.most() for side in inputs]) + np.abs(affine.offset)
        reach = affine.size([r for _, r in pairs])
        reach = above(reach + 3 * charge(affine.terms[0] + 2) * size + TINY)
        self.charges[node.name] = ROOM * charge(max(affine.terms[1], prod(node.shape)) + 2) * size
        return Sides(below(centre - reach), above(centre + reach))

    def _tighten(self, node: Node) -> None:
        """Entries whose sign is open, by backward passes: the side that may settle it, then the
        other one where it does not.
        """
        low, high = (side.reshape(len(side), -1).copy() for side in self.sides[node.name])
        rises = low + high > 0
        for side in (rises, ~rises):
            box, entry = np.nonzero((low < 0) & (high > 0))
            self._bound(node, (box, entry), side[box, entry], (low, high))
        shape = self.sides[node.name].lower.shape
        self.sides[node.name] = Sides(low.reshape(shape), high.reshape(shape))

    def _bound(
        self, node: Node, at: tuple[Index, Index], lower: Mask, sides: tuple[Array, Array]
    ) -> None:
        """One side of entries of a value: the lower one where it is said."""
        size = max(FEWEST_ROWS, NUMBERS_AT_ONCE // self.net.widest)
        for start in range(0, len(lower), size):
            box, entry = (part[start : start + size] for part in at)
            below_ = lower[start : start + size]
            rows = np.zeros((len(box), sides[0].shape[1]))
            rows[np.arange(len(box)), entry] = np.where(below_, 1.0, -1.0)
            found = self.least({node.name: rows.reshape(-1, *node.shape)}, box).lower
            for side, chosen, sign in ((0, below_, 1.0), (1, ~below_, -1.0)):
                where = box[chosen], entry[chosen]
                better = np.fmax(sign * sides[side][where], found[chosen])
                sides[side][where] = sign * better

    # backward

    def least(
        self,
        begun: Mapping[str, Array],
        at: Index,
        constant: Array | None = None,
        doubt: Array | None = None,
        lines: Mapping[str, Lines] | None = None,
    ) -> Below:
        """Linear functions below sums of rows of values and constants.

        Args:
            begun: ``(R, *shape)`` by the name of the value.
            at: which box each row is asked on, ``(R,)``.
            constant, doubt: ``(R,)``: and by how much these and the rows may be off already.
            lines: of ReLUs, ``(R or 1, *shape)``, in place of the box's own.
        """
        count, lines = len(at), lines or {}
        total = np.zeros(count) if constant is None else constant
        lost = np.zeros(count) if doubt is None else doubt
        slopes = np.zeros((count, *self.net.nodes[0].shape))
        pending = dict(begun)
        with np.errstate(all="ignore"):
            for node in reversed(self.net.nodes):
                rows = pending.pop(node.name, None)
                if rows is None:
                    continue
                if node.op == INPUT:
                    slopes = rows
                    continue
                found, add, off = self._step(node, rows, at, lines.get(node.name))
                total = total + add
                lost = lost + off + 2 * HALF_ULP * np.abs(total) + TINY
                for name, part in zip(node.inputs, found, strict=True):
                    if name in pending:
                        pending[name] = pending[name] + part
                        most = self._of(self.sides[name].most(), at)
                        lost = lost + _dot(np.abs(pending[name]), ROOM * HALF_ULP * most)
                    else:
                        pending[name] = part
            return self._closed(slopes.reshape(count, -1), total, lost, at)

    def _step(
        self, node: Node, rows: Array, at: Index, lines: Lines | None
    ) -> tuple[list[Array], Array, Array]:
        """Rows of the inputs, what is added, and what may have been lost."""
        if node.op == CONSTANT:
            value = self.net.constants[node.name]
            terms = charge(value.size + 2)
            return [], _dot(rows, value), terms * _dot(np.abs(rows), np.abs(value))
        off = _dot(np.abs(rows), self._of(self.charges[node.name], at))
        if node.op == RELU:
            line = self.lines[node.name].at(at) if lines is None else lines
            negative = np.minimum(rows, 0)
            part = (rows - negative) * line.below + negative * line.above
            return [part], _dot(negative, line.high), off
        affine = self.net.affine[node.name]
        return affine.back(rows), _dot(rows, affine.offset), off

    def _closed(self, slopes: Array, total: Array, lost: Array, at: Index) -> Below:
        box = Sides(*(self._of(side, at).reshape(-1, slopes.shape[1]) for side in self._box))
        centre, radius = box.middle()
        size = np.abs(slopes)
        met = _dot(size, np.abs(centre) + radius)
        constant = below(total - above(ROOM * lost))
        reach = _dot(slopes, centre) - _dot(size, radius)
        off = 2 * charge(slopes.shape[1] + 4) * met + 4 * HALF_ULP * np.abs(constant) + TINY
        return Below(slopes, constant, below(constant + reach - above(ROOM * off)))

    @staticmethod
    def _of(value: Array, at: Index) -> Array:
        return value if len(value) == 1 else value[at]


def _lines(side: Sides) -> Lines:
    """The usual ones: below the identity or zero, whichever leaves less; above the chord."""
    low, high = side
    on, off = low >= 0, high <= 0
    chord = np.where(off, 0.0, np.where(on, 1.0, high / (high - low))).clip(0, 1)
    slope = np.where(on | (~off & (high > -low)), 1.0, 0.0)
    gap = np.maximum(-chord * low * (1 + 4 * HALF_ULP), high - chord * high + 4 * HALF_ULP * high)
    return Lines(slope, chord, np.where(on | off, 0.0, above(gap)))


def _dot(rows: Array, values: Array) -> Array:
    """``(R,)``: products ``(R, *shape)`` with ``(R or 1, *shape)``, added up."""
    flat = rows.reshape(len(rows), -1)
    if len(values) == 1:
        return flat @ values.reshape(-1)
    return np.einsum("rn,rn->r", flat, values.reshape(len(values), -1))
