"""What closed sub-problems teach the others: few signs under which there is no counterexample.

Some of the signs that were decided on the way to a closed sub-problem have no part in that. Where
it is still closed without them, so is everything with the signs that are left, in whatever part of
the tree it lies; and where all of them but one are decided, the last one is the opposite. These
are the infeasible sets of constraints of BICCOS (Zhou et al., NeurIPS 2024), which makes cutting
planes of them; here they decide signs, as learnt clauses do in a solver of logic.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from phalanx.verify.bab.ascent import Ascent, Climbed
from phalanx.verify.bab.splits import Domains

MOST = 2048
"""Sets that are kept, the smallest: a batch is compared with all of them."""

SHARES = (0.75, 0.5, 0.25)
"""Of the decided signs: how many are left out, the most that can be."""


class Learnt:
    """Sets of signs of T units that no counterexample has."""

    def __init__(self, units: int) -> None:
        self._signs = torch.zeros(0, units)

    def __len__(self) -> int:
        return len(self._signs)

    def add(self, signs: Tensor) -> None:
        """More of them, ``(M, T)``: 1 on, -1 off, 0 whichever."""
        every = torch.cat([self._signs, signs.to(self._signs.dtype)])
        if len(every) > MOST:
            every = every[every.abs().sum(1).topk(MOST, largest=False).indices]
        self._signs = every

    def applied(self, domains: Domains) -> Domains:
        """Those of which it is not known that they are closed, with the signs that follow.

        >>> from phalanx.verify.bab.splits import halves, root
        >>> learnt = Learnt(3)
        >>> learnt.add(torch.tensor([[1, 1, 0], [1, -1, -1], [-1, 0, 0]]))
        >>> both = halves(root(3, torch.zeros(3), 1), torch.tensor([0]))
        >>> both.signs.tolist(), learnt.applied(both).signs.tolist()
        ([[1, 0, 0], [-1, 0, 0]], [[1, -1, 1]])
        """
        if not len(self):
            return domains
        signs, asked = domains.signs.float(), self._signs.abs()
        while True:
            agree = signs @ self._signs.T
            contradicted = agree < signs.abs() @ asked.T
            lacking = torch.where(contradicted, torch.inf, asked.sum(1) - agree)
            left = (lacking > 0).all(1)
            follows = (lacking == 1).any(1) & left
            if not bool(follows.any()):
                return replace(domains, signs=signs.to(domains.signs.dtype))[left]
            one = self._signs[(lacking[follows] == 1).float().argmax(1)]
            signs[follows] -= one * (signs[follows] == 0)


def with_fewer_signs(
    ascent: Ascent, closed: Domains, found: Climbed, sides: tuple[Tensor, Tensor]
) -> tuple[Domains, Tensor]:
    """Closed sub-problems without the signs that cost their bounds least.

    A unit that becomes open again is bounded by its chord from above, and what it had from its
    multiplier is lost; from below it keeps the line that it had.

    Args:
        ascent: bounds them.
        closed: with the multipliers and slopes of their bounds.
        found: what an ascent found of them.
        sides: bounds ``(T,)`` of what the units read.

    Returns:
        The sub-problems, and which of them have lost a sign and have bounds above zero ``(D,)``.
    """
    low, high = sides
    decided = closed.signs != 0
    chord = found.met.clamp_max(0).abs() * (-high * low / (high - low))
    cost = chord + found.beta * torch.maximum(high, -low)
    rank = torch.where(decided, cost, torch.inf).argsort(1).argsort(1)
    slopes = torch.where(decided, (closed.signs > 0).half(), closed.alpha)
    signs, fewer = closed.signs.clone(), torch.zeros(len(closed), dtype=torch.bool)
    for share in SHARES:
        free = rank < (share * decided.sum(1, keepdim=True)).floor()
        todo = (free.any(1) & ~fewer).nonzero().squeeze(1)
        if not len(todo):
            continue
        some = replace(closed, signs=closed.signs * ~free, alpha=slopes)[todo]
        above = ascent.once(some) > 0
        signs[todo[above]], fewer[todo[above]] = some.signs[above], True
    return replace(closed, signs=signs, alpha=slopes), fewer
