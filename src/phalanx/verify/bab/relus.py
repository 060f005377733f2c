"""Branch and bound by deciding the signs of ReLUs (beta-CROWN, Wang et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from phalanx.bounds.outward.affine import AFFINE
from phalanx.graph.ir import CONSTANT, INPUT, Graph
from phalanx.specs.property import Case
from phalanx.verdicts import Verdict
from phalanx.verify.bab.ascent import Ascent, Climbed, Steps
from phalanx.verify.bab.common import counterexample, worst_first
from phalanx.verify.bab.inputs import Confirm, Network, Progress
from phalanx.verify.bab.leaf import solved
from phalanx.verify.bab.learnt import Learnt, with_fewer_signs
from phalanx.verify.bab.outward import Counted
from phalanx.verify.bab.proved import Proved
from phalanx.verify.bab.scores import babsr, gaps
from phalanx.verify.bab.splits import Domains, halves, root, together
from phalanx.verify.bab.whole import Whole, on_whole_box
from phalanx.verify.outcome import CLOSING, EXHAUSTED, TIMEOUT, Clock, Outcome, OutOfTime
from phalanx.verify.proof.passes import net_of

NAME = "relu-splitting"
"""The engine's name in an outcome."""

LONGEST = 1.5
"""Seconds that a batch may take; its passes look at the clock."""

COPIES, NUMBERS_AT_ONCE = 12, 1 << 20
BYTES_WAITING = 1 << 29


@dataclass(frozen=True)
class ReluOptions:
    """How signs are searched.

    Attributes:
        first: the ascent on the whole box.
        steps: the ascent on every sub-problem.
        candidates: units that are tried before one is split.
        batch: sub-problems bounded at once; None: by the size of the network.
        confirm: asked about every counterexample; None: it is believed.
        progress: told after every batch; None: nobody is.
        proof: close what a proof's checker closes, and keep how.
    """

    first: Steps = field(default_factory=lambda: Steps(iterations=40))
    steps: Steps = field(default_factory=Steps)
    candidates: int = 3
    batch: int | None = None
    confirm: Confirm | None = None
    progress: Callable[[Progress], None] | None = None
    proof: bool = False


def split_relus(  # noqa: PLR0917 - of a search
    graph: Graph,
    case: Case,
    network: Network,
    clock: Clock,
    options: ReluOptions | None = None,
    known: Whole | None = None,
) -> Outcome:
    """Search a case's box.

    Args:
        graph: from `prepare`, in float64.
        case: what must not happen.
        network: where counterexamples are tried.
        clock: when to stop.
        options: see `ReluOptions`.
        known: of this box, where other cases of it have asked before.

    Returns:
        VERIFIED in ``outward`` arithmetic: every sub-problem has a bound that is above zero with
        all roundings counted. FALSIFIED with a witness. UNKNOWN: the time ran out, or what is left
        has no ReLU to decide.
    """
    other = next((n for n in graph if n.op not in (INPUT, CONSTANT, "relu", *AFFINE)), None)
    if other is not None:
        return Outcome(Verdict.UNKNOWN, f"only ReLUs are split, and {other.name!r} is {other.op}")
    try:
        if known is None:
            net = net_of(graph) if options is not None and options.proof else None
            known = on_whole_box(graph, case, clock).checked_by(net, graph, case)
        return _Search(graph, case, network, clock, options or ReluOptions(), known).run()
    except OutOfTime:
        return Outcome(Verdict.UNKNOWN, TIMEOUT)


