"""An ensemble after smoothing: every member is smoothed alone, and the surest of them decides.

The signed radius ``s = sigma Phi^-1(p)`` of a class under one smoothed member changes no faster
than the input moves (Salman et al., NeurIPS 2019, lemma 1). At distance delta from the input the
member with the largest one still has more than ``max s - delta`` for the class, and no member has
``delta - min s`` or more for another. The class is kept while the first is above the second::

    R = (max s + min s) / 2

The largest radius of a member is *not* a certificate: with members that change their class at 1
and at 0.1, the ensemble changes at 0.55. And every ``s`` has to be a *lower* bound for the one
class, also of a member that prefers another: its certified radius for that one says how far it
stays wrong at least, where what counts is how far at most.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtr, ndtri

from phalanx.runs.schema import SELECTION, Counts
from phalanx.smoothing.charge import FREE, Charge
from phalanx.smoothing.stopping import Chunk, Evidence, StoppingRule, Votes, all_for, selected

_ROUNDING = 1e-14
"""Relative, of a sum of two normal quantiles and of one distribution function."""


@dataclass(frozen=True)
class AfterSmoothing:
    """A stopping rule over the votes of all members.

    Attributes:
        rule: for each member, at its share alpha / M: all bounds hold together with 1 - alpha.
        charge: what the arithmetic takes off each member's bound.
    """

    rule: StoppingRule
    charge: Charge = FREE

    def decide(self, members: Sequence[Votes]) -> list[Chunk] | Evidence:
        """Chunks that some member needs, or what the members prove together.

        The one class is that with most selection votes over all members. In the evidence,
        ``n_a`` and ``n`` are sums over members, and ``p_lower`` is the probability whose radius
        is that of the ensemble.
        """
        decisions = [self.rule.decide(votes) for votes in _of_one_mind(members)]
        wanted = {chunk for found in decisions if isinstance(found, list) for chunk in found}
        if wanted:
            return sorted(wanted)
        return together(
            [
                found._replace(p_lower=self.charge.lower(found.p_lower))
                for found in decisions
                if isinstance(found, Evidence)
            ]
        )


def together(found: Sequence[Evidence]) -> Evidence:
    """The evidence of the ensemble, from that of its members about one class.

    Members whose rule ended with different classes (in stages with samples of their own) prove
    nothing together.

    >>> members = [Evidence(3, 90, 100, p, 0, 200) for p in (0.9, 0.6)]
    >>> round(together(members).p_lower, 6)
    0.778593
    """
    first = found[0]
    agree = all(one.label == first.label for one in found)
    return Evidence(
        label=first.label,
        n_a=sum(one.n_a for one in found),
        n=sum(one.n for one in found),
        p_lower=middle([one.p_lower for one in found]) if agree else 0.0,
        broken=sum(one.broken for one in found),
        samples=sum(one.samples for one in found),
    )


def middle(p_lower: Sequence[float]) -> float:
    """``Phi((max Phi^-1(p) + min Phi^-1(p)) / 2)``, rounded down.

    >>> middle([0.9, 0.1]) < 0.5, middle([0.99, 0.0])
    (True, 0.0)
    """
    best, worst = (float(ndtri(p)) for p in (max(p_lower), min(p_lower)))
    if worst == -math.inf:
        return 0.0
    z = (best + worst) / 2 - _ROUNDING * (abs(best) + abs(worst))
    return float(ndtr(z)) * (1 - _ROUNDING)


def _of_one_mind(members: Sequence[Votes]) -> list[dict[str, Sequence[Counts]]]:
    """The votes, with those that select a class given to the one most selection votes are for."""
    found = [dict(votes) for votes in members]
    for phase in {phase for votes in members for phase in votes if phase.startswith(SELECTION)}:
        pooled: Counter[int] = Counter()
        for votes in members:
            for chunk in votes.get(phase, ()):
                pooled.update(chunk)
        label = selected(pooled)
        for votes in found:
            votes[phase] = [all_for(label, chunk) for chunk in votes.get(phase, ())]
    return found
