"""Robustness as a property: unsafe exactly where another class wins or ties."""

from __future__ import annotations

import math

import pytest
import torch

from phalanx.errors import DataError, ParameterError
from phalanx.specs.robustness import robust, robust_in_box


def test_unsafe_is_where_the_class_does_not_win() -> None:
    prop = robust(torch.tensor([0.05, 0.5]), 0.1, 2, 4)
    case = prop.cases[0]
    assert case.lower.tolist() == pytest.approx([0.0, 0.4])
    assert case.upper.tolist() == pytest.approx([0.15, 0.6])
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 4, (500, 4), generator=generator).float()
    x = torch.tensor([[0.1, 0.5]]).expand(500, 2)
    unsafe = torch.stack([case.holds(x, y) for case in prop.cases]).any(0)
    others = y.clone()
    others[:, 2] = -1
    assert torch.equal(unsafe, others.max(1).values >= y[:, 2])


def test_targets_and_margins() -> None:
    prop = robust_in_box(torch.zeros(1, 2), torch.ones(1, 2), 0, 3, targets=[2], margin=0.5)
    (case,) = prop.cases
    assert (case.outputs.tolist(), case.offset.tolist()) == ([[1.0, 0.0, -1.0]], [-0.5])


@pytest.mark.parametrize("eps", [0.0, -1.0, math.nan, math.inf])
def test_a_radius_is_a_positive_number(eps: float) -> None:
    with pytest.raises(ParameterError, match="eps"):
        robust(torch.zeros(2), eps, 0, 2)


def test_what_is_refused() -> None:
    x = torch.zeros(2)
    with pytest.raises(ParameterError, match="class 2 of 2"):
        robust(x, 0.1, 2, 2)
    with pytest.raises(ParameterError, match="targets"):
        robust(x, 0.1, 0, 2, targets=[0])
    with pytest.raises(ParameterError, match="targets"):
        robust(x, 0.1, 0, 1)
    with pytest.raises(DataError, match="outside"):
        robust(x - 1, 0.1, 0, 2)
    with pytest.raises(DataError, match="must lie between"):
        robust_in_box(x + 1, x, 0, 2)
