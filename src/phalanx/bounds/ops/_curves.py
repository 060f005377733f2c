"""Lines above and below curves, shared by their rows.

A chord lies above a convex function on its interval and a tangent below it everywhere; of a
concave one it is the reverse. A function that is convex on one side of zero and concave on the
other (sigmoid, tanh) takes its chord, or the tangent that meets it at the interval's end. What is
neither is sampled: between neighbours at distance h it strays from the chord by at most
``h^2 max|f''| / 8``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from phalanx.bounds.ops import Box, Curve, Lines
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS

Function = Callable[[Tensor], Tensor]
SAMPLES = 64
BISECTIONS = 40


def extremes(function: Function, box: Box, turns: Sequence[float]) -> Box:
    """Bounds of a function that is monotone between the ``turns``."""
    points = [box.lower, box.upper, *(box.lower.clamp_min(t).minimum(box.upper) for t in turns)]
    values = torch.stack([function(point) for point in points])
    return Box(values.amin(0), values.amax(0))


def chord(lower: Tensor, upper: Tensor, low: Tensor, high: Tensor, at_point: Tensor) -> Tensor:
    """Slope of the chord from ``(lower, low)`` to ``(upper, high)``; of a point ``at_point``."""
    width = upper - lower
    return torch.where(width > 0, (high - low) / torch.where(width > 0, width, 1.0), at_point)


def convex_lines(
    function: Function, slope: Function, lower: Tensor, upper: Tensor, at: Tensor
) -> Lines:
    """Of a convex function: the tangent at ``at`` below, the chord above.

    The chord is put through the end at which it lies higher, so that a rounded slope costs nothing.
    """
    below, touch = slope(at), function(at)
    low, high = function(lower), function(upper)
    above = chord(lower, upper, low, high, slope(upper))
    offset = torch.maximum(low - above * lower, high - above * upper)
    return Lines(below, touch - below * at, above, offset)


def mirrored(lines: Lines) -> Lines:
    """Lines of f from those of ``-f``."""
    lower, upper = lines.lower_offset, lines.upper_offset
    return Lines(
        -lines.upper_slope,
        None if upper is None else -upper,
        -lines.lower_slope,
        None if lower is None else -lower,
    )


def flipped(lines: Lines) -> Lines:
    """Lines of ``f(x)`` on [l, u] from those of ``f(-x)`` on [-u, -l]."""
    return Lines(-lines.lower_slope, lines.lower_offset, -lines.upper_slope, lines.upper_offset)


def chosen(condition: Tensor, first: Lines, second: Lines) -> Lines:
    """The first where the condition holds; offsets of None are not allowed."""
    return Lines(
        torch.where(condition, first.lower_slope, second.lower_slope),
        _where(condition, first.lower_offset, second.lower_offset),
        torch.where(condition, first.upper_slope, second.upper_slope),
        _where(condition, first.upper_offset, second.upper_offset),
    )


def flat(box: Box) -> Lines:
    """Horizontal lines."""
    zero = torch.zeros_like(box.lower)
    return Lines(zero, box.lower, zero, box.upper)


def s_shaped_lines(
    function: Function, slope: Function, lower: Tensor, upper: Tensor, place: Tensor | None
) -> Lines:
    """Of an odd function that rises, convex below zero and concave above.

    Args:
        function, slope: f and its derivative.
        lower, upper: the interval.
        place: ``(2, ...)`` in [0, 1], where below and above the tangent points lie in their ranges;
            None: at the middle of the interval where that is allowed.
    """
    places = (None, None) if place is None else (place[0], place[1])
    below, under = _upper_line(function, slope, -upper, -lower, places[0])
    above, over = _upper_line(function, slope, lower, upper, places[1])
    return Lines(below, -under, above, over)


def _upper_line(
    function: Function, slope: Function, lower: Tensor, upper: Tensor, place: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The line above: a chord where everything is convex, else a tangent right of where it may be.

    The tangent at d >= 0 lies above f on [l, u] if it does at l. It does from some d on: bisection
    keeps that end of the bracket.
    """
    low, high = function(lower), function(upper)
    first, last = torch.zeros_like(lower), torch.maximum(-lower, torch.zeros_like(lower))
    for _ in range(BISECTIONS):
        middle = (first + last) / 2
        above = function(middle) + slope(middle) * (lower - middle) >= low
        first, last = torch.where(above, first, middle), torch.where(above, middle, last)
    straight = last >= upper
    least = torch.maximum(last, lower)
    if place is None:
        touch = torch.maximum(least, (lower + upper) / 2)
    else:
        touch = least + place * (upper - least).clamp_min(0)
    touch = torch.where(straight, upper, touch)
    tilt = slope(touch)
    tilt = torch.where(straight, chord(lower, upper, low, high, tilt), tilt)
    ends = torch.maximum(low - tilt * lower, high - tilt * upper)
    return tilt, torch.where(straight, ends, function(touch) - tilt * touch)


def sampled_lines(
    function: Function, lower: Tensor, upper: Tensor, curvature: Tensor, box: Box
) -> Lines:
    """Of any smooth function: parallel to the chord, or horizontal where that is tighter.

    Args:
        function: f.
        lower, upper: the interval, finite.
        curvature: at least ``max |f''|`` on it.
        box: bounds of f on it.
    """
    width = upper - lower
    tilt = chord(lower, upper, function(lower), function(upper), torch.zeros_like(lower))
    least, most = torch.full_like(lower, torch.inf), torch.full_like(lower, -torch.inf)
    for i in range(SAMPLES + 1):
        x = lower + width * (i / SAMPLES)
        rest = function(x) - tilt * x
        least, most = least.minimum(rest), most.maximum(rest)
    stray = (width / SAMPLES).square() * curvature / 8
    tilted = Lines(tilt, least - stray, tilt, most + stray)
    better = most - least + 2 * stray < box.upper - box.lower
    return chosen(better, tilted, flat(box))


