"""DeepZ zonotopes (Singh et al. 2018): a centre and generators, forward."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from phalanx.bounds.engine import Engine, Settings, known
from phalanx.bounds.ops import Affine, Box, Curve, Joint, merged
from phalanx.bounds.ops.max_pool import windows
from phalanx.bounds.problem import Problem, methods
from phalanx.errors import GraphError
from phalanx.graph.ir import INPUT, Node
from phalanx.graph.operators import OPERATORS

TOO_WIDE = 2.0
"""A window's box is taken where an entry, and what others exceed it by, reach so much further."""


@dataclass(frozen=True, eq=False)
class Zonotope:
    """``centre + sum_g e_g generators_g`` with every e_g in [-1, 1].

    Attributes:
        centre: ``(B, *shape)``.
        generators: ``(G, B, *shape)``; all zonotopes of a network begin with the same ones.
    """

    centre: Tensor
    generators: Tensor


@methods.register("zonotope")
def zonotope(problem: Problem) -> Tensor:
    """A curve becomes its chord's slope, a shift, and one fresh generator for each open entry.

    A product is linear but for one more of such generators, and so is the largest of a window: it
    exceeds one entry by as much as the others do. Of l2 and l1 balls the box around them is taken.
    """
    engine = problem.engine(Settings(backward=False, parallel=True))
    # Backward passes through the same lines bound no worse (Salman et al. 2019), boxes would. Of a
    # window they take other planes, which are now better, now worse by some per cent.
    problem.trace.backward = True
    pushed = _Pushed(engine)
    for node in problem.graph:
        pushed.push(node)
    last = pushed.values[problem.graph.output]
    rows = problem.rows.flatten(2)
    middle = (rows * last.centre.flatten(1)).sum(2)
    reach = torch.einsum("sbn,gbn->sbg", rows, last.generators.flatten(2))
    return (middle - pushed.reach(reach.movedim(2, 0))).fmax(problem.by_boxes(engine))


