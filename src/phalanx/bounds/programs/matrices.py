"""Affine operators as sparse matrices, read off the adjoints that bounds use."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from scipy.sparse import csr_array, vstack

from phalanx.bounds.ops import Affine, rows
from phalanx.bounds.programs.program import Floats, identity
from phalanx.errors import GraphError
from phalanx.graph.ir import Node

LARGEST_ROWS = 1 << 22
"""Coefficients that are held densely at once."""

LARGEST_MATRIX = 1 << 26
"""Coefficients other than zero that a matrix may have."""


class Matrices:
    """The matrices of a prepared graph's affine operators, made when they are first asked for."""

    def __init__(self) -> None:
        self._kept: dict[str, list[csr_array]] = {}

    def of(self, node: Node) -> list[csr_array]:
        """One for each input: ``(numbers of the output, numbers of the input)``.

        Raises:
            GraphError: more coefficients than a program is worth.
        """
        if node.name not in self._kept:
            self._kept[node.name] = matrices(node)
        return self._kept[node.name]


def matrices(node: Node) -> list[csr_array]:
    """See `Matrices.of`.

    >>> weight = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
    >>> node = Node("y", "linear", ("x",), (2,), {"inputs": ((2,),)}, {"weight": weight})
    >>> matrices(node)[0].toarray().tolist()
    [[1.0, 0.0], [2.0, 3.0]]
    """
    size = prod(node.shape)
    if node.op == "reshape":
        return [identity(size)]
    if node.op == "linear" and len(node.shape) == 1:
        return [csr_array(node.tensors["weight"].double().numpy())]
    row = rows.get(node.op)
    if not isinstance(row, Affine):
        raise TypeError(f"{node.op} is not affine")
    numbers = [prod(shape) for shape in node.attributes["inputs"]]
    parts: list[list[csr_array]] = [[] for _ in numbers]
    kind, count = _kind(node), 0
    for chosen in torch.arange(size).split(max(1, LARGEST_ROWS // max(size, *numbers))):
        unit = torch.zeros(len(chosen), size, dtype=kind)
        unit[torch.arange(len(chosen)), chosen] = 1.0
        found = row.adjoint(node, unit.reshape(len(chosen), 1, *node.shape))
        for part, block, width in zip(parts, found, numbers, strict=True):
            part.append(csr_array(block.reshape(len(chosen), width).double().numpy()))
            count += part[-1].nnz
        if count > LARGEST_MATRIX:
            raise GraphError(
                f"node {node.name!r} ({node.op}) has more than {LARGEST_MATRIX} coefficients",
                why="a linear program of this size is not solved",
                repair="use crown or alpha-crown",
            )
    return [csr_array(vstack(part, format="csr")) for part in parts]


def offset(node: Node) -> Floats:
    """The constant part ``(numbers of the output,)``."""
    row = rows.get(node.op)
    shift = row.offset(node) if isinstance(row, Affine) else None
    if shift is None:
        return np.zeros(prod(node.shape))
    flat = shift.expand(1, *node.shape).reshape(-1)
    return np.asarray(flat.double().numpy(), dtype=np.float64)


def _kind(node: Node) -> torch.dtype:
    kinds = [t.dtype for t in node.tensors.values() if t.is_floating_point()]
    return kinds[0] if kinds else torch.float64
