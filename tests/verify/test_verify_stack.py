"""Cases that go through a network together: what is repeated, how many fit, which box is meant."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from verify_nets import case, double, tent

from phalanx.specs.property import Property
from phalanx.verify import bounding
from phalanx.verify.bab.cases import side_by_side
from phalanx.verify.stack import stacked


def test_cases_of_fewer_rows_repeat_their_first_one() -> None:
    prop = Property((case([[1.0, 2.0]], [3.0]), case([[4.0, 5.0], [6.0, 7.0]], [8.0, 9.0])))
    found = stacked(prop, (0, 1))
    assert found.outputs.tolist() == [[[1.0, 2.0], [1.0, 2.0]], [[4.0, 5.0], [6.0, 7.0]]]
    assert found.offset.tolist() == [[3.0, 3.0], [8.0, 9.0]]
    reads = replace(prop.cases[0], inputs=double(0.5, -0.5)[None])
    mixed = stacked(Property((reads, prop.cases[1])), (0, 1))
    assert mixed.inputs is not None
    assert mixed.inputs.tolist() == [[[0.5, -0.5], [0.5, -0.5]], [[0.0, 0.0], [0.0, 0.0]]]


@pytest.mark.parametrize(("room", "sizes"), [(3 * 16, [3, 3, 1]), (3 * 16 - 1, [2, 2, 2, 1])])
def test_as_many_boxes_are_bounded_together_as_fit(
    room: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A box of one row takes the square of the widest layer, which has four numbers."""
    monkeypatch.setattr(bounding, "AT_ONCE", room)
    prop = Property(tuple(case([[1.0, 0.0]], [0.0], side=0.1 * (k + 1)) for k in range(7)))
    graph = bounding.prepared(tent(), mixed=False)
    parts = bounding.fields(prop, range(7))
    assert [len(batch) for batch in bounding._batches(graph, parts)] == sizes


def test_sides_that_may_be_rounded_decimals_lie_inside_of_the_box() -> None:
    """Each side for itself; those that float64 has exactly stay as they are."""
    for low, high in ((0.5, 0.7), (0.1, 0.75), (0.1, 0.7), (0.25, 0.5)):
        own = replace(case([[1.0, 0.0]], [0.0]), lower=double(low, 0.3), upper=double(high, 0.3))
        found = side_by_side([own])
        sides = found.lower[0].tolist(), found.upper[0].tolist()
        exact = Fraction(str(low)), Fraction(str(high))
        assert Fraction(sides[0][0]) <= exact[0]
        assert Fraction(sides[1][0]) >= exact[1]
        assert (sides[0][0] == low) == (Fraction(low) == exact[0])
        assert (sides[1][0] == high) == (Fraction(high) == exact[1])
        assert (sides[0][1], sides[1][1]) == (0.3, 0.3), "a fixed input stays fixed"
    assert torch.equal(found.lower[0], double(0.25, 0.3))
