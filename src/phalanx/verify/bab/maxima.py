"""Max-pools as ReLUs, whose signs can be decided: ``max(a, b) = b + relu(a - b)``."""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from phalanx.bounds.prepare import prepare
from phalanx.bounds.programs.encodings.max_pool import entries_of_windows
from phalanx.graph.ir import Graph, Node

OP = "max-pool"


def by_relus(graph: Graph) -> Graph:
    """The same function, each window's largest found by a tree of pairs; as it is without any.

    Args:
        graph: from `prepare`.
    """
    if all(node.op != OP for node in graph):
        return graph
    nodes: list[Node] = []
    for node in graph:
        nodes += _tree(node) if node.op == OP else [node]
    return prepare(Graph(tuple(nodes), graph.output), exact=True).to(torch.float64)


def _tree(node: Node) -> list[Node]:
    """Flat entries of the windows, place by place, and the larger of two at every turn."""
    table = entries_of_windows(node)
    # A place that sees nothing has an entry of its window twice.
    table = np.where(table < 0, table.max(0), table)
    shape, size = node.attributes["inputs"][0], table.shape[1]
    flat = f"{node.name}/flat"
    nodes = [Node(flat, "reshape", node.inputs, (prod(shape),), {"shape": (prod(shape),)})]
    level = []
    for place, entries in enumerate(table):
        index = {"indices": torch.from_numpy(entries)}
        level.append(f"{node.name}/{place}")
        nodes.append(Node(level[-1], "take", (flat,), (size,), {"axis": 0}, index))
    turn = 0
    while len(level) > 1:
        pairs, rest = zip(level[::2], level[1::2], strict=False), level[len(level) // 2 * 2 :]
        level = []
        for a, b in pairs:
            less, more, both = (f"{node.name}/{part}{turn}" for part in ("less", "more", "max"))
            turn += 1
            nodes.append(Node(less, "sub", (a, b), (size,)))
            nodes.append(Node(more, "relu", (less,), (size,)))
            nodes.append(Node(both, "add", (b, more), (size,)))
            level.append(both)
        level += rest
    return [*nodes, Node(node.name, "reshape", (level[0],), node.shape, {"shape": node.shape})]
