"""A dense network on a smaller box: what is settled there vanishes from its matrices.

ReLUs that are open on a box are mostly settled on a small part of it. What those that pass read is
put where they are read; so the matrices of a part are a product of those of the whole, and
small. Every rounding of these products is added to what the matrices may be off by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from phalanx.bounds.outward.rounding import SAFE, UNDERFLOW, gamma
from phalanx.verify.bab.dense import Dense, Layer, Map, sized


@dataclass(frozen=True, eq=False)
class _Source:
    """What has become of the entries of a source.

    Attributes:
        kept: which are entries of the new source ``number``, in order.
        passing: which pass on what they read, ``read``.
    """

    kept: Tensor
    number: int
    passing: Tensor
    read: Map | None


def settled(op: str, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Which entries of a curve pass on what they read, and which are zero.

    >>> settled("relu", torch.tensor([0.0, -1.0, -1.0]), torch.tensor([1.0, 0.0, 1.0]))
    (tensor([ True, False, False]), tensor([False,  True, False]))
    """
    never = torch.zeros_like(lower, dtype=torch.bool)
    return (lower >= 0, (upper <= 0) & (lower < 0)) if op == "relu" else (never, never)


def narrowed(network: Dense, boxes: Sequence[tuple[Tensor, Tensor]]) -> Dense:
    """The network on a box within its own.

    Args:
        network: in float64, with an output.
        boxes: bounds ``(n,)`` of what each curve reads there, no rounding left out.

    Raises:
        ValueError: a network without an output.
    """
    if network.output is None:
        raise ValueError("a network without an output")
    found = Dense(network.free, network.depth)
    free = torch.arange(len(network.free))
    sources = [_Source(free, 0, free[:0], None)]
    for layer, (lower, upper) in zip(network.layers, boxes, strict=True):
        passes, zero = settled(layer.node.op, lower, upper)
        kept = (~passes & ~zero).nonzero().squeeze(1)
        passing = passes.nonzero().squeeze(1)
        if len(kept):
            found.layers.append(Layer(layer.node, _through(layer.map.only(kept), sources)))
        read = _through(layer.map.only(passing), sources) if len(passing) else None
        sources.append(_Source(kept, len(found.layers), passing, read))
    found.output = _through(network.output, sources)
    return found


@dataclass(eq=False)
class _Sum:
    """Matrices that are added up, with what they may be off by."""

    values: dict[int, Tensor] = field(default_factory=dict)
    errors: dict[int, Tensor] = field(default_factory=dict)

    def add(self, source: int, value: Tensor, error: Tensor) -> None:
        """One more term."""
        if source in self.values:
            error = error + self.errors[source]
            error = error + gamma(2) * (value.abs() + self.values[source].abs())
            value = value + self.values[source]
        self.values[source], self.errors[source] = value, error


BIAS = -1
"""The constant is one more source, of size 1."""


def _through(of: Map, sources: Sequence[_Source]) -> Map:
    """A map of old sources as one of the new ones."""
    errors, bias_error = of.errors()
    total = _Sum()
    total.add(BIAS, of.bias[:, None], bias_error[:, None])
    for number, weight in of.weights.items():
        source, error = sources[number], errors[number]
        if len(source.kept):
            total.add(source.number, weight[:, source.kept], error[:, source.kept])
        if source.read is None:
            continue
        left, off = weight[:, source.passing], error[:, source.passing]
        if not bool(((left != 0) | (off != 0)).any()):
            continue
        read, read_off = source.read, source.read.errors()
        for s, w in read.weights.items():
            total.add(s, *_product(left, off, w, read_off[0][s]))
        total.add(BIAS, *_product(left, off, read.bias[:, None], read_off[1][:, None]))
    used = [
        s
        for s, value in total.values.items()
        if s != BIAS and bool(((value != 0) | (total.errors[s] != 0)).any())
    ]
    return sized(
        {s: total.values[s] for s in sorted(used)},
        {s: total.errors[s] for s in used},
        total.values[BIAS][:, 0],
        total.errors[BIAS][:, 0],
    )


def _product(left: Tensor, off: Tensor, right: Tensor, right_off: Tensor) -> tuple[Tensor, Tensor]:
    """``left @ right``, and by how much it may differ from the product of what they stand for."""
    met, wide = left.abs(), right.abs() + right_off
    error = met @ (right_off + gamma(left.shape[1] + 4) * wide)
    if bool(off.any()):
        error = error + off @ wide
    # Where all terms are zero nothing is lost, elsewhere a term may have underflowed.
    some = error > 0
    if _least(met, off) * _least(wide) < UNDERFLOW:
        some = ((met + off) > 0).double() @ (wide > 0).double() > 0
    return left @ right, torch.where(some, SAFE * error + UNDERFLOW, 0.0)


def _least(*values: Tensor) -> float:
    """The least of them that is not zero."""
    return min(float(torch.where(v > 0, v, torch.inf).amin()) if v.numel() else 1.0 for v in values)
