"""A number of samples fixed before the first one is drawn (Cohen et al., ICML 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from phalanx.runs.schema import ESTIMATION, SELECTION
from phalanx.smoothing.stopping import (
    Chunk,
    Evidence,
    Setting,
    Votes,
    cut,
    fixed_evidence,
    missing,
    rules,
    tally,
)


@rules.register("fixed")
@dataclass(frozen=True)
class Fixed:
    """``n0`` samples choose the class, ``n`` fresh ones bound its probability.

    The two phases have their own noise, so they may be counted in any order.
    """

    setting: Setting

    def decide(self, votes: Votes) -> list[Chunk] | Evidence:
        """All chunks, whatever has been counted (no peeking), and then the fixed-n bound."""
        s = self.setting
        selection = list(cut(SELECTION, s.n0, s.chunk))
        estimation = list(cut(ESTIMATION, s.n, s.chunk))
        if missing(votes, chunks := [*selection, *estimation]):
            return chunks
        return fixed_evidence(
            tally(votes, selection),
            tally(votes, estimation),
            s.bound,
            s.alpha,
            runner_up=s.runner_up,
            classes=s.classes,
            top=s.top,
        )

    def most(self) -> float:
        """The bound of n votes out of n."""
        s = self.setting
        return s.bound.lower(s.n, s.n, s.alpha * (1 - s.runner_up))

    def samples(self) -> int:
        """Selection and estimation."""
        return self.setting.n0 + self.setting.n
