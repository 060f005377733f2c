"""alpha-CROWN (Xu et al. 2021): CROWN with lines that are moved until the bound is best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from phalanx.bounds.ascent import Ascent
from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.full import Full
from phalanx.bounds.ops import Box, Which, taken
from phalanx.bounds.options import Options
from phalanx.bounds.problem import Problem, methods
from phalanx.graph.ir import Node

READS = ("iterations", "step", "slopes", "enough")
"""Options of all that move lines."""
LARGEST = 1 << 28
"""Coefficients of one step of ``full``; what has more is bounded by CROWN."""


@methods.register("alpha-crown", reads=(*READS, "layers"), above="crown")
def alpha_crown(problem: Problem) -> Tensor:
    """Every row of the output has lines of its own, moved along the bound's gradient.

    Any lines give a bound, and the best one met is kept: never below CROWN's over the same boxes.
    With ``layers="layers"`` the bounds in between are optimised in the same way before, layer by
    layer, for the entries whose relaxation is not exact; with ``layers="full"`` together with the
    output's, see `phalanx.bounds.full`.
    """
    options = problem.options
    problem.trace.backward = True
    kind = _Optimising if options.layers == "layers" else Engine
    given = {} if options.layers == "layers" else problem.boxes
    engine = kind(problem.graph, problem.region, Settings(), given=given)
    if isinstance(engine, _Optimising):
        engine.options = options
    engine.bound_all()
    problem.trace.decided = problem.decide
    if options.layers == "full":
        return _in_full(problem, engine).fmax(problem.by_boxes(engine))
    problem.trace.add(engine.boxes, len(problem.region))
    if problem.decide and options.enough is None:
        options = replace(options, enough=0.0)
    begun = {problem.graph.output: problem.rows}
    kept = problem.trace.places
    found = ascended(engine, len(problem.rows), options, lambda: engine.least(begun, None), kept)
    return found.fmax(problem.by_boxes(engine))


def _in_full(problem: Problem, engine: Engine) -> Tensor:
    """Element by element; CROWN's own bounds where these are better, or memory would not do."""
    found = []
    plain = engine.least({problem.graph.output: problem.rows}, None)
    for at in range(len(problem.region)):
        if problem.decide and bool((plain[:, at] > 0).all()):
            found.append(plain[:, at])
            problem.trace.add(engine.part(at).boxes, 1)
            continue
        one = Full(problem, engine, at)
        if one.numbers > LARGEST:
            found.append(torch.full_like(problem.rows[:, 0].flatten(1)[:, 0], -torch.inf))
        else:
            found.append(one.ascended())
            problem.trace.between[at] = one.between()
        problem.trace.add(one.best, 1)
    return torch.stack(found, 1).fmax(plain)


@dataclass(eq=False)
class _Optimising(Engine):
    """An engine whose bounds in between are optimised too."""

    options: Options = field(default_factory=Options)

    def of_entries(self, node: Node, entry: Tensor, sign: Tensor, at: Which) -> Tensor:
        """The best of several passes; parameters belong to this turn's rows alone."""
        once = super().of_entries
        return ascended(self, len(entry), self.options, lambda: once(node, entry, sign, at), at=at)


def ascended(
    engine: Engine,
    count: int,
    options: Options,
    evaluate: Callable[[], Tensor],
    kept: dict[str, Tensor] | None = None,
    *,
    at: Which = None,
) -> Tensor:
    """The largest lower bounds ``(S, B)`` that ``evaluate`` gives while its lines are moved.

    Args:
        engine: with boxes of everything before where the pass begins.
        count: S, rows with parameters of their own.
        options: iterations and step.
        evaluate: the bounds with the engine's present parameters.
        kept: filled with the parameters of each row's best bound.
        at: which elements of the region the rows are for.
    """
    with torch.no_grad():
        best = evaluate()
    places = _movable(engine, count, at)
    if not places:
        return best
    ascent = Ascent(list(places.values()), options.step)
    saved = engine.places
    engine.places = places
    try:
        with torch.enable_grad():
            for step in range(options.iterations):
                found = evaluate()
                if kept is not None:
                    _keep(kept, places, found > best)
                best = best.fmax(found.detach())
                asked = best <= (torch.inf if options.enough is None else options.enough)
                if step + 1 == options.iterations or not bool(asked.any()):
                    break
                if not found.requires_grad:  # nothing that can be moved lies on the way
                    break
                ascent.climb(torch.where(asked & torch.isfinite(found), found, 0.0).sum())
    finally:
        engine.places = saved
    return best


def _keep(kept: dict[str, Tensor], places: Mapping[str, Tensor], better: Tensor) -> None:
    """Remember the parameters of rows ``(S, B)`` that are better than before."""
    for name, place in places.items():
        now = place.detach()
        chosen = better.reshape(1, *better.shape, *[1] * (now.ndim - 3))
        kept[name] = torch.where(chosen, now, kept[name]) if name in kept else now.clone()


def _movable(engine: Engine, count: int, at: Which) -> dict[str, Tensor]:
    """Parameters ``(P, S, B, *shape)`` of every curve whose input is bounded and open somewhere."""
    places = {}
    for node in engine.graph:
        row = engine.rows.get(node.name)
        if row is None or not row.parameters or node.inputs[0] not in engine.boxes:
            continue
        boxes = [engine.boxes[name] for name in node.inputs]
        if any(bool(part.any()) for part in row.loose(node, boxes)):
            own = [Box(taken(b.lower, at), taken(b.upper, at)) for b in boxes]
            begin = row.start(node, own)
            shape = (len(begin), count, *begin.shape[2:])
            places[node.name] = begin.detach().expand(shape).clone().requires_grad_(True)
    return places
