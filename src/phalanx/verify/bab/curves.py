"""Branch and bound by cutting what curves read: sigmoid, tanh, and all others that lines relax.

Where each is cut its row says (`phalanx.bounds.ops.Cut`): ReLUs at zero, sigmoid and tanh at their
turn where it lies well inside, all others in the middle. Of a few entries at which lines may cost
most it is the one whose halves are bounded best. See `Pieces` for the bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Cut
from phalanx.bounds.ops import rows as table
from phalanx.graph.ir import Graph
from phalanx.specs.property import Case
from phalanx.verdicts import Verdict
from phalanx.verify.bab.common import counterexample, worst_first
from phalanx.verify.bab.inputs import Confirm, Network, Progress
from phalanx.verify.bab.pieces import Parts, Pieces, halves, joined
from phalanx.verify.outcome import EXHAUSTED, TIMEOUT, Clock, Outcome, OutOfTime

NAME = "curve-splitting"
"""The engine's name in an outcome."""

WELL_INSIDE = 0.2
"""Of an interval's width, from both sides."""

WORTH_TRYING = 0.5
"""Entries are tried that may cost so much of what the first of them may."""

NARROWEST = 1e-9
"""An interval is not cut that is narrower, relative to its values."""

NUMBERS_AT_ONCE = 1 << 21
"""Of all values of the sub-problems that are bounded together."""

MOST_WAITING = 1 << 23
"""Numbers of sub-problems that wait, beyond which the newest go first."""


@dataclass(frozen=True)
class CurveOptions:
    """How what curves read is cut.

    Attributes:
        first: iterations of the ascent on the whole box.
        steps: likewise on every sub-problem.
        step: the first step of slopes, which lie in [0, 1].
        candidates: entries that are tried before one is cut.
        batch: sub-problems bounded at once; fewer of a large network.
        confirm: asked about every counterexample; None: it is believed.
        progress: told after every batch; None: nobody is.
    """

    first: int = 40
    steps: int = 12
    step: float = 0.1
    candidates: int = 4
    batch: int = 32
    confirm: Confirm | None = None
    progress: Callable[[Progress], None] | None = None


def split_curves(  # noqa: PLR0917 - of a search
    graph: Graph,
    case: Case,
    network: Network,
    clock: Clock,
    options: CurveOptions | None = None,
    boxes: Mapping[str, Box] | None = None,
) -> Outcome:
    """Search a case's box.

    Args:
        graph: from `prepare`, in float64.
        case: what must not happen.
        network: where counterexamples are tried.
        clock: when to stop.
        options: see `CurveOptions`.
        boxes: of all nodes on the case's box, ``(1, *shape)``; None: CROWN's.

    Returns:
        VERIFIED in ``real`` arithmetic, FALSIFIED with a witness; UNKNOWN: the time ran out, or
        nothing is left that could be cut.
    """
    with torch.no_grad():
        try:
            pieces = Pieces(graph, case, boxes, clock)
        except OutOfTime:
            return Outcome(Verdict.UNKNOWN, TIMEOUT, stats={"domains": 0})
        return _Search(pieces, network, clock, options or CurveOptions()).run()


