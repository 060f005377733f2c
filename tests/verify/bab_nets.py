"""Small networks whose least values are known exactly, for tests of branch and bound."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from phalanx.graph.ir import Graph, Node
from phalanx.specs.property import Case

Floats = NDArray[np.float64]


def drawn(seed: int, widths: tuple[int, ...], *, skip: bool = False) -> Graph:
    """Two inputs, ReLU layers of these widths, two outputs; with ``skip`` the last reads the first.

    Weights are multiples of 1/8, so that the answers in rational numbers are near.
    """
    draw = np.random.default_rng(seed)

    def eighths(*shape: int) -> torch.Tensor:
        return torch.from_numpy(draw.integers(-16, 17, shape) / 8.0).float()

    nodes, last, size = [Node("x", "input", (), (2,))], "x", 2
    for index, width in enumerate(widths):
        tensors = {"weight": eighths(width, size), "bias": eighths(width)}
        nodes.append(Node(f"z{index}", "linear", (last,), (width,), {}, tensors))
        nodes.append(Node(f"h{index}", "relu", (f"z{index}",), (width,)))
        last, size = f"h{index}", width
    if skip and len(widths) > 1:
        nodes.append(Node("both", "concat", (last, "h0"), (size + widths[0],), {"axis": 0}))
        last, size = "both", size + widths[0]
    tensors = {"weight": eighths(2, size), "bias": eighths(2)}
    return Graph((*nodes, Node("y", "linear", (last,), (2,), {}, tensors)), "y")


def least(graph: Graph, case: Case) -> float:
    """The least over the box of the case's largest row, over all activation patterns.

    On one pattern everything is affine, so the least of the largest row is met where two of these
    lines cross: a sign changes, a side of the box, or two rows are equal (two inputs only).
    """
    neurons = sum(node.shape[0] for node in graph if node.op == "relu")
    best = np.inf
    for pattern in itertools.product([0.0, 1.0], repeat=neurons):
        signs, rows = _affine(graph, case, np.array(pattern))
        best = min(best, _on_pattern(signs, rows, np.array(pattern), case))
    return best


def _affine(graph: Graph, case: Case, pattern: Floats) -> tuple[Floats, Floats]:
    """``(N, 3)`` and ``(J, 3)``: what ReLUs read, and the rows, as ``a x + b y + c``."""
    values: dict[str, Floats] = {"x": np.eye(2, 3)}
    signs, at = [], 0
    for node in graph.nodes[1:]:
        inputs = [values[name] for name in node.inputs]
        if node.op == "linear":
            found = node.tensors["weight"].double().numpy() @ inputs[0]
            found[:, 2] += node.tensors["bias"].double().numpy()
        elif node.op == "relu":
            signs.append(inputs[0])
            found = inputs[0] * pattern[at : at + len(inputs[0]), None]
            at += len(inputs[0])
        else:
            found = np.concatenate(inputs)
        values[node.name] = found
    rows = case.outputs.numpy() @ values[graph.output]
    rows[:, 2] += case.offset.numpy()
    if case.inputs is not None:
        rows[:, :2] += case.inputs.numpy()
    return np.concatenate(signs), rows


def _on_pattern(signs: Floats, rows: Floats, pattern: Floats, case: Case) -> float:
    (x0, y0), (x1, y1) = case.lower.tolist(), case.upper.tolist()
    sides = np.array([[1, 0, -x0], [1, 0, -x1], [0, 1, -y0], [0, 1, -y1]], dtype=float)
    ties = [a - b for a, b in itertools.combinations(rows, 2)]
    lines = np.concatenate([signs, sides, np.array(ties).reshape(-1, 3)])
    first, second = np.triu_indices(len(lines), 1)
    a, b = lines[first], lines[second]
    determinant = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    a, b, determinant = (part[np.abs(determinant) > 1e-9] for part in (a, b, determinant))
    points = np.stack(
        [
            (a[:, 1] * b[:, 2] - b[:, 1] * a[:, 2]) / determinant,
            (b[:, 0] * a[:, 2] - a[:, 0] * b[:, 2]) / determinant,
            np.ones(len(a)),
        ]
    )
    inside = (points[0] >= x0 - 1e-9) & (points[0] <= x1 + 1e-9)
    inside &= (points[1] >= y0 - 1e-9) & (points[1] <= y1 + 1e-9)
    inside &= ((2 * pattern - 1)[:, None] * (signs @ points) >= -1e-7).all(0)
    if not inside.any():
        return np.inf
    return float((rows @ points[:, inside]).max(0).min())