class _Search:
    def __init__(  # noqa: PLR0917 - of a search
        self,
        graph: Graph,
        case: Case,
        network: Network,
        clock: Clock,
        options: ReluOptions,
        known: Whole,
    ) -> None:
        self.graph, self.case, self.network = graph, case, network
        self.clock, self.options = clock, options
        self.known, self.units = known, known.units
        base = known.compacted(graph, case, clock)
        self.quick = Ascent(graph, case, self.units, clock, base=base, kind=torch.float32)
        self.closer: Counted | Proved | None = None
        self.counting = 0.0
        self.lows, self.highs = (s.float() for s in self._sides())
        numbers = len(base.free) + COPIES * max(1, len(self.units))
        self.batch = options.batch or max(16, min(512, NUMBERS_AT_ONCE // numbers))
        self.domains, self.stuck, self.leaves = 0, 0, 0
        self.learnt = Learnt(len(self.units))
        self.pace, self.lowest = 0.0, float("inf")
        self.waiting = self._first()
        self.open = self.waiting[:0]

    def _sides(self) -> tuple[Tensor, Tensor]:
        if not len(self.units):
            return torch.zeros(0), torch.zeros(0)
        return self.units.sides(torch.float64)

    def _first(self) -> Domains:
        start = (self.highs > -self.lows).float()
        return root(len(self.units), start, len(self.case.offset))

    def run(self) -> Outcome:
        """Batch by batch until nothing waits."""
        steps = self.options.first
        try:
            while len(self.waiting):
                begun, taken = self.clock.spent(), self.learnt.applied(self._taken())
                if not len(taken):
                    continue
                self.open = taken
                witness = self._batch(taken, steps)
                steps, self.open = self.options.steps, taken[:0]
                self.pace = (self.clock.spent() - begun) / len(taken)
                if witness is not None:
                    return self._outcome(Verdict.FALSIFIED, NAME, witness)
                if self.options.progress is not None:
                    now = (self.domains, len(self.waiting), self._lower(), self.clock.spent())
                    self.options.progress(Progress(*now))
        except OutOfTime:
            self.waiting = together(self.waiting, self.open)
            return self._outcome(Verdict.UNKNOWN, TIMEOUT)
        if self.stuck:
            return self._outcome(Verdict.UNKNOWN, EXHAUSTED)
        return self._outcome(Verdict.VERIFIED, NAME)

    def _lower(self) -> float:
        bounds = self.waiting.bound
        return min(float(bounds.min()) if len(bounds) else float("inf"), self.lowest)

    def _outcome(self, verdict: Verdict, reason: str, witness: Tensor | None = None) -> Outcome:
        stats = {
            "engine": NAME,
            "domains": self.domains,
            "waiting": len(self.waiting),
            "programs": self.leaves,
            "units": len(self.units),
            "learnt": len(self.learnt),
            "arithmetic": "outward",
            CLOSING: round(self.counting, 3),
        }
        lower = None if witness is not None else self._lower()
        evidence = None
        if verdict is Verdict.VERIFIED and isinstance(self.closer, Proved):
            evidence = self.closer.evidence()
        return Outcome(verdict, reason, witness, lower, stats, evidence)

    def _taken(self) -> Domains:
        """The worst of those that wait; where they fill the memory, the newest."""
        count = self.batch
        if self.pace * count > LONGEST:
            count = max(1, int(LONGEST / self.pace))
        full = len(self.waiting) * max(1, len(self.units)) * 5 > BYTES_WAITING
        index, left = worst_first(self.waiting.bound, count, full=full)
        taken, self.waiting = self.waiting[index], self.waiting[left]
        return taken

    def _batch(self, taken: Domains, steps: Steps) -> Tensor | None:
        """Bound sub-problems, close those above zero, try points, split the others."""
        found = self.quick.climb(taken, steps)
        self.domains += len(taken)
        now = Domains(
            taken.signs,
            found.alpha.to(torch.float16),
            found.beta.to(torch.float16),
            found.weights.float(),
            torch.maximum(found.bound.float(), taken.bound),
        )
        closed = self._closed(now, found)
        left = (~closed).nonzero().squeeze(1)
        if not len(left):
            return None
        witness = self._tried(self.quick.inputs(found.point[left]))
        if witness is not None:
            return witness
        now, met, read = now[left], found.met[left], found.read[left]
        whole = (now.signs != 0).all(1)
        for index in whole.nonzero().squeeze(1).tolist():
            witness = self._leaf(now.signs[index])
            if witness is not None:
                return witness
        rest = (~whole).nonzero().squeeze(1)
        if len(rest):
            self._split(now[rest], met[rest], read[rest])
        return None

    def _closed(self, now: Domains, found: Climbed) -> Tensor:
        """Which bounds are above zero with every rounding counted too."""
        closed = torch.zeros(len(now), dtype=torch.bool)
        above = (found.bound > 0).nonzero().squeeze(1)
        if len(above) and not self.options.proof:  # whose checker asks for the leaves of a tree
            closed[above] = self._learn(now[above], found.at(above))
            above = above[~closed[above]]
        if len(above):
            shares = torch.softmax(found.weights[above].double(), 1)
            parts = (now.signs[above], found.alpha[above], found.beta[above], shares)
            closed[above] = self._counted(*parts)
        return closed

    def _learn(self, now: Domains, found: Climbed) -> Tensor:
        """Which are closed already with fewer of their signs; these are kept for all others."""
        smaller, closed = with_fewer_signs(self.quick, now, found, (self.lows, self.highs))
        at = closed.nonzero().squeeze(1)
        if len(at):
            some = smaller[at]
            shares = torch.softmax(some.weights.double(), 1)
            closed[at] = self._counted(some.signs, some.alpha, some.beta, shares)
            self.learnt.add(smaller.signs[closed])
        return closed

    def _counted(self, signs: Tensor, alpha: Tensor, beta: Tensor, shares: Tensor) -> Tensor:
        """Whether sub-problems are closed ``(D,)``; see `Counted.least`."""
        begun = self.clock.spent()
        if self.closer is None:
            self.closer = self.known.closer(self.graph, self.case, self.clock)
        lower = self.closer.least(signs, alpha, beta, shares)
        self.counting += self.clock.spent() - begun
        closed = lower > 0
        # The largest row is at least the mean; of a sub-problem without inputs nothing is said.
        scaled = torch.where(closed, lower / shares.double().clamp_min(0).sum(1), torch.inf)
        self.lowest = min(self.lowest, float(scaled.min()))
        return closed

    def _leaf(self, signs: Tensor) -> Tensor | None:
        self.leaves += 1
        if self.clock.expired():
            raise OutOfTime
        leaf = solved(self.graph, self.case, self.units, signs)
        none = torch.zeros(1, len(signs))
        if bool(self._counted(signs[None], none, leaf.beta[None], leaf.shares[None])):
            return None
        witness = None if leaf.point is None else self._tried(leaf.point[None])
        if witness is None:
            self.stuck += 1
            self.lowest = -torch.inf
        return witness

    def _tried(self, points: Tensor) -> Tensor | None:
        """A point on which the network is wrong, or None."""
        return counterexample(points, self.case, self.network, self.options.confirm)

    def _split(self, domains: Domains, met: Tensor, read: Tensor) -> None:
        """Decide one more unit of each, the most promising of a few that are tried."""
        scores = babsr(domains, met, self.lows, self.highs)
        count = min(self.options.candidates, scores.shape[1])
        costs = gaps(domains, met, read, self.lows, self.highs)
        tries = torch.cat([costs.topk(count, dim=1).indices, scores.topk(count, dim=1).indices], 1)
        count = tries.shape[1]
        at = tries[:, 0]
        if count > 1:
            gains = [self._gain(domains, tries[:, index]) for index in range(count)]
            at = tries.gather(1, torch.stack(gains, 1).argmax(1, keepdim=True)).squeeze(1)
        # An open unit has no finite score only where it has none at all; then any is as good.
        open_ = (domains.signs == 0).float()
        here = torch.arange(len(domains))
        at = torch.where(open_[here, at] > 0, at, open_.argmax(1))
        self.waiting = together(self.waiting, halves(domains, at))

    def _gain(self, domains: Domains, at: Tensor) -> Tensor:
        """The worse of both halves' bounds, before any ascent; ``(D,)``."""
        bound = self.quick.once(halves(domains, at))
        on, off = bound[: len(domains)].clamp_max(0), bound[len(domains) :].clamp_max(0)
        open_ = domains.signs[torch.arange(len(domains)), at] == 0
        worse, other = torch.minimum(on, off), torch.maximum(on, off)
        return torch.where(open_, worse + 0.1 * other, -torch.inf)
