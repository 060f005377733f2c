"""Exact folding: what was rounded is counted, and what would need a sum stays."""

from __future__ import annotations

import pytest
import torch

from phalanx.graph.build import Builder
from phalanx.graph.ir import Graph, Node
from phalanx.graph.run import run
from phalanx.graph.simplify import simplify

LINEAR = torch.tensor([[0.1, -0.7, 3.0], [0.3, 0.2, 0.9]])


def chain(*steps: tuple, shape: tuple[int, ...] = (3,)) -> Graph:
    """Operators one behind the other: name, tensors, attributes."""
    builder = Builder(shape)
    last = builder.input
    for op, tensors, *attributes in steps:
        last = builder.add(op, [last], tensors=tensors, **(attributes[0] if attributes else {}))
    return builder.graph(last)


def told(graph: Graph) -> list[tuple[str, int]]:
    """Operators and what went into their constants."""
    nodes = simplify(graph, exact=True)
    return [(node.op, node.attributes.get("roundings", 0)) for node in nodes][1:]


THIRD = ("quotient", {"divisor": torch.tensor(3.0)})
EIGHTH = ("quotient", {"divisor": torch.tensor(8.0)})
DOUBLED = ("scale", {"weight": torch.tensor(2.2)})
SHIFT = ("scale", {"bias": torch.tensor([0.1, 0.2, 0.3])})
DENSE = ("linear", {"weight": LINEAR})
BIASED = ("linear", {"weight": LINEAR, "bias": torch.tensor([0.5, -0.1])})
NORM = (
    "batch-norm",
    {
        "mean": torch.tensor([0.1, 0.2]),
        "variance": torch.tensor([2.0, 3.0]),
        "weight": torch.tensor([1.1, 0.7]),
        "bias": torch.tensor([0.0, 0.4]),
    },
    {"epsilon": 1e-5},
)
FOLDED = {
    "third": ([THIRD, DENSE], [("linear", 2)]),  # of the third, and of the product with it
    "eighth": ([EIGHTH, DENSE], [("linear", 0)]),
    "twice": ([DOUBLED, DENSE], [("linear", 0)]),  # two of single precision
    "shift": ([SHIFT, DENSE], [("scale", 0), ("linear", 0)]),
    "behind": ([DENSE, THIRD], [("linear", 2)]),
    "biased": ([BIASED, THIRD], [("linear", 2)]),
    "shift behind": (
        [BIASED, ("scale", {"bias": torch.tensor([0.0, 0.2])})],
        [("linear", 0), ("scale", 0)],
    ),
    "normalised": ([SHIFT, THIRD, DENSE], [("scale", 0), ("linear", 2)]),
    "norm": ([DENSE, NORM], [("linear", 0), ("scale", 4)]),
    "ones": (
        [
            ("scale", {"weight": torch.tensor(1.0)}),
            THIRD,
            ("reshape", None, {"shape": (3,)}),
            DENSE,
        ],
        [("linear", 2)],
    ),
}


@pytest.mark.parametrize("case", FOLDED)
def test_exact_folding(case: str) -> None:
    steps, expected = FOLDED[case]
    graph, x = chain(*steps), torch.rand(4, 3, dtype=torch.float64)
    found = told(graph)
    assert found == expected
    wide = run(graph.to(torch.float64), x)
    for exact in (False, True):
        same = run(simplify(graph.to(torch.float64), exact=exact), x)
        torch.testing.assert_close(same, wide, rtol=1e-13, atol=1e-13)


def test_a_scale_that_changes_places_keeps_its_count() -> None:
    image = ("reshape", None, {"shape": (3,)})
    assert told(chain(THIRD, image, DENSE, shape=(1, 3))) == [("reshape", 0), ("linear", 2)]
    weight = {"weight": torch.ones(2, 3, dtype=torch.float64)}
    near = Node("s", "scale", ("x",), (3,), {"roundings": 1}, {"weight": torch.ones(1).double()})
    graph = Graph(
        (Node("x", "input", (), (3,)), near, Node("y", "linear", ("s",), (2,), {}, weight)), "y"
    )
    assert sum(count for _, count in told(graph)) > 0


def test_numbers_whose_products_could_underflow_are_not_folded() -> None:
    """A relative error counts nothing where a product is no normal number."""
    tiny = {"weight": torch.tensor(2.0**-600, dtype=torch.float64)}
    assert [op for op, _ in told(chain(("scale", tiny), DENSE))] == ["scale", "linear"]
    huge = ("quotient", {"divisor": torch.tensor(1e308, dtype=torch.float64)})
    assert [op for op, _ in told(chain(huge, DENSE))] == ["quotient", "linear"]


def test_the_mean_of_nine_counts_and_that_of_four_does_not() -> None:
    def pool(size: int) -> Graph:
        kernel = {"kernel": (size, size), "stride": (1, 1), "padding": (0, 0)}
        return chain(("avg-pool", None, {**kernel, "count_padding": True}), shape=(2, 4, 4))

    assert told(pool(3)) == [("conv", 1)]
    assert told(pool(2)) == [("conv", 0)]
