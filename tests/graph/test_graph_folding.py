"""Constants of constants: one number where the type holds it, else what the file says."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest
import torch

from phalanx.graph.folding import exactly
from phalanx.graph.ir import Node
from phalanx.graph.operators import OPERATORS

TRUE = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y if y else None,
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1 / x if x else None,
}


def numbers(kind: torch.dtype, count: int = 24) -> list[float]:
    """Short numbers, full mantissas, small and large ones, and zero."""
    draw = torch.Generator().manual_seed(0)
    full = torch.randn(count, generator=draw, dtype=torch.float64)
    full *= 2.0 ** torch.randint(-20, 20, (count,), generator=draw)
    short = torch.randint(-9, 9, (count,), generator=draw) * 2.0**-3
    edges = [0.0, 1.0, 3.0, 2.0**-149, 2.0**127, 1 + 2.0**-23, 1e38, 0.1]
    return [*full.to(kind).tolist(), *short.tolist(), *torch.tensor(edges, dtype=kind).tolist()]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("op", TRUE)
def test_no_rounded_number_passes_for_exact(op: str, kind: torch.dtype) -> None:
    several = 1 if op in ("square", "reciprocal") else 2
    node, kept = Node("y", op, ("a", "b")[:several], (1,)), 0
    for operands in product(numbers(kind), repeat=several):
        values = [torch.tensor([[x]], dtype=kind) for x in operands]
        found = OPERATORS[op](node, *values)
        true = TRUE[op](*map(Fraction, operands))
        right = bool(torch.isfinite(found)) and true is not None and Fraction(found.item()) == true
        says = exactly(node, values, found)
        assert right or not says, operands
        # In the larger type a sum that cancels may go unseen; in the smaller nothing does.
        assert says or not right or kind == torch.float64, operands
        kept += says
    assert kept > 5


@pytest.mark.parametrize(
    ("node", "values", "exact"),
    [
        (Node("y", "reduce-sum", ("a",), (1,), {"axes": (0,)}), [[0.5, 0.25, -3.0]], True),
        (Node("y", "reduce-sum", ("a",), (1,), {"axes": (0,)}), [[0.1, 0.2, 0.3]], False),
        (Node("y", "linear", ("a",), (1,), {}, {"weight": torch.tensor([[2.0, 3.0]])}),
         [[0.5, 7.0]], True),
        (Node("y", "linear", ("a",), (1,), {}, {"weight": torch.tensor([[0.1, 0.3]])}),
         [[0.5, 7.0]], False),
        (Node("y", "scale", ("a",), (2,), {}, {"weight": torch.tensor(2.0)}), [[0.1, 0.2]], True),
        (Node("y", "scale", ("a",), (2,), {}, {"weight": torch.tensor(3.0)}), [[0.1, 0.2]], False),
        (Node("y", "scale", ("a",), (1,), {}, {"bias": torch.tensor(1e9)}), [[0.1]], False),
        (Node("y", "quotient", ("a",), (1,), {}, {"divisor": torch.tensor(4.0)}), [[0.1]], True),
        (Node("y", "quotient", ("a",), (1,), {}, {"divisor": torch.tensor(3.0)}), [[0.1]], False),
        (Node("y", "sqrt", ("a",), (2,)), [[9.0, 0.25]], True),
        (Node("y", "sqrt", ("a",), (2,)), [[9.0, 2.0]], False),
        (Node("y", "leaky-relu", ("a",), (2,), {"slope": 0.5}), [[0.1, -0.1]], True),
        (Node("y", "leaky-relu", ("a",), (2,), {"slope": 0.1}), [[0.1, -0.1]], False),
        (Node("y", "clip", ("a",), (1,), {"low": 0.1, "high": 1.0}), [[0.0]], False),
        (Node("y", "clip", ("a",), (1,), {"low": 0.25, "high": 1.0}), [[0.0]], True),
        (Node("y", "exp", ("a",), (1,)), [[1.0]], False),
        (Node("y", "relu", ("a",), (2,)), [[0.1, -0.1]], True),
    ],
)  # fmt: skip
def test_operators(node: Node, values: list[list[float]], exact: bool) -> None:
    operands = [torch.tensor([row]) for row in values]
    assert exactly(node, operands, OPERATORS[node.op](node, *operands)) is exact


def test_whole_numbers_stay_whole() -> None:
    node = Node("y", "add", ("a", "b"), (1,))
    sizes = torch.tensor([[3]]), torch.tensor([[4]])
    assert exactly(node, sizes, sizes[0] + sizes[1])
    large = torch.tensor([[(1 << 53) + 1]])
    assert not exactly(node, (large, torch.ones(1, 1)), large + torch.ones(1, 1))
