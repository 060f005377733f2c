"""Curves in whole registers: the same bits at every place, under any number of threads."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from phalanx.graph.ir import Node
from phalanx.graph.operators import ELEMENTWISE, OPERATORS
from phalanx.models.align import CURVES
from phalanx.runtime.vectors import SHARE, in_whole_vectors, row_norms, row_sums

SIZES = (1, 7, 63, 65, 1000, SHARE - 1, SHARE + 1, 3 * SHARE + 77)


@pytest.fixture(params=[1, 2, 3, 4])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def numbers(count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(count)).mul(4).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("curve", CURVES)
def test_a_number_has_one_value(curve, dtype, threads):
    """At its place in a long tensor, and among the last few of a short one."""
    layer, longest = curve(), numbers(SIZES[-1], dtype)
    expected = in_whole_vectors(layer, longest)
    for size in SIZES:
        assert torch.equal(in_whole_vectors(layer, longest[:size]), expected[:size])
        assert torch.equal(in_whole_vectors(layer, longest[-size:]), expected[-size:])


def node(operator: str) -> Node:
    attributes = {"slope": 0.1, "exponent": 1.7, "low": -1.0, "high": 2.0}
    return Node("y", operator, ("x",), (1,), attributes=attributes)


@pytest.mark.parametrize("operator", ELEMENTWISE)
def test_so_has_an_operator_of_a_graph(operator):
    longest = numbers(SIZES[-1]).abs()
    expected = OPERATORS[operator](node(operator), longest)
    for size in SIZES:
        assert torch.equal(OPERATORS[operator](node(operator), longest[-size:]), expected[-size:])


def test_the_shape_the_memory_format_and_the_gradient_stay():
    x = numbers(2 * 3 * 5 * 7).reshape(2, 3, 5, 7).contiguous(memory_format=torch.channels_last)
    x.requires_grad_(True)
    found, expected = in_whole_vectors(nn.SiLU(), x), nn.SiLU()(x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-7)
    slopes = [torch.autograd.grad(y.sum(), x)[0] for y in (found, expected)]
    assert torch.allclose(*slopes, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [3, SHARE, 150_528])
@pytest.mark.parametrize("reduced", [row_sums, row_norms, partial(row_norms, p=1)])
def test_a_row_alone_has_the_sum_it_has_in_company(reduced, count, threads):
    rows = numbers(3 * count).view(3, count)
    expected = reduced(rows)
    for row in range(3):
        assert torch.equal(reduced(rows[row : row + 1]), expected[row : row + 1])
