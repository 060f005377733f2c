"""Branch and bound by splitting the box of inputs, for few inputs that can move.

Every box is bounded by linear functions of its inputs, one below each row. A row that is positive
everywhere in a box refutes its case there. Otherwise a counterexample satisfies ``A x + d <= 0``
for every row of its case, which cuts the box (De Palma et al. 2024, Clip-and-Verify, do the same);
points where the functions are least are tried on the network; and what is left is cut in two, along
the input from which the worst row's bound suffers most: by the function's own slope, and by the
share that it has in the widths of the curves whose relaxation costs the bound something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from phalanx.bounds.outward.rounding import down, gamma, up
from phalanx.verdicts import Verdict
from phalanx.verify.bab.cases import Cases
from phalanx.verify.bab.cuts import Cuts
from phalanx.verify.bab.pool import Boxes, Pool
from phalanx.verify.bab.walk import Linear
from phalanx.verify.outcome import EXHAUSTED, TIMEOUT, Clock, Outcome

NAME = "input-splitting"
"""The engine's name in an outcome."""


class Bounder(Protocol):
    """Who bounds the rows on a batch of boxes.

    Attributes:
        free: which flat inputs are bounded, ``(n0,)``; all others are the same in every box.
        arithmetic: ``outward``: no rounding breaks its bounds; else ``real``.
        batch: how many boxes it likes at once.
    """

    free: Tensor
    arithmetic: str
    batch: int

    def least(
        self, lower: Tensor, upper: Tensor, rows: Tensor, inputs: Tensor | None, offset: Tensor
    ) -> Linear:
        """See `Walk.least`: boxes ``(B, n0)``, rows ``(S, B, m)``."""


ROUNDS = 3
"""How often the rows of a case cut each other's boxes."""

LONGEST = 0.4
"""Seconds that a batch may take."""

PATIENCE, SHARE, DRAWN = 1.0, 0.3, 1 << 14
"""After so many seconds a share of the time goes to random points, so many at once: where outputs
lie close together, corners, centres and descents may miss what blind search soon finds."""

Network = Callable[[Tensor], Tensor]
"""Outputs ``(B, m)`` for flat inputs ``(B, n)``, in the network's own type."""
Confirm = Callable[[Tensor], bool]
"""Whether somebody else finds a flat input ``(n,)`` to be a counterexample too."""


@dataclass(frozen=True)
class Progress:
    """Where a search stands.

    Attributes:
        domains: boxes or sub-problems bounded so far.
        waiting: of them not yet bounded.
        lower: the best global bound.
        seconds: since the clock was started.
    """

    domains: int
    waiting: int
    lower: float
    seconds: float


@dataclass(frozen=True)
class InputOptions:
    """How boxes are searched.

    Attributes:
        batch: boxes bounded at once; None: what the bounder likes.
        waiting: boxes that may wait before the search turns depth first.
        narrowest: a box is not cut along an input narrower than this times its width at first.
        seed: of random points.
        confirm: asked about every counterexample; None: it is believed.
        progress: told after every batch; None: nobody is.
        proof: keep the tree of cuts (of one case).
    """

    batch: int | None = None
    waiting: int = 1 << 17
    narrowest: float = 1e-12
    seed: int = 0
    confirm: Confirm | None = None
    progress: Callable[[Progress], None] | None = None
    proof: bool = False


def split_inputs(
    cases: Cases,
    bounder: Bounder,
    network: Network,
    clock: Clock,
    options: InputOptions | None = None,
) -> Outcome:
    """Search all boxes of the cases.

    Returns:
        VERIFIED where no case has a counterexample, FALSIFIED with one (float32 numbers in the
        box, where there are any), else UNKNOWN: the time ran out, or boxes that cannot be cut
        are left.
    """
    with torch.no_grad():
        return _Search(cases, bounder, network, clock, options or InputOptions()).run()


