"""alpha-CROWN in full (Xu et al. 2021): the output's bounds, optimised through all bounds before.

Lines on the way from the output are moved, and so are those on the way from every entry in between
whose sign is open: their boxes are bounded anew in each step, and what that does to the output's
bounds is part of the gradient. An element of the batch is optimised alone, over the few entries
that are open in its own region.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from phalanx.bounds.ascent import Ascent
from phalanx.bounds.engine import Engine
from phalanx.bounds.ops import Box
from phalanx.bounds.ops import rows as table
from phalanx.bounds.problem import Between, Problem
from phalanx.graph.ir import INPUT, Node

Places = dict[str, Tensor]


class Full:
    """One element's bounds, and the parameters of all passes that lead to them.

    Args:
        problem: what is asked.
        engine: with CROWN's boxes of all values.
        at: the element.
    """

    def __init__(self, problem: Problem, engine: Engine, at: int) -> None:
        self.graph, self.options, self.go_on = problem.graph, problem.options, problem.go_on
        self.base = engine.part(at)
        self.rows = problem.rows[:, at : at + 1]
        self.decide = problem.decide
        self.enough: Tensor | float | None = self.options.enough
        if problem.enough is not None:
            self.enough = problem.enough[:, at]
        self.boxes = dict(self.base.boxes)
        self.best = dict(self.boxes)
        self.open = {
            node.name: mask[0].nonzero().squeeze(1)
            for node in self.graph
            if node.name not in engine.exact
            and (mask := engine.wanted(node, self.boxes[node.name])) is not None
            and bool(mask.any())
        }
        shared = self.options.slopes == "shared"
        self.places = {
            name: self._begin(name, 2 if shared else 2 * len(entry))
            for name, entry in self.open.items()
        }
        self.places[""] = self._begin(None, len(self.rows))
        self.kept: dict[str, Places] = {name: {} for name in self.places}

    @property
    def numbers(self) -> int:
        """How many coefficients one step makes; as many again for each of its gradients."""
        found, before = 0, 0
        for node in self.graph:
            if node.name in self.open:
                found += 2 * len(self.open[node.name]) * before
            before += torch.Size(node.shape).numel()
        return found + len(self.rows) * before

    def _begin(self, name: str | None, count: int) -> Places:
        """Parameters ``(P, count, 1, *shape)`` of the open curves before a node; None: of all."""
        found: Places = {}
        for node in self.graph:
            if node.name == name:
                break
            row = table.get(node.op) if node.op != INPUT else None
            if row is None or not row.parameters:
                continue
            boxes = [self.boxes[name] for name in node.inputs]
            if any(bool(part.any()) for part in row.loose(node, boxes)):
                begin = row.start(node, boxes).detach()
                found[node.name] = begin.expand(-1, count, *begin.shape[2:]).clone()
                found[node.name].requires_grad_(True)
        return found

    def ascended(self) -> Tensor:
        """The best lower bounds ``(S,)`` of all iterations."""
        best = self.rows.new_full((len(self.rows),), -torch.inf)
        every = [place for places in self.places.values() for place in places.values()]
        ascent = Ascent(every, self.options.step)
        for step in range(self.options.iterations):
            with torch.set_grad_enabled(step + 1 < self.options.iterations):
                found = self._evaluate()
            self._keep("", found.detach() > best, self.places[""])
            best = best.fmax(found.detach())
            asked = torch.ones_like(best)
            if self.enough is not None:
                asked = (best <= self.enough).to(best.dtype)
            # Rows share their lines: until all are above zero each of them counts.
            done = not bool(asked.any()) or (self.decide and bool((best > 0).all()))
            if not every or step + 1 == self.options.iterations or done:
                break
            with torch.enable_grad():
                ascent.climb((torch.where(torch.isfinite(found), found, 0.0) * asked).sum())
            if self.go_on is not None and not self.go_on():
                break
        if every:
            with torch.no_grad():
                last = self._output(self.base.renewed(self.best), self.kept[""])
            best = best.fmax(last)
        return best

    def _evaluate(self) -> Tensor:
        """The output's rows, over boxes that are bounded anew on the way."""
        engine = self.base.renewed({})
        for node in self.graph:
            box = engine.boxes[node.name] = self.boxes[node.name]
            if node.name in self.open:
                engine.boxes[node.name] = self._bounded(engine, node, box)
        return self._output(engine, self.places[""])

    def _output(self, engine: Engine, places: Mapping[str, Tensor]) -> Tensor:
        engine.places = places
        return engine.least({self.graph.output: self.rows}, None)[:, 0]

    def _bounded(self, engine: Engine, node: Node, box: Box) -> Box:
        """The box with its open entries bounded by the present lines, CROWN's where better."""
        entry, places = self.open[node.name], self.places[node.name]
        count = len(entry)
        engine.places = {name: spread_over(place, count) for name, place in places.items()}
        both = torch.cat([entry, entry])[:, None]
        sign = torch.ones(2 * count, 1, dtype=box.lower.dtype)
        sign[count:] = -1
        found = engine.of_entries(node, both, sign, None)[:, 0]
        best = self.best[node.name]
        before = torch.cat([best.lower.flatten()[entry], -best.upper.flatten()[entry]])
        now = found.detach()
        self._keep(node.name, now > before, engine.places)
        self.best[node.name] = _with(best, entry, before.fmax(now))
        crown = torch.cat([box.lower.flatten()[entry], -box.upper.flatten()[entry]])
        # As large as the better of the two, its gradient that of the new one.
        return _with(box, entry, found + (crown - found).detach().clamp_min(0))

    def _keep(self, name: str, better: Tensor, places: Mapping[str, Tensor]) -> None:
        """Remember the parameters of rows ``(R,)`` that are better than before."""
        kept = self.kept[name]
        if kept and not bool(better.any()):
            return
        for curve, place in places.items():
            now = place.detach()
            chosen = better.reshape(1, -1, *[1] * (now.ndim - 2))
            kept[curve] = torch.where(chosen, now, kept[curve]) if curve in kept else now.clone()

    def between(self) -> dict[str, Between]:
        """How the boxes on the way were found; under the output's name, its rows."""
        found = {name: Between(entry, self.kept[name]) for name, entry in self.open.items()}
        found[self.graph.output] = Between(torch.arange(len(self.rows)), self.kept[""])
        return found


def spread_over(place: Tensor, count: int) -> Tensor:
    """Parameters of rows, where those of a side have them in common: ``(P, 2 count, ...)``.

    >>> spread_over(torch.tensor([[1.0, 2.0]]), 2).tolist()
    [[1.0, 1.0, 2.0, 2.0]]
    """
    return place if place.shape[1] == 2 * count else place.repeat_interleave(count, 1)


def _with(box: Box, entry: Tensor, found: Tensor) -> Box:
    """The box with other bounds of some entries: below, then above and negated."""
    count, shape = len(entry), box.lower.shape
    low = box.lower.flatten().index_put((entry,), found[:count])
    high = box.upper.flatten().index_put((entry,), -found[count:])
    return Box(low.minimum(high).reshape(shape), low.maximum(high).reshape(shape))
