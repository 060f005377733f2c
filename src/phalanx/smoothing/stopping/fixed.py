"""A number of samples fixed before the first one is drawn (Cohen et al., ICML 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from phalanx.runs.schema import ESTIMATION, SELECTION
from phalanx.smoothing.stopping import Chunk, Tally, cut, rules


@rules.register("fixed")
@dataclass(frozen=True)
class Fixed:
    """``n0`` samples choose the class, ``n`` fresh ones bound its probability.

    The two phases have their own noise, so they may be counted in any order.
    """

    n: int
    n0: int
    chunk: int

    def wanted(self, tally: Tally) -> list[Chunk]:
        """All chunks, whatever has been counted: no peeking."""
        return [*cut(SELECTION, self.n0, self.chunk), *cut(ESTIMATION, self.n, self.chunk)]