class _Pushed:
    """The zonotope of every node, and the engine's boxes cut with them."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.region = engine, engine.region
        self.values: dict[str, Zonotope] = {}
        self.inputs = torch.Size(engine.graph.input.shape).numel()
        self.count = self.inputs  # generators there are: each has one place in every zonotope

    def push(self, node: Node) -> None:
        """The zonotope of one more node."""
        engine = self.engine
        box = engine.interval(node)
        found = self._first() if node.op == INPUT else self._image(node)
        self.values[node.name] = found
        radius = self.reach(found.generators)
        both = Box(box.lower.fmax(found.centre - radius), box.upper.fmin(found.centre + radius))
        crossed = Box(both.lower.minimum(both.upper), both.lower.maximum(both.upper))
        engine.boxes[node.name] = known(crossed)

    def reach(self, generators: Tensor) -> Tensor:
        """How far generators ``(G, ...)`` reach on either side."""
        return generators.abs().sum(0)

    def _first(self) -> Zonotope:
        half = ((self.region.upper - self.region.lower) / 2).flatten(1)
        unit = torch.diag_embed(half).movedim(1, 0)
        shape = self.engine.graph.input.shape
        centre = (self.region.lower + self.region.upper) / 2
        return Zonotope(centre, unit.reshape(self.inputs, len(half), *shape))

    def _image(self, node: Node) -> Zonotope:
        row = self.engine.rows[node.name]
        if node.op == "constant":
            centre = node.tensors["value"].expand(len(self.region), *node.shape)
            return Zonotope(centre, centre.new_zeros(self.inputs, *centre.shape))
        if isinstance(row, Curve):
            return self._curved(node)
        if isinstance(row, Affine):
            return self._affine(row, node)
        if isinstance(row, Joint) and row.bilinear:
            return self._product(node)
        if node.op == "max-pool":
            return self._largest(node)
        raise GraphError(f"there is no zonotope of {node.op!r}")

    def _affine(self, row: Affine, node: Node) -> Zonotope:
        sources = [self.values[name] for name in node.inputs]
        centre = row.linear(node, *(source.centre for source in sources))
        if (offset := row.offset(node)) is not None:
            centre = centre + offset
        count = max(len(source.generators) for source in sources)
        parts = [merged(_padded(source.generators, count)) for source in sources]
        moved = row.linear(node, *parts)
        return Zonotope(centre, moved.reshape(count, len(self.region), *node.shape))

    def _product(self, node: Node) -> Zonotope:
        """``b y + x c - b c`` is off by the product of the radii, b and c being boxes' middles."""
        x, y = (self.values[name] for name in node.inputs)
        (b, c), (r, s) = (
            [part.expand(z.centre.shape) for part, z in zip(parts, (x, y), strict=True)]
            for parts in zip(*((box.centre, box.radius) for box in self._boxes(node)), strict=True)
        )
        times = partial(OPERATORS[node.op], node)
        centre = times(b, y.centre) + times(x.centre, c) - times(b, c)
        count = max(len(x.generators), len(y.generators))
        first, second = (merged(_padded(z.generators, count)) for z in (x, y))
        left, right = (merged(z.expand(count, *z.shape)) for z in (b, c))
        moved = times(left, second) + times(first, right)
        shifted = Zonotope(centre, moved.reshape(count, len(self.region), *node.shape))
        return self._widened(shifted, times(r, s))

    def _largest(self, node: Node) -> Zonotope:
        """The entry whose lower end is largest, and what the others exceed it by; or the box."""
        (source,), (box,) = (self.values[name] for name in node.inputs), self._boxes(node)
        lower, upper = (windows(node, side, -torch.inf) for side in box)
        best = lower.argmax(1, keepdim=True)
        centre, seen = (windows(node, x, 0.0) for x in (source.centre, merged(source.generators)))
        seen = seen.reshape(-1, *centre.shape)
        first, lead = centre.gather(1, best), seen.gather(2, best.expand(len(seen), *best.shape))
        above = (centre - first + self.reach(seen - lead)).minimum(upper - lower.gather(1, best))
        half = above.amax(1).clamp_min(0) / 2
        middle, lead = first.squeeze(1) + half, lead.squeeze(2)
        top, most = upper.amax(1), lower.amax(1)
        wide = self.reach(lead) + half > TOO_WIDE * (top - most) / 2
        half = torch.where(wide, (top - most) / 2, half)
        middle = torch.where(wide, (top + most) / 2, middle)
        return self._widened(Zonotope(middle, torch.where(wide, 0.0, lead)), half)

    def _boxes(self, node: Node) -> list[Box]:
        return [self.engine.boxes[name] for name in node.inputs]

    def _curved(self, node: Node) -> Zonotope:
        """``f(x) - s x`` lies between its values at the ends of the lines."""
        source, box = self.values[node.inputs[0]], self.engine.boxes[node.inputs[0]]
        lines = self.engine.lines(node)
        slope = lines.upper_slope
        tilt = lines.lower_slope - slope
        low = torch.minimum(tilt * box.lower, tilt * box.upper)
        low = low if lines.lower_offset is None else low + lines.lower_offset
        high = torch.zeros_like(low) if lines.upper_offset is None else lines.upper_offset
        shifted = Zonotope(slope * source.centre + (low + high) / 2, slope * source.generators)
        return self._widened(shifted, (high - low) / 2)

    def _widened(self, value: Zonotope, half: Tensor) -> Zonotope:
        """One fresh generator for each entry that is not a point, in any element of the batch.

        It comes after all there are, in whatever branch: a place stands for one generator.
        """
        flat = half.flatten(1)
        open_ = (flat != 0).any(0).nonzero().squeeze(1)
        fresh = flat.new_zeros(len(open_), *flat.shape)
        fresh[torch.arange(len(open_)), :, open_] = flat[:, open_].T
        before = _padded(value.generators, self.count)
        self.count += len(open_)
        return Zonotope(value.centre, torch.cat([before, fresh.reshape(-1, *half.shape)]))


def _padded(generators: Tensor, count: int) -> Tensor:
    missing = count - len(generators)
    return torch.cat([generators, generators.new_zeros(missing, *generators.shape[1:])])
