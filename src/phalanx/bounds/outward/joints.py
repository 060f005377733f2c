"""Operators of several variables: their boxes, and planes above and below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from phalanx.bounds.outward.pooling import MaxPool
from phalanx.bounds.outward.products import MatMul, Mul
from phalanx.bounds.outward.sums import Place, Sides, Sums
from phalanx.graph.ir import Node


class Joint(Protocol):
    """What is asked of such an operator; no rounding may break an answer."""

    def interval(self, node: Node, sides: Sequence[Sides]) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds ``(1, *node.shape)`` from those of the inputs."""

    def loose(self, node: Node, side: Sides) -> Tensor:
        """Where ``(1, *shape)`` tighter bounds of an input would bring its planes closer."""

    def back(
        self,
        node: Node,
        rows: Tensor,
        sides: Sequence[Sides],
        sums: Sums,
        place: Place | None = None,
    ) -> list[Tensor]:
        """Rows ``(S, *shape)`` of each input below rows of the output; constants go to ``sums``.

        ``place``: which planes a search found best, where there is a choice.
        """


JOINTS: Mapping[str, Joint] = {"max-pool": MaxPool(), "mul": Mul(), "matmul": MatMul()}
"""By operator."""
