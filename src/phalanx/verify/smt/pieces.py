"""Piecewise linear operators: pieces of one number, and the largest of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from phalanx.graph.ir import Node
from phalanx.verify.smt.draft import Draft, both, numeral, term
from phalanx.verify.smt.forms import ONE, ZERO, Form, constant

Range = tuple[Fraction, Fraction]


class Piece(NamedTuple):
    """``slope x + shift`` between two places; None: as far as one likes."""

    left: Fraction | None
    right: Fraction | None
    slope: Fraction
    shift: Fraction

    def at(self, x: Fraction) -> Fraction:
        """Its value, also outside of its places."""
        return self.slope * x + self.shift


def pieces_of(node: Node) -> tuple[Piece, ...]:
    """A curve's pieces from left to right; it is continuous.

    >>> [int(piece.at(Fraction(2))) for piece in pieces_of(Node("y", "abs", ("x",), (1,)))]
    [-2, 2]
    """
    if node.op == "clip":
        return _clip(node.attributes["low"], node.attributes["high"])
    below = {
        "relu": ZERO,
        "abs": -ONE,
        "leaky-relu": Fraction(node.attributes.get("slope", 0)),
    }[node.op]
    return Piece(None, ZERO, below, ZERO), Piece(ZERO, None, ONE, ZERO)


def _clip(low: float, high: float) -> tuple[Piece, ...]:
    """As torch clamps: where the sides cross, everything is the upper one."""
    if low >= high:
        return (Piece(None, None, ZERO, Fraction(high)),)
    found, left = [], None
    if math.isfinite(low):
        left = Fraction(low)
        found.append(Piece(None, left, ZERO, left))
    right = Fraction(high) if math.isfinite(high) else None
    found.append(Piece(left, right, ONE, ZERO))
    if right is not None:
        found.append(Piece(right, None, ZERO, right))
    return tuple(found)


def curve(draft: Draft, pieces: Sequence[Piece], form: Form, ends: Range) -> Form:
    """What a curve makes of a form that lies between two numbers.

    One piece is an affine function. Several are a choice, with what follows from it: a curve that
    bends one way lies above (or below) its pieces, and below (or above) its chord (Ehlers 2017).
    """
    low, high = ends
    alive = [piece for piece in pieces if _meets(piece, low, high)]
    if len(alive) == 1 or low == high:
        piece = alive[0]
        if not piece.slope:
            return constant(piece.shift)
        if len(form.terms) <= 1:
            return form.times(piece.slope, piece.shift)
        # Short sentences: the sum behind the variable is written once, not in all that read it.
        return _variable(draft.standing_for(form, low, high)).times(piece.slope, piece.shift)
    x = draft.standing_for(form, low, high)
    turns = [piece.right for piece in alive[:-1] if piece.right is not None]
    values = [piece.at(turn) for piece, turn in zip(alive, turns, strict=False)]
    values += [alive[0].at(low), alive[-1].at(high)]
    y = draft.variable(min(values), max(values))
    corners = [low, *turns, high]
    draft.choose([_choice(x, y, piece, corners, at) for at, piece in enumerate(alive)])
    _lines(draft, x, y, alive, (low, high))
    return _variable(y)


def largest(draft: Draft, forms: Sequence[Form], ends: Sequence[Range]) -> Form:
    """The largest of several forms, each between two numbers."""
    most = max(low for low, _ in ends)
    best = next(at for at, (low, _) in enumerate(ends) if low == most)
    # An entry that never exceeds the largest lower bound is never needed.
    kept = [at for at, (_, high) in enumerate(ends) if high > most or at == best]
    if len(kept) == 1:
        return forms[kept[0]]
    own = [draft.standing_for(forms[at], *ends[at]) for at in kept]
    y = draft.variable(most, max(high for _, high in ends))
    for x in own:
        draft.require(f"(<= v{x} v{y})")
    draft.choose([f"(= v{y} v{x})" for x in own])
    return _variable(y)


def _meets(piece: Piece, low: Fraction, high: Fraction) -> bool:
    """Whether a range has more than a corner in common with a piece; of a point, a place."""
    if low == high:
        return (piece.left is None or piece.left <= low) and (
            piece.right is None or low <= piece.right
        )
    return (piece.left is None or piece.left < high) and (piece.right is None or piece.right > low)


def _choice(x: int, y: int, piece: Piece, corners: Sequence[Fraction], at: int) -> str:
    own = [f"(= v{y} {term(_variable(x).times(piece.slope, piece.shift))})"]
    if at:
        own.append(f"(<= {numeral(corners[at])} v{x})")
    if at + 2 < len(corners):
        own.append(f"(<= v{x} {numeral(corners[at + 1])})")
    return both(own)


def _lines(draft: Draft, x: int, y: int, alive: Sequence[Piece], ends: Range) -> None:
    """What two pieces imply, so that a solver sees it before it chooses."""
    if len(alive) != 2:
        return
    first, second = alive
    side, other = ("<=", ">=") if first.slope < second.slope else (">=", "<=")
    for piece in alive:
        line = _variable(x).times(piece.slope, piece.shift)
        draft.require(f"({side} {term(line)} v{y})")
    low, high = ends
    rise = (second.at(high) - first.at(low)) / (high - low)
    chord = _variable(x).times(rise, first.at(low) - rise * low)
    draft.require(f"({other} {term(chord)} v{y})")


def _variable(number: int) -> Form:
    return Form({number: ONE}, ZERO)
