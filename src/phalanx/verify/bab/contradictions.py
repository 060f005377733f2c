"""Which pieces of a box hold no run of the network, in intervals that no rounding can break."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from phalanx.bounds.outward.sums import Sides
from phalanx.verify.bab.outward import Decided


class Contradictions(Decided):
    """Outward boxes on the whole box of a case, and intervals in them that are cut."""

    def shown(self, cuts: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """Where ``(D,)`` no run has all its values within the cuts.

        Args:
            cuts: sides ``(D, *shape)`` by names of nodes, not rounded since somebody chose them;
                infinite ones cut nothing off.
        """
        count = len(next(iter(cuts.values()))[0])
        empty = torch.zeros(count, dtype=torch.bool)
        whole, self.sides = self.sides, {}
        try:
            for node in self.graph:
                side = self._interval(node)
                low, high = (end.expand(count, *node.shape) for end in (side.lower, side.upper))
                known = (whole[node.name].lower, whole[node.name].upper)
                for bottom, top in (known, cuts.get(node.name, known)):
                    low, high = low.fmax(bottom), high.fmin(top)
                empty |= (low > high).flatten(1).any(1)
                # What is empty goes on, with its sides in order.
                self.sides[node.name] = Sides(low.minimum(high), low.maximum(high))
        finally:
            self.sides = whole
        return empty