class _Search:
    def __init__(
        self,
        cases: Cases,
        bounder: Bounder,
        network: Network,
        clock: Clock,
        options: InputOptions,
    ) -> None:
        self.cases, self.bounder, self.network = cases, bounder, network
        self.clock, self.options = clock, options
        free = bounder.free
        groups = len(cases.offset)
        first = Boxes(
            cases.lower[:, free],
            cases.upper[:, free],
            torch.arange(groups),
            ~cases.real,
            torch.full((groups,), -torch.inf, dtype=torch.float64),
            torch.zeros(groups, dtype=torch.float64),
            torch.arange(groups),
        )
        self.cuts = Cuts(free, groups) if options.proof else None
        self.width = (first.upper - first.lower).clamp_min(torch.finfo(torch.float64).tiny)
        self.pool = Pool(first, options.waiting)
        self.domains, self.stuck, self.closed = 0, 0, torch.inf
        self.inputs = None if cases.inputs is None else cases.inputs[..., free]
        self.offset = cases.offset if cases.inputs is None else _with_fixed(cases, free)
        self.pace, self.drawing = 0.0, 0.0
        self.generator = torch.Generator().manual_seed(options.seed)

    def run(self) -> Outcome:
        """Batch by batch until nothing waits."""
        while len(self.pool):
            if self.clock.expired():
                return self._outcome(Verdict.UNKNOWN, TIMEOUT)
            begun, boxes = self.clock.spent(), self.pool.pop(self._count())
            witness = self._batch(boxes)
            if witness is None:
                witness = self._drawn(boxes.group)
            self.pace = (self.clock.spent() - begun) / len(boxes)
            if witness is not None:
                return self._outcome(Verdict.FALSIFIED, NAME, witness)
            if self.options.progress is not None:
                now = Progress(self.domains, len(self.pool), self._lowest(), self.clock.spent())
                self.options.progress(now)
        if self.stuck:
            return self._outcome(Verdict.UNKNOWN, EXHAUSTED)
        return self._outcome(Verdict.VERIFIED, NAME)

    def _drawn(self, groups: Tensor) -> Tensor | None:
        """A counterexample among random points of whole boxes, once the search takes long."""
        while (spent := self.clock.spent()) > PATIENCE and self.drawing < SHARE * spent:
            if self.clock.expired():
                return None
            begun = self.clock.spent()
            group = groups[torch.randint(len(groups), (DRAWN,), generator=self.generator)]
            lower, upper = self.cases.lower[group], self.cases.upper[group]
            part = torch.rand(lower.shape, generator=self.generator, dtype=torch.float64)
            points, answers = self._answered(lower + (upper - lower) * part, group)
            self.drawing += self.clock.spent() - begun
            found = self._confirmed(points, answers, group)
            if found is not None:
                return found
        return None

    def _count(self) -> int:
        """So many boxes that the clock is looked at often enough."""
        most = self.options.batch or self.bounder.batch
        return most if self.pace * most <= LONGEST else max(1, int(LONGEST / self.pace))

    def _lowest(self) -> float:
        return min(self.pool.lowest(), self.closed)

    def _outcome(self, verdict: Verdict, reason: str, witness: Tensor | None = None) -> Outcome:
        lower = None if witness is not None else self._lowest()
        stats: dict[str, Any] = {
            "engine": NAME,
            "domains": self.domains,
            "waiting": len(self.pool),
            "unsplit": self.stuck,
            "arithmetic": self.bounder.arithmetic,
        }
        evidence = None
        if verdict is Verdict.VERIFIED and self.cuts is not None and self.cases.real.sum() == 1:
            evidence = self.cuts.tree()
        return Outcome(verdict, reason, witness, lower, stats, evidence)

    def _batch(self, boxes: Boxes) -> Tensor | None:
        """Bound, refute, try points, cut and put back; a counterexample ends it."""
        linear = self._bounded(boxes)
        self.domains += len(boxes)
        size = self.offset.shape[1:]
        lower = linear.lower.T.unflatten(1, size)  # (B, K, J)
        slopes = linear.coefficients.transpose(0, 1).unflatten(1, size)  # (B, K, J, n0)
        best, row = lower.max(2)
        refuted = boxes.refuted | (best > 0)
        constant = linear.constant.T.unflatten(1, size)
        low, high, empty = _clipped(boxes, constant, slopes, refuted)
        refuted = refuted | empty
        bound, case = torch.where(refuted, torch.inf, best).min(1)
        left = (~refuted.all(1)).nonzero().squeeze(1)
        done = torch.where(refuted & ~boxes.refuted, best, torch.inf).amin()
        # Of what is cut off no more is known than that the largest row is above zero there.
        cut = bool(((low > boxes.lower) | (high < boxes.upper))[left].any())
        self.closed = min(self.closed, 0.0 if cut else float(done.clamp_min(0)))
        if not len(left):
            return None
        worst = slopes[left, case[left], row[left, case[left]]]
        pull = linear.pull.transpose(0, 1).unflatten(1, size)
        pull = pull[left, case[left], row[left, case[left]]]
        witness, value = self._tried(boxes[left], worst)
        if witness is None:
            kept = (low[left], high[left], boxes.group[left], refuted[left], bound[left], value)
            self._cut(Boxes(*kept, boxes.number[left]), pull)
        return witness

    def _bounded(self, boxes: Boxes) -> Linear:
        outputs = self.cases.outputs[boxes.group].flatten(1, 2).transpose(0, 1)
        offset = self.offset[boxes.group].flatten(1).T
        inputs = self.inputs
        if inputs is not None:
            inputs = inputs[boxes.group].flatten(1, 2).transpose(0, 1)
        found = self.bounder.least(boxes.lower, boxes.upper, outputs, inputs, offset)
        return _known(found)

    def _cut(self, boxes: Boxes, pull: Tensor) -> None:
        """In two, along the input that the worst row's bound suffers from most."""
        width = boxes.upper - boxes.lower
        middle = boxes.lower + width / 2
        can = (middle > boxes.lower) & (middle < boxes.upper)
        can &= width > self.options.narrowest * self.width[boxes.group]
        gain = torch.where(can, pull, -1.0)
        # A row that depends on no input tells nothing: then the relatively widest is cut.
        flat = torch.where(can, width / self.width[boxes.group], -1.0)
        gain = torch.where((gain > 0).any(1, keepdim=True), gain, flat)
        at = gain.argmax(1) if gain.shape[1] else torch.zeros(len(boxes), dtype=torch.long)
        possible = can.any(1)
        self.stuck += int((~possible).sum())
        if not bool(possible.all()):
            self.closed = min(self.closed, float(boxes.bound[~possible].min()))
        boxes, at, middle = boxes[possible], at[possible], middle[possible]
        if not len(boxes):
            return
        here = torch.arange(len(boxes))
        lower, upper = boxes.lower.clone(), boxes.upper.clone()
        upper[here, at] = lower[here, at] = middle[here, at]
        rest = (boxes.group, boxes.refuted, boxes.bound, boxes.near)
        numbers = boxes.number, boxes.number
        if self.cuts is not None:
            numbers = self.cuts.cut(boxes.number, at, middle[here, at])
        self.pool.push(Boxes(boxes.lower, upper, *rest, numbers[0]))
        self.pool.push(Boxes(lower, boxes.upper, *rest, numbers[1]))

    def _tried(self, boxes: Boxes, slopes: Tensor) -> tuple[Tensor | None, Tensor]:
        """The corner where the worst row's function is least, and the centre, on the network.

        Returns:
            A counterexample, and how near each box came to one: the least value ``(B,)``, of
            its two points and all cases, of the largest row.
        """
        free, group = self.bounder.free, boxes.group.repeat(2)
        corner = torch.where(slopes > 0, boxes.lower, boxes.upper)
        points = self.cases.lower[group].clone()
        points[:, free] = torch.cat([corner, (boxes.lower + boxes.upper) / 2])
        points, answers = self._answered(points, group)
        near = self.cases.nearest(group, points, answers).reshape(2, -1).amin(0)
        return self._confirmed(points, answers, group), near

    def _answered(self, points: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        points = inward(points, self.cases.lower[group], self.cases.upper[group])
        return points, self.network(points)

    def _confirmed(self, points: Tensor, answers: Tensor, group: Tensor) -> Tensor | None:
        """The first counterexample that somebody else believes."""
        unsafe = self.cases.unsafe(group, points, answers)
        for index in unsafe.nonzero().squeeze(1).tolist():
            found = points[index]
            if self.options.confirm is None or self.options.confirm(found):
                return found
        return None


def _known(found: Linear) -> Linear:
    """NaN says nothing: no bound, and a function without slopes far below everything.

    Neither does infinity above, which came of an overflow: no box that is asked about is empty.
    """
    slopes, none = found.coefficients, -torch.inf
    bad = ~torch.isfinite(slopes).all(2) | ~(found.constant < torch.inf)
    return Linear(
        slopes.masked_fill(bad.unsqueeze(2), 0.0),
        found.constant.masked_fill(bad, none),
        found.lower.nan_to_num(none, none, none),
        found.doubt,
        found.pull.nan_to_num(0.0, 0.0, 0.0),
    )


def _with_fixed(cases: Cases, free: Tensor) -> Tensor:
    """Offsets ``(G, K, J)`` with what inputs add that cannot move, rounded down."""
    if cases.inputs is None:
        return cases.offset
    fixed = cases.lower.clone()
    fixed[:, free] = 0.0
    parts = cases.inputs * fixed[:, None, None]
    size = parts.abs().sum(3) + cases.offset.abs()
    found = cases.offset + parts.sum(3) - gamma(parts.shape[3] + 4) * size
    # Cases whose rows read no input are left as they are, rows that fill up among them.
    return torch.where(size > cases.offset.abs(), down(found), cases.offset)


def inward(points: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Float64 points of a box, moved to float32 numbers inside it where there are any.

    >>> third = torch.tensor([1 / 3], dtype=torch.float64)
    >>> bool(inward(third, third, third + 1) >= third)
    True
    """
    near = points.clamp(lower, upper).float()
    near = torch.where(near.double() < lower, torch.nextafter(near, near + torch.inf), near)
    near = torch.where(near.double() > upper, torch.nextafter(near, near - torch.inf), near)
    found = near.double()
    return torch.where((found >= lower) & (found <= upper), found, points.clamp(lower, upper))


def _clipped(
    boxes: Boxes, constant: Tensor, slopes: Tensor, refuted: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes cut by what a counterexample must satisfy; and cases ``(B, K)`` that it leaves empty.

    A row's function rises by ``|A_j| t`` at distance t from the side where it is least, so no
    counterexample is further from that side than minus its least value, divided by ``|A_j|``. What
    one row cuts off makes the least value of others larger, so there are several rounds. All cuts
    are in float64 and moved outward by more than their rounding.
    """
    shape = slopes.shape[:2]
    low = boxes.lower[:, None].expand(*shape, -1)
    high = boxes.upper[:, None].expand(*shape, -1)
    empty = refuted
    loss = 2.0**-48 * (slopes.shape[3] + 4)
    for _ in range(ROUNDS):
        most = torch.maximum(low.abs(), high.abs()).unsqueeze(2)
        reach = torch.minimum(slopes * low.unsqueeze(2), slopes * high.unsqueeze(2)).sum(3)
        off = loss * ((slopes.abs() * most).sum(3) + constant.abs())
        room = (off - (constant + reach)).clamp_min(0).unsqueeze(3) / slopes.abs()
        room = up(room * (1 + loss)).nan_to_num(torch.inf, torch.inf)
        tops, bottoms = up(low.unsqueeze(2) + room), down(high.unsqueeze(2) - room)
        empty = empty | (constant + reach > off).any(2)
        high = torch.where(slopes > 0, tops, torch.inf).amin(2).minimum(high)
        low = torch.where(slopes < 0, bottoms, -torch.inf).amax(2).maximum(low)
        empty = empty | (low > high).any(2)
        # What is empty has no sides to go on with.
        gone = empty.unsqueeze(2)
        low = torch.where(gone, boxes.lower[:, None], low)
        high = torch.where(gone, boxes.upper[:, None], high)
    out = empty.unsqueeze(2)
    low = torch.where(out, torch.inf, low).amin(1)
    high = torch.where(out, -torch.inf, high).amax(1)
    return low, high, empty
