"""Backward passes from entries of an image, by windows for as long as these are small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from phalanx.bounds.ops import Affine, Curve, taken
from phalanx.bounds.region import DUAL, Region
from phalanx.bounds.windows import (
    Place,
    Window,
    before_conv,
    begun,
    fits,
    joined,
    laid_out,
    spread,
    wide,
)
from phalanx.graph.ir import INPUT, Node

if TYPE_CHECKING:
    from phalanx.bounds.engine import Engine


def possible(node: Node) -> bool:
    """Whether entries of the node have windows to begin with."""
    return len(node.shape) == 3 and (fits(node) or node.op == "add")


def settled_by_sign(engine: Engine, node: Node) -> bool:
    """Whether all that is asked of a node's entries is whether they can change their sign."""
    curves = [n for n in engine.readers[node.name] if not isinstance(engine.rows[n.name], Affine)]
    return all(reader.op in ("relu", "leaky-relu", "abs") for reader in curves)


class Windowed:
    """The passes of one element of an engine's region.

    Args:
        engine: with the boxes of everything before where passes begin.
        at: the element.
    """

    def __init__(self, engine: Engine, at: int) -> None:
        self.engine, self.at = engine, at
        self._tables: dict[tuple[str, Place], Tensor] = {}

    def least(self, node: Node, entry: Tensor, sign: Tensor) -> Tensor:
        """Lower bounds ``(S, 1)`` of ``sign`` times entries of a node, ``(S, 1)`` each."""
        pending = {node.name: begun(node.shape, entry.flatten(), sign.flatten())}
        summed = sign.new_zeros(len(sign))
        for before in reversed(self.engine.graph.nodes):
            window = pending.get(before.name)
            if window is None:
                continue
            if wide(window) or not self._carries(before):
                return self._rest(node, pending, summed)[:, None]
            del pending[before.name]
            found, share = self._step(before, window)
            summed = summed if share is None else summed + share
            for name in before.inputs:
                pending[name] = joined(pending[name], found) if name in pending else found
        return summed[:, None]

    def _rest(self, node: Node, pending: dict[str, Window], summed: Tensor) -> Tensor:
        """What is left of a pass, over whole images, for the rows that boxes do not settle now."""
        bounds = torch.full_like(summed, -torch.inf)
        if settled_by_sign(self.engine, node) and not self.engine.places:
            bounds = summed + sum(self._on_box(name, one) for name, one in pending.items())
        left = (~(bounds > 0)).nonzero().squeeze(1)
        if not len(left):
            return bounds
        dense = {name: self._spread(name, one.rows(left)) for name, one in pending.items()}
        found = self.engine.least(dense, summed[left][:, None], self.at)[:, 0]
        return bounds.index_put((left,), found)

    def _on_box(self, name: str, window: Window) -> Tensor:
        """The least value of rows on the box of the node they are of."""
        middle, half = self._of(window, name, "box")
        return (window.values * middle - window.values.abs() * half).flatten(1).sum(1)

    def _carries(self, node: Node) -> bool:
        engine = self.engine
        if node.op == INPUT:
            # A region with a `least` of its own (one that looks at a clock, say) is asked itself.
            return type(engine.region).least is Region.least
        if node.op == "add":
            return all(engine.nodes[name].shape == node.shape for name in node.inputs)
        if isinstance(engine.rows[node.name], Curve):  # rows with lines of their own go on whole
            return not engine.places and engine.lines(node).lower_offset is None
        return fits(node)

    def _step(self, node: Node, window: Window) -> tuple[Window, Tensor | None]:
        if node.op == INPUT:
            return window, self._on_region(node, window)
        if node.op == "add":
            return window, None
        if node.op == "conv":
            if not window.clean:
                (inside,) = self._of(window, node.name, "inside")
                window = Window(window.values * inside, window.at, window.place, window.shape)
            bias = node.tensors.get("bias")
            share = None if bias is None else window.values.sum((2, 3)) @ bias
            return before_conv(window, node), share
        slope, gap, offset = self._of(window, node.name, "lines")
        negative = window.values.clamp_max(0)
        values = window.values * slope
        values = values + negative * gap if values.requires_grad else values.addcmul_(negative, gap)
        share = (negative * offset).flatten(1).sum(1)
        return Window(values, window.at, window.place, window.shape), share

    def _on_region(self, node: Node, window: Window) -> Tensor:
        """As `Region.least`, of coefficients in a window."""
        middle, half = self._of(window, node.name, "region")
        values, region = window.values, self.engine.region
        found = (values * middle - values.abs() * half).flatten(1).sum(1)
        if region.norm == "linf":
            return found
        (centre,) = self._of(window, node.name, "centre")
        (inside,) = self._of(window, node.name, "inside")
        order = DUAL[region.norm]
        gain = region.eps * torch.linalg.vector_norm((values * inside).flatten(1), order, dim=1)
        return torch.maximum(found, (values * centre).flatten(1).sum(1) - gain)

    def _spread(self, name: str, window: Window) -> Tensor:
        count = torch.Size(window.shape).numel()
        numbers = torch.arange(1, count + 1, dtype=torch.float64).reshape(window.shape)
        return spread(window, lambda: self._table(name, "numbers", window.place, [numbers]))

    def _of(self, window: Window, name: str, what: str) -> tuple[Tensor, ...]:
        """What is said of an image, for each row in its window: ``(S, C, h, w)`` each."""
        engine, at, place = self.engine, self.at, window.place
        key = (f"{name}/{what}", place)
        if key not in self._tables:
            if what == "region":
                region = engine.region
                parts = [side[at].reshape(window.shape) for side in (region.middle, region.half)]
            elif what == "inside":
                parts = [window.values.new_ones(window.shape)]
            elif what == "centre":
                parts = [engine.region.centre[at].reshape(window.shape)]
            elif what == "box":
                box = engine.boxes[name]
                parts = [taken(side, at)[0] for side in (box.centre, box.radius)]
            else:
                lines = engine.lines(engine.nodes[name])
                offset = lines.upper_offset
                sides = [lines.lower_slope, lines.gap]
                sides.append(torch.zeros_like(sides[0]) if offset is None else offset)
                parts = [side[0 if len(side) == 1 else at] for side in sides]
            self._table(name, what, place, parts)
        rows = self._tables[key].index_select(0, window.at)
        return tuple(
            part.reshape(window.values.shape)
            for part in rows.split(window.values[0].numel(), dim=1)
        )

    def _table(self, name: str, what: str, place: Place, parts: list[Tensor]) -> Tensor:
        key = (f"{name}/{what}", place)
        if key not in self._tables:
            self._tables[key] = torch.cat([laid_out(part, place) for part in parts], 1)
        return self._tables[key]
