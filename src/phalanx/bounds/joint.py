"""The graph of several members on one input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from phalanx.bounds.prepare import prepare
from phalanx.graph.ir import INPUT, Graph, Node


def joint(
    graphs: Sequence[Graph],
    weights: Sequence[float],
    kind: torch.dtype,
    *,
    softmax: bool = False,
    exact: bool = False,
) -> Graph:
    """``sum_m w_m z_m``, or of softmax: one prepared graph in precision ``kind``.

    Args:
        graphs: of the members, prepared, on one shape of input.
        weights: one a member; with ``exact``, within two roundings of the shares that are meant.
        kind: floating point type of its weights.
        softmax: the members' confidences are summed instead of their logits.
        exact: as in `prepare`; the members' graphs are prepared so, too.
    """
    first = graphs[0]
    shape = first[first.output].shape
    # A third is no number of any type: a share is a quotient, of a sum that was rounded once.
    rounded = {"roundings": 2} if exact else {}
    nodes, shares = [Node(INPUT, INPUT, (), first.input.shape)], []
    for number, graph in enumerate(graphs):
        nodes += _renamed(graph, number)
        last = _name(graph, graph.output, number)
        if softmax:
            nodes.append(Node(f"{number}/softmax", "softmax", (last,), shape, {"axis": 0}))
            last = f"{number}/softmax"
        weight = {"weight": torch.tensor(weights[number], dtype=kind)}
        shares.append(f"{number}/share")
        nodes.append(Node(shares[-1], "scale", (last,), shape, rounded, weight))
    total = shares[0]
    for number, share in enumerate(shares[1:], 1):
        nodes.append(Node(f"{number}/sum", "add", (total, share), shape))
        total = f"{number}/sum"
    return prepare(Graph(tuple(nodes), total), exact=exact).to(kind)


def _renamed(graph: Graph, number: int) -> list[Node]:
    return [
        replace(
            node,
            name=_name(graph, node.name, number),
            inputs=tuple(_name(graph, name, number) for name in node.inputs),
        )
        for node in graph
        if node.op != INPUT
    ]


def _name(graph: Graph, name: str, number: int) -> str:
    return INPUT if name == graph.input.name else f"{number}/{name}"