def sloped_lines(  # noqa: PLR0917 - what `sampled_lines` takes, and two slopes
    function: Function,
    lower: Tensor,
    upper: Tensor,
    curvature: Tensor,
    box: Box,
    below: Tensor,
    above: Tensor,
) -> Lines:
    """Of any smooth function, lines of the slopes ``below`` and ``above``, moved until they hold.

    By samples, or by the range of the function less that of the line; otherwise as `sampled_lines`.
    """
    stray = ((upper - lower) / SAMPLES).square() * curvature / 8
    lowest, highest = _touched(function, lower, upper, below, above)
    least = function(lowest) - below * lowest - stray
    most = function(highest) - above * highest + stray
    under = box.lower - torch.maximum(below * lower, below * upper)
    over = box.upper - torch.minimum(above * lower, above * upper)
    return Lines(below, least.fmax(under), above, most.fmin(over))


def _touched(
    function: Function, lower: Tensor, upper: Tensor, below: Tensor, above: Tensor
) -> tuple[Tensor, Tensor]:
    """The samples at which ``f(x) - below x`` is lowest, and ``f(x) - above x`` highest.

    Derivatives go through the ends of the interval, not through which samples these are.
    """
    width = upper - lower
    with torch.no_grad():
        start = function(lower)
        least, most = start - below * lower, start - above * lower
        low, high = torch.zeros_like(least), torch.zeros_like(most)
        for i in range(1, SAMPLES + 1):
            x = lower + width * (i / SAMPLES)
            y = function(x)
            under, over = y - below * x, y - above * x
            low, high = (
                torch.where(under < least, i / SAMPLES, low),
                torch.where(over > most, i / SAMPLES, high),
            )
            least, most = least.minimum(under), most.maximum(over)
    return lower + width * low, lower + width * high


class Smooth(Curve):
    """A curve that bends both ways, by samples.

    The parameters are the slopes of the lines below and above, between the least and the largest
    that the function has on the interval; zero is always among them.
    """

    parameters = 2

    def curvature(self, node: Node, lower: Tensor, upper: Tensor) -> Tensor:
        """At least ``max |f''|`` on the interval."""
        raise NotImplementedError

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """Of the slopes that are asked for; usual ones are parallel to the chord, or horizontal."""

        def function(x: Tensor) -> Tensor:
            return OPERATORS[node.op](node, x)

        box, curvature = self.interval(node, Box(lower, upper)), self.curvature(node, lower, upper)
        if place is None:
            return sampled_lines(function, lower, upper, curvature, box)
        least, most = _slopes(function, lower, upper)
        below, above = (least + share * (most - least) for share in place)
        return sloped_lines(function, lower, upper, curvature, box, below, above)

    def start(self, node: Node, boxes: Sequence[Box], *, parallel: bool = False) -> Tensor:
        """Those of the usual lines, which are parallel as they are."""
        usual = self.lines(node, *boxes[0], None)
        least, most = _slopes(lambda x: OPERATORS[node.op](node, x), *boxes[0])
        width = torch.where(most > least, most - least, 1.0)
        places = [(slope - least) / width for slope in (usual.lower_slope, usual.upper_slope)]
        return torch.stack(places).nan_to_num(0.0).clamp(0, 1).unsqueeze(1)


def _slopes(function: Function, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest slope between neighbouring samples, and zero."""
    width = (upper - lower) / SAMPLES
    inverse = torch.where(width > 0, 1 / torch.where(width > 0, width, 1.0), 0.0)
    least = most = torch.zeros_like(lower)
    before = function(lower)
    for i in range(1, SAMPLES + 1):
        after = function(lower + width * i)
        slope = (after - before) * inverse
        least, most, before = least.minimum(slope), most.maximum(slope), after
    return least, most


class Bent(Curve):
    """A curve that is convex (or, ``concave``, whose negative is) wherever it is defined."""

    parameters = 1
    concave = False

    def slope(self, x: Tensor) -> Tensor:
        """The derivative."""
        raise NotImplementedError

    def touch(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where the usual tangent touches."""
        return (lower + upper) / 2

    def interval(self, node: Node, *boxes: Box) -> Box:
        """It never falls."""
        return Box(*(OPERATORS[node.op](node, side) for side in boxes[0]))

    def lines(self, node: Node, lower: Tensor, upper: Tensor, place: Tensor | None) -> Lines:
        """The parameter is where in the interval the tangent touches."""
        at = self.touch(lower, upper) if place is None else lower + place[0] * (upper - lower)
        sign = -1.0 if self.concave else 1.0
        found = convex_lines(
            lambda x: sign * OPERATORS[node.op](node, x),
            lambda x: sign * self.slope(x),
            lower,
            upper,
            at,
        )
        return mirrored(found) if self.concave else found


def _where(condition: Tensor, first: Tensor | None, second: Tensor | None) -> Tensor:
    if first is None or second is None:
        raise TypeError("lines without offsets cannot be mixed")
    return torch.where(condition, first, second)
