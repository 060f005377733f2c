"""Brackets close on where a margin falls below zero, in hardly more steps than by halves."""

from __future__ import annotations

import math
import random

import pytest

from phalanx.evaluation.bracket import Bracket

FINE = 0.5 * 2.0**-14
MOST = 15
"""Steps in exact arithmetic; by halves: 14."""


def steps(margin, high: float = 0.5, fine: float = FINE) -> tuple[Bracket, int]:
    """A search to its end, and how long it took."""
    bracket, count = Bracket(0.0, high, margin(0.0), margin(high), fine), 0
    while bracket.open:
        at = bracket.place()
        assert bracket.low < at < bracket.high
        bracket.cut(at, margin(at), above=margin(at) > 0)
        count += 1
        assert count < MOST or bracket.high - bracket.low <= fine * (1 + 1e-9)
    return bracket, count


@pytest.mark.parametrize("shape", ["power", "exponential", "cliff", "noise"])
def test_margins_of_all_shapes(shape):
    draw, counts = random.Random(0), []
    for _ in range(300):
        root, bend = 0.5 * 10 ** draw.uniform(-2, -0.01), draw.uniform(0.7, 4)
        noise = {}

        def margin(eps, root=root, bend=bend, noise=noise):
            if shape == "cliff":
                return 3.0 - eps if eps <= root else -math.inf
            if shape == "noise":
                return noise.setdefault(eps, draw.uniform(1e-9, 9)) * (1 if eps <= root else -1)
            if shape == "power":
                return 3 * (1 - (eps / root) ** bend)
            return 3 * (1 - math.expm1(min(bend * eps / root, 500)) / math.expm1(bend))

        bracket, count = steps(margin)
        assert bracket.low <= root <= bracket.high + 1e-15
        assert bracket.high - bracket.low <= FINE
        counts.append(count)
    assert max(counts) <= MOST + 1  # of rounding
    if shape in ("power", "exponential"):
        assert sum(counts) / len(counts) < 11.5


def test_margins_that_always_leave_the_larger_part():
    """Nothing takes longer, whatever their sizes."""
    draw, counts = random.Random(1), set()

    def size() -> float:
        return draw.choice((1e-9, 1.0, 1e9)) * draw.uniform(0.1, 1)

    for _ in range(2000):
        bracket, count = Bracket(0.0, 0.5, size(), -size(), FINE), 0
        while bracket.open:
            at = bracket.place()
            holds = at - bracket.low <= bracket.high - at
            bracket.cut(at, size() if holds else -size(), above=holds)
            count += 1
            assert count < MOST or bracket.high - bracket.low <= FINE * (1 + 1e-9)
        counts.add(count)
    assert counts == {MOST, MOST + 1}


def test_a_margin_that_is_lost_at_once_and_one_that_never_is():
    lost, _ = steps(lambda eps: 1.0 if eps == 0 else -1.0)
    assert lost.low == 0
    kept, _ = steps(lambda eps: 1.0 if eps < 0.5 else -1.0)
    assert kept.low >= 0.5 - FINE
