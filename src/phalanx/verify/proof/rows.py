"""A case's rows in numpy, and its box one unit in the last place wider than it was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from phalanx.errors import DataError
from phalanx.verify.proof.passes import Below, Index, Lines, Net, Passes
from phalanx.verify.proof.rounding import HALF_ULP, ROOM, TINY, Array, above, below, charge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from phalanx.specs.property import Case


@dataclass(frozen=True, eq=False)
class Rows:
    """What must not happen: ``outputs y + inputs x + offset <= 0``, all rows, in the box.

    Decimals of a file are rounded where they are read: the box is one unit in the last place wider,
    and offsets are one lower, so that what is proven holds for the decimals as well.

    Attributes:
        lower, upper: ``(n,)``.
        outputs: ``(J, *output shape)``.
        inputs: ``(J, *input shape)`` or None.
        offset: ``(J,)``.
    """

    lower: Array
    upper: Array
    outputs: Array
    inputs: Array | None
    offset: Array

    @classmethod
    def of(cls, case: Case, net: Net) -> Rows:
        """Of a case of a property of this network.

        Raises:
            DataError: coefficients that float64 cannot hold.
        """
        if not case.exact.whole:
            raise DataError(
                "a row with coefficients that float64 cannot hold",
                why="a proof is of the file's own numbers",
                repair="verify without --proof, or decimals of fifteen digits",
            )
        inputs = None
        if case.inputs is not None:
            inputs = case.inputs.numpy().reshape(-1, *net.nodes[0].shape)
        return cls(
            below(case.lower.numpy()),
            above(case.upper.numpy()),
            case.outputs.numpy().reshape(-1, *net.size),
            inputs,
            below(case.offset.numpy()),
        )

    @property
    def key(self) -> bytes:
        """Of its box."""
        return self.lower.tobytes() + self.upper.tobytes()

    def __len__(self) -> int:
        return len(self.offset)


def weighed(
    passes: Passes,
    rows: Rows,
    shares: Array,
    at: Index,
    *,
    more: Sequence[tuple[str, Array]] = (),
    lines: Mapping[str, Lines] | None = None,
) -> Below:
    """Bounds of ``shares rows``, ``(R, J)``, each on a box of ``passes``.

    Args:
        passes: of the boxes.
        rows: of one case.
        shares: exact as they are, not negative.
        at: which box, ``(R,)``.
        more: rows of other values that are added, by the name of the value.
        lines: see `Passes.least`.
    """
    net, most = passes.net, charge(len(rows) + 1)
    parts = [(net.output, rows.outputs)]
    if rows.inputs is not None:
        parts.append((net.nodes[0].name, rows.inputs))
    constant = shares @ rows.offset
    doubt = most * (shares @ np.abs(rows.offset)) + TINY
    begun: dict[str, Array] = {}
    mixed = []
    for name, part in parts:
        size = np.tensordot(shares, np.abs(part), 1)
        doubt = doubt + most * _met(size, passes, name, at)
        mixed.append((name, np.tensordot(shares, part, 1)))
    for name, part in (*mixed, *more):
        if name not in begun:
            begun[name] = part
            continue
        # Two meet in one value, as of an output that a ReLU reads too: their sum is rounded.
        begun[name] = begun[name] + part
        doubt = doubt + ROOM * 2 * HALF_ULP * _met(np.abs(begun[name]), passes, name, at)
    return passes.least(begun, at, constant, doubt, lines)


def _met(size: Array, passes: Passes, name: str, at: Index) -> Array:
    most = passes.sides[name].most()
    most = most if len(most) == 1 else most[at]
    return np.asarray((size * most).reshape(len(size), -1).sum(1), dtype=np.float64)
