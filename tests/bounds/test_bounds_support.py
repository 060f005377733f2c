"""What doctor says of layers."""

from __future__ import annotations

from bounds_nets import network

from phalanx.bounds.support import KINDS, support
from phalanx.errors import GraphError
from phalanx.graph.build import Builder
from phalanx.graph.ir import Graph, Node


def test_every_kind_of_layer() -> None:
    found = {layer.op: layer for layer in support(network("mul"))}
    assert found["linear"].linear == "exact"
    assert (found["relu"].optimised, found["relu"].zonotope) == ("yes", "yes")
    assert (found["mul"].optimised, found["mul"].zonotope) == ("yes", "yes")
    assert (found["linear"].milp, found["relu"].milp, found["mul"].milp) == (
        *("exact", "exact", "as lp"),
    )
    assert found["mul"].lp == "yes"
    assert all(layer.bounded for layer in found.values())
    assert (
        "reciprocals"
        in {layer.op: layer for layer in support(network("softmax"))}["softmax"].repair
    )


def test_where_branch_and_bound_cuts() -> None:
    cuts = dict.fromkeys(("gelu", "exp", "sign", "clip", "softmax"), "halves")
    cuts |= {"relu": "sign", "abs": "sign", "leaky-relu": "sign", "sigmoid": "turn", "tanh": "turn"}
    cuts |= {"linear": "exact", "scale": "exact", "max-pool": "pairs", "mul": "no", "matmul": "no"}
    for case, cut in cuts.items():
        assert {layer.op: layer for layer in support(network(case))}[case].branching == cut


def test_a_layer_without_a_row_says_what_to_do() -> None:
    nodes = (Node("x", "input", (), (3,)), Node("odd", "erf", ("x",), (3,)))
    (layer,) = support(Graph(nodes, "odd"))
    assert not layer.bounded
    assert "list operators" in layer.repair


def test_an_opaque_layer_has_the_name_and_the_repair_of_its_operator() -> None:
    builder = Builder((3,))
    refused = GraphError("node 'y' (amax) is not supported", why="odd", repair="write max")
    name = builder.opaque("amax", [builder.input], (1,), refused, name="y", layer="body.1")
    (layer,) = support(builder.graph(name))
    assert (layer.node, layer.op, layer.repair) == (
        "y",
        "amax",
        "in layer 'body.1': odd; write max",
    )
    assert {getattr(layer, kind) for kind in KINDS} == {"no"}
