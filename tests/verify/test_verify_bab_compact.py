"""A network as matrices between open ReLUs: against the network; slopes against quotients."""

from __future__ import annotations

import pytest
import torch
from bab_nets import drawn
from verify_nets import case

from phalanx.bounds.prepare import prepare
from phalanx.graph.ir import Graph, Node
from phalanx.graph.run import execute
from phalanx.specs.property import Case
from phalanx.verify.bab.ascent import Ascent
from phalanx.verify.bab.compact import compact, rows_of
from phalanx.verify.bab.splits import Domains
from phalanx.verify.bab.whole import on_whole_box
from phalanx.verify.outcome import Clock, OutOfTime

ROWS = [[1.0, -0.5], [0.25, 1.0]]


def ready(graph: Graph) -> Graph:
    return prepare(graph.to(torch.float64)).to(torch.float64)


def convolutional(seed: int) -> Graph:
    """Two inputs as an image, a strided convolution, a residual sum, a reshape, two outputs."""
    draw = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    conv = {"weight": numbers(3, 1, 2, 1), "bias": numbers(3)}
    same = {"weight": numbers(3, 3, 1, 1), "bias": numbers(3)}
    both = {"stride": (1, 1), "padding": (1, 0), "dilation": (1, 1), "groups": 1}
    none = {**both, "padding": (0, 0)}
    last = {"weight": numbers(2, 12), "bias": numbers(2)}
    nodes = (
        Node("x", "input", (), (2,)),
        Node("image", "reshape", ("x",), (1, 1, 2), {"shape": (1, 1, 2)}),
        Node("z0", "conv", ("image",), (3, 2, 2), both, conv),
        Node("h0", "relu", ("z0",), (3, 2, 2)),
        Node("z1", "conv", ("h0",), (3, 2, 2), none, same),
        Node("sum", "add", ("z1", "h0"), (3, 2, 2)),
        Node("h1", "relu", ("sum",), (3, 2, 2)),
        Node("flat", "reshape", ("h1",), (12,), {"shape": (12,)}),
        Node("y", "linear", ("flat",), (2,), {}, last),
    )
    return Graph(nodes, "y")


def networks() -> list[Graph]:
    widths = ((4, 3), (5,), (3, 2, 2))
    return [drawn(seed, widths[seed % 3], skip=seed % 2 == 0) for seed in range(6)]


@pytest.mark.parametrize("graph", networks())
@pytest.mark.parametrize("mixed", [False, True])
def test_what_units_read_and_rows_are_those_of_the_network(graph: Graph, mixed: bool) -> None:
    own = case(ROWS, [0.5, -1.0])
    lower = own.lower.clone()
    lower[1] = own.upper[1]  # an input that cannot move
    inputs = torch.tensor([[0.7, 0.3], [-0.1, 0.2]], dtype=torch.float64) if mixed else None
    for box in (own.lower, lower):
        one = Case(box, own.upper, own.outputs, own.offset, inputs)
        made = ready(graph)
        units = on_whole_box(made, one, Clock()).units
        base, rows = compact(made, one, units), rows_of(made, one, units)
        share = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        x = box + share * (own.upper - box)
        values = execute(made, x, lambda node: node, keep=True)
        moved = x[:, base.free]
        if len(units):
            h = units.gathered({node.name: values[node.name] for node in units.nodes})
            z = units.gathered({node.name: values[node.inputs[0]] for node in units.nodes})
            found = moved @ base.read.inputs.T + h @ base.read.units.T + base.read.shift
            assert torch.allclose(found, z, atol=1e-10)
        else:
            h = x.new_zeros(50, 0)
        found = moved @ rows.inputs.T + h @ rows.units.T + rows.shift
        assert torch.allclose(found, one.values(x, values[made.output]), atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_convolutions_and_sums_of_branches(seed: int) -> None:
    test_what_units_read_and_rows_are_those_of_the_network(convolutional(seed), False)


@pytest.mark.parametrize("seed", [0, 2, 3, 5])
def test_gradients_are_those_of_difference_quotients(seed: int) -> None:
    own, made = case(ROWS, [0.5, -1.0]), ready(drawn(seed, (5, 4, 3), skip=seed % 2 == 0))
    units = on_whole_box(made, own, Clock()).units
    draw = torch.Generator().manual_seed(seed)
    size = (3, len(units))
    signs = torch.randint(-1, 2, size, generator=draw).to(torch.int8)
    alpha, beta = (torch.rand(size, generator=draw).double() for _ in range(2))
    weights = torch.randn(3, 2, generator=draw).double()
    own_pass = Ascent(made, own, units, Clock())._pass(
        Domains(signs, alpha, beta, weights, weights[:, 0])
    )
    own_pass.kept(alpha, beta, weights)
    slopes, step = own_pass.gradient(), 1e-6
    for place, slope in zip((alpha, beta, weights), slopes, strict=True):
        for column in range(place.shape[1]):
            ends = []
            for side in (step, -step):
                moved = [part.clone() for part in (alpha, beta, weights)]
                for part, old in zip(moved, (alpha, beta, weights), strict=True):
                    if old is place:
                        part[:, column] += side
                ends.append(own_pass.bound(*moved))
            assert torch.allclose((ends[0] - ends[1]) / (2 * step), slope[:, column], atol=1e-5)


def test_no_time() -> None:
    own, made = case(ROWS, [0.5, -1.0]), ready(drawn(1, (5, 4)))
    units = on_whole_box(made, own, Clock()).units
    with pytest.raises(OutOfTime):
        compact(made, own, units, Clock(1e-9))
