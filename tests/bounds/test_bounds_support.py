"""What doctor says of layers."""

from __future__ import annotations

from bounds_nets import network

from phalanx.bounds.support import support
from phalanx.graph.ir import Graph, Node


def test_every_kind_of_layer() -> None:
    found = {layer.op: layer for layer in support(network("mul"))}
    assert found["linear"].linear == "exact"
    assert (found["relu"].optimised, found["relu"].zonotope) == ("yes", "yes")
    assert (found["mul"].optimised, found["mul"].zonotope) == ("no", "as a box")
    assert (found["linear"].milp, found["relu"].milp, found["mul"].milp) == (
        *("exact", "exact", "as lp"),
    )
    assert found["mul"].lp == "yes"
    assert all(layer.bounded for layer in found.values())
    assert (
        "reciprocals"
        in {layer.op: layer for layer in support(network("softmax"))}["softmax"].repair
    )


def test_a_layer_without_a_row_says_what_to_do() -> None:
    nodes = (Node("x", "input", (), (3,)), Node("odd", "erf", ("x",), (3,)))
    (layer,) = support(Graph(nodes, "odd"))
    assert not layer.bounded
    assert "relu" in layer.repair
