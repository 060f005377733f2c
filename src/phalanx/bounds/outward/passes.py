"""Boxes of every value over one input region in double precision, no rounding left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from math import prod

import torch
from torch import Tensor

from phalanx.bounds.forms import worthwhile
from phalanx.bounds.ops import Affine, Curve
from phalanx.bounds.ops import rows as table
from phalanx.bounds.outward import crops, forms
from phalanx.bounds.outward.affine import (
    AFFINE,
    MOVES,
    image,
    lengths,
    magnitude,
    offset,
    roundings,
)
from phalanx.bounds.outward.crops import Crop
from phalanx.bounds.outward.curves import CURVES, STRAIGHT, corners, gaps
from phalanx.bounds.outward.joints import JOINTS
from phalanx.bounds.outward.rounding import UNDERFLOW, down, gamma, up
from phalanx.bounds.outward.sums import Sides
from phalanx.bounds.outward.walk import Walk, finite, placed
from phalanx.bounds.problem import Between
from phalanx.bounds.region import DUAL, Region
from phalanx.errors import GraphError
from phalanx.graph.ir import CONSTANT, INPUT, Graph, Node
from phalanx.graph.run import execute

COVERED = (INPUT, CONSTANT, *AFFINE, *CURVES, *JOINTS)
BY_SIGN = ("relu", "leaky-relu", "abs")
"""Curves of which a known sign says all."""
NEVER_FALLING = ("relu", "clip")
"""Curves whose ends are those of what they read, and nothing is rounded."""
TURNED = ("reshape", "transpose")
"""Operators that leave every number as it is, once."""
LARGEST_ROWS = 1 << 19
"""Coefficients held at once."""


@dataclass(frozen=True, eq=False)
class Known:
    """What passes over a region leave for others, whatever these ask of the output.

    Attributes:
        sides: of nodes, by name.
        followed: whose slopes went into them, by name.
    """

    sides: Mapping[str, Sides]
    followed: Mapping[str, Between]


NOTHING = Known({}, {})


def uncovered(graph: Graph) -> Node | None:
    """The first node whose rounding is not accounted for; None: all are."""
    return next((node for node in graph if node.op not in COVERED), None)


class Passes(Walk):
    """Outward bounds of every value of a prepared graph.

    Args:
        graph: from `prepare`, in float64.
        region: of one input, in float64, wide enough as it is (`outward_ball`).
        backward: boxes in between by backward passes; else by intervals alone.
        parallel: the lines below have the slopes of those above.
        between: how a search bounded entries in between, by slopes that are not trusted.
        known: what other passes over the same region left.

    Raises:
        GraphError: an operator whose rounding is not accounted for.
    """

    def __init__(
        self,
        graph: Graph,
        region: Region,
        *,
        backward: bool = True,
        parallel: bool = False,
        between: Mapping[str, Between] | None = None,
        known: Known = NOTHING,
    ) -> None:
        if (node := uncovered(graph)) is not None:
            raise GraphError(
                f"node {node.name!r} ({node.op}) has no bounds with roundings counted",
                why=f"there are for {', '.join(COVERED)}",
                repair="--arithmetic real",
            )
        super().__init__(graph, region, parallel=parallel)
        self._readers = graph.readers()
        exact = self._plain() if region.norm == "linf" else set()
        # Only a backward pass asks on which side of zero values lie.
        self._values = execute(graph, region.centre, lambda n: n, keep=True) if backward else {}
        few = backward and worthwhile(graph)
        self._forms: dict[str, forms.Form] = {}
        for node in graph:
            self.sides[node.name] = side = self._interval(node)
            if node.name in known.sides:
                self.sides[node.name] = side.cut(known.sides[node.name])
            if few:
                self._cut(node)
            if backward and node.name not in exact:
                followed = (between or {}).get(node.name) if node.name != graph.output else None
                self._tighten(node, followed)
                if followed is not None and known.followed.get(node.name) is not followed:
                    self._follow(node, followed)
        self.left = Known(self.sides, {**known.followed, **((between or {}) if backward else {})})

    # boxes

    def _interval(self, node: Node) -> Sides:
        if node.op == INPUT:
            return Sides(self.region.lower, self.region.upper)
        if node.op == CONSTANT:
            value = node.tensors["value"].expand(len(self.region), *node.shape)
            return Sides(value, value)
        inputs = [self.sides[name] for name in node.inputs]
        if node.op in (*MOVES, *NEVER_FALLING):
            return Sides(
                image(node, [side.lower for side in inputs]),
                image(node, [side.upper for side in inputs]),
            )
        if node.op in AFFINE:
            return self._in_ball(node, self._image(node, inputs))
        if node.op in JOINTS:
            return _known(*JOINTS[node.op].interval(node, inputs))
        zero = torch.zeros_like(inputs[0].lower)
        low = gaps(node, zero, inputs[0].lower, inputs[0].upper, above=False)
        high = gaps(node, zero, inputs[0].lower, inputs[0].upper, above=True)
        return _known(low, high)

    def _image(self, node: Node, inputs: list[Sides]) -> Sides:
        pairs = [side.middle() for side in inputs]
        centre = image(node, [c for c, _ in pairs])
        radius = magnitude(node, [r for _, r in pairs])
        size = magnitude(node, [c.abs() + r for c, r in pairs]) + offset(node, centre).abs()
        radius = radius + (3 * gamma(lengths(node)[0]) * size + UNDERFLOW)
        low, high = down(centre - up(radius)), up(centre + up(radius))
        return _known(low, high)

    def _in_ball(self, node: Node, box: Sides) -> Sides:
        """Cut with what a ball allows a layer that reads the input, moved or shifted at most."""
        row = table.get(node.op)
        if self.region.norm == "linf" or not isinstance(row, Affine):
            return box
        norm, source = row.norm(node, DUAL[self.region.norm]), self._moved_input(node)
        if norm is None or source is None:
            return box
        centre, terms = image(node, [source]), lengths(node)[0]
        size = magnitude(node, [source.abs()]) + offset(node, centre).abs()
        gain = self.region.eps * norm * (1 + 2 * gamma(terms + 2))
        radius = up(gain + 3 * gamma(terms) * size + UNDERFLOW)
        low, high = down(centre - radius), up(centre + radius)
        return _known(box.lower.fmax(low), box.upper.fmin(high))

    def _moved_input(self, node: Node) -> Tensor | None:
        """The ball's centre in the form that the node reads it in; off by two units at most."""
        before = self.graph[node.inputs[0]]
        if len(node.inputs) != 1 or not (before.op in (INPUT, *TURNED) or _is_shift(before)):
            return None
        if before.op == INPUT:
            return self.region.centre
        source = self._moved_input(before)
        return None if source is None else image(before, [source])

    def _plain(self) -> set[str]:
        """Values whose interval is exact but for roundings: affine in independent numbers."""
        free, exact = {self.graph.input.name}, {self.graph.input.name}
        for node in self.graph:
            if len(node.inputs) == 1 and node.inputs[0] in free and node.op in AFFINE:
                exact.add(node.name)
                if node.op in ("reshape", "transpose", "scale"):
                    free.add(node.name)
        return exact

    def _tighten(self, node: Node, followed: Between | None) -> None:
        """Backward passes, on the likely side first and on the other one where that settles not.

        Entries that a search bounded are left to its slopes, which are no worse.
        """
        below = self._values[node.name] > 0
        for side in (below, ~below):
            rest = self._open(node).flatten()
            if followed is not None:
                rest[followed.entry] = False
            if bool(rest.any()):
                self._bound(node, rest.nonzero().squeeze(1), side.flatten())

    def _open(self, node: Node) -> Tensor:
        """Where a relaxation that reads the value is not exact."""
        side = self.sides[node.name]
        mask = torch.zeros_like(side.lower, dtype=torch.bool)
        for reader in self._readers[node.name]:
            if reader.op in STRAIGHT:
                for corner in corners(reader):
                    mask |= (side.lower < corner) & (side.upper > corner)
            elif reader.op in CURVES:
                mask |= side.lower < side.upper
            elif reader.op in JOINTS:
                mask |= JOINTS[reader.op].loose(reader, side)
        return mask

    def _bound(self, node: Node, chosen: Tensor, below: Tensor) -> None:
        """Lower bounds of the chosen entries that are ``below``, upper bounds of the others."""
        settle = all(
            reader.op in BY_SIGN or reader.op in AFFINE for reader in self._readers[node.name]
        )
        side = self.sides[node.name]
        low, high = side.lower.flatten().clone(), side.upper.flatten().clone()
        for part, crop in self._parts(node, chosen):
            sign = below[part].to(low.dtype) * 2 - 1
            found = self.least_entries(node, part, sign, crop, settle=settle)
            lower = below[part]
            low[part[lower]] = low[part[lower]].fmax(found[lower])
            high[part[~lower]] = high[part[~lower]].fmin(-found[~lower])
        if bool((low > high).any()):
            raise RuntimeError(f"two sound bounds of {node.name!r} contradict each other")
        self.sides[node.name] = Sides(low.reshape(side.lower.shape), high.reshape(side.lower.shape))

    def _parts(self, node: Node, chosen: Tensor) -> Iterator[tuple[Tensor, Crop | None]]:
        """Entries that go through the network together, those of an image tile by tile."""
        size = self._at_once(1)
        if not crops.carries(node):
            yield from zip(chosen.split(size), repeat(None))
            return
        for which, crop in crops.tiles(node.shape, chosen):
            yield from zip(chosen[which].split(size), repeat(crop))

    def _follow(self, node: Node, found: Between) -> None:
        """Both sides of entries, by the slopes that a search found for them."""
        side, count = self.sides[node.name], len(found.entry)
        low, high = side.lower.flatten().clone(), side.upper.flatten().clone()
        size = self._at_once(2)
        for turn in range(0, count, size):
            at = torch.arange(turn, min(turn + size, count))
            part, both = found.entry[at], torch.cat([at, at + count])
            unit = torch.zeros(len(part), len(low), dtype=low.dtype)
            unit[torch.arange(len(part)), part] = 1.0
            slopes = self.slopes({name: p[:, both, 0] for name, p in found.places.items()})
            rows = torch.cat([unit, -unit]).reshape(-1, *node.shape)
            bounds = self.least(node.name, rows, slopes)
            low[part] = low[part].fmax(bounds[: len(part)])
            high[part] = high[part].fmin(-bounds[len(part) :])
        self.sides[node.name] = Sides(low.reshape(side.lower.shape), high.reshape(side.lower.shape))

    def slopes(self, places: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Slopes of curves' lines from their parameters ``(P, S, *shape)``; those of planes."""
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for name, place in places.items():
            node = self.graph[name]
            row, side = table.get(node.op), self.sides[node.inputs[0]]
            if node.op in JOINTS:
                found[name] = placed(place)
                continue
            if not isinstance(row, Curve):
                raise TypeError(f"{node.op} is no curve")
            own = place.double().clamp(0, 1).unsqueeze(2)
            lines = row.lines(node, side.lower, side.upper, own)
            below, above = (
                finite(slope).reshape(-1, *node.shape)
                for slope in (lines.lower_slope, lines.upper_slope)
            )
            found[name] = (below, above)
        return found

    def _at_once(self, copies: int) -> int:
        return max(1, LARGEST_ROWS // (copies * max(prod(node.shape) for node in self.graph)))

    def _cut(self, node: Node) -> None:
        """Intersect a box with what its affine form says."""
        side, sources = self.sides[node.name], [self._forms[name] for name in node.inputs]
        if node.op == INPUT:
            form = forms.of_input(*side.middle())
        elif node.op in AFFINE:
            form = forms.of_affine(node, sources)
        elif node.op in CURVES:
            below = self.sides[node.inputs[0]]
            slope = self.usual_slopes(node)[1]
            form = forms.of_curve(node, sources[0], slope, (below.lower, below.upper))
        else:
            form = forms.of_box(*side.middle(), prod(self.graph.input.shape))
        self._forms[node.name] = form
        self.sides[node.name] = side.cut(Sides(*form.sides()))


def _is_shift(node: Node) -> bool:
    """Whether it adds a constant to every number, none of which is there twice behind it."""
    alone = prod(node.shape) == prod(node.attributes["inputs"][0])
    return node.op == "scale" and "weight" not in node.tensors and alone and not roundings(node)


def _known(low: Tensor, high: Tensor) -> Sides:
    """What is no number says nothing; infinite bounds stay so."""
    ends = (-torch.inf, torch.inf, -torch.inf), (torch.inf, torch.inf, -torch.inf)
    return Sides(low.nan_to_num(*ends[0]), high.nan_to_num(*ends[1]))