class _Search:
    def __init__(
        self, pieces: Pieces, network: Network, clock: Clock, options: CurveOptions
    ) -> None:
        self.pieces, self.case, self.network = pieces, pieces.case, network
        self.clock, self.options = clock, options
        self.waiting = pieces.root()
        self.lowest, self.domains, self.stuck = torch.inf, 0, 0
        self.kinked, self.turning = (self._read_by(cut) for cut in (Cut.SIGN, Cut.TURN))

    def _read_by(self, cut: Cut) -> Tensor:
        """Which entries ``(T,)`` are read by curves of such a cut alone."""
        found = {n: torch.ones_like(self.pieces.boxes[n].lower) for n in self.pieces.entries}
        for node in self.pieces.curves:
            if table.get(node.op).cut is not cut:
                found[node.inputs[0]] = torch.zeros_like(found[node.inputs[0]])
        return self.pieces.gathered(found)[0] > 0

    def run(self) -> Outcome:
        """Batch by batch until nothing waits."""
        steps = self.options.first
        while len(self.waiting):
            taken = self._taken()
            try:
                witness = self._batch(taken, steps)
            except OutOfTime:
                self.waiting = joined(self.waiting, taken)
                return self._outcome(Verdict.UNKNOWN, TIMEOUT)
            steps = self.options.steps
            if witness is not None:
                return self._outcome(Verdict.FALSIFIED, NAME, witness)
            if self.options.progress is not None:
                now = (self.domains, len(self.waiting), self._lower(), self.clock.spent())
                self.options.progress(Progress(*now))
        if self.stuck:
            return self._outcome(Verdict.UNKNOWN, EXHAUSTED)
        return self._outcome(Verdict.VERIFIED, NAME)

    def _lower(self) -> float:
        bounds = self.waiting.bound
        return min(float(bounds.min()) if len(bounds) else torch.inf, self.lowest)

    def _outcome(self, verdict: Verdict, reason: str, witness: Tensor | None = None) -> Outcome:
        stats = {
            "engine": NAME,
            "domains": self.domains,
            "waiting": len(self.waiting),
            "units": len(self.pieces),
            "arithmetic": "real",
        }
        return Outcome(
            verdict, reason, witness, None if witness is not None else self._lower(), stats
        )

    def _taken(self) -> Parts:
        count = max(1, min(self.options.batch, NUMBERS_AT_ONCE // self.pieces.numbers))
        full = len(self.waiting) * max(1, len(self.pieces)) > MOST_WAITING
        taken, left = worst_first(self.waiting.bound, count, full=full)
        chosen, self.waiting = self.waiting[taken], self.waiting[left]
        return chosen

    def _batch(self, taken: Parts, steps: int) -> Tensor | None:
        """Bound, close what is above zero, try points, cut the others."""
        found = self.pieces.bounded(taken, steps, self.options.step)
        self.domains += len(taken)
        bound = found.least.fmax(taken.bound)
        closed = bound > 0
        self.lowest = min(
            self.lowest, float(bound[closed].min()) if bool(closed.any()) else torch.inf
        )
        left = (~closed).nonzero().squeeze(1)
        if not len(left):
            return None
        points = found.point[left]
        witness = counterexample(points, self.case, self.network, self.options.confirm)
        if witness is None:
            now = Parts(found.lower[left], found.upper[left], bound[left], taken.cuts[left])
            self._cut(now, found.gaps[left])
        return witness

    def _cut(self, parts: Parts, gaps: Tensor) -> None:
        """In two, where that promises most."""
        places = self._places(parts)
        scale = 1 + parts.lower.abs().maximum(parts.upper.abs())
        inside = (places > parts.lower) & (places < parts.upper)
        can = inside & (parts.upper - parts.lower > NARROWEST * scale)
        scores = torch.where(can, gaps, -torch.inf)
        possible = can.any(1)
        if not bool(possible.all()):
            self.stuck += int((~possible).sum())
            self.lowest = min(self.lowest, float(parts.bound[~possible].min()))
        parts, places, scores = parts[possible], places[possible], scores[possible]
        if not len(parts):
            return
        tries = scores.topk(min(self.options.candidates, scores.shape[1]), dim=1)
        worth = tries.values >= WORTH_TRYING * tries.values[:, :1]
        gains = [self._gain(parts, at, places) for at in tries.indices.T]
        gains = [torch.where(w, g, -torch.inf) for g, w in zip(gains, worth.T, strict=True)]
        chosen = torch.stack(gains, 1).argmax(1, keepdim=True)
        at = tries.indices.gather(1, chosen).squeeze(1)
        here = torch.arange(len(parts))
        self.waiting = joined(self.waiting, halves(parts, at, places[here, at]))

    def _places(self, parts: Parts) -> Tensor:
        """Where each entry would be cut ``(D, T)``."""
        middle = (parts.lower + parts.upper) / 2
        room = WELL_INSIDE * (parts.upper - parts.lower)
        well = (parts.lower + room < 0) & (parts.upper - room > 0)
        return torch.where(self.kinked | (self.turning & well), 0.0, middle)

    def _gain(self, parts: Parts, at: Tensor, places: Tensor) -> Tensor:
        """The worse of both halves' bounds, before any ascent; ``(D,)``."""
        here = torch.arange(len(parts))
        both = halves(parts, at, places[here, at])
        found = self.pieces.bounded(both, 0, self.options.step).least
        first, second = found.split(len(parts))
        return torch.minimum(first, second)
