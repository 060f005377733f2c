"""The product of two matrices that both depend on the input: a column for every product."""

from __future__ import annotations

from math import prod

import numpy as np
from scipy.sparse import csr_array

from phalanx.bounds.programs.encode import Sheet, encodings
from phalanx.bounds.programs.encodings.mul import products
from phalanx.bounds.programs.program import Forms
from phalanx.graph.ir import Node


@encodings.register("matmul")
def matmul(node: Node, sheet: Sheet) -> Forms:
    """``sum_k x_ik y_kj``; axes in front may be broadcast."""
    first, second = node.attributes["inputs"]
    terms = first[-1]
    shape = (*node.shape, terms)
    x = np.arange(prod(first)).reshape(*first[:-1], 1, terms)
    y = np.swapaxes(np.arange(prod(second)).reshape(second), -1, -2)
    y = y.reshape(*second[:-2], 1, second[-1], terms)
    flat = [np.broadcast_to(part, shape).reshape(-1) for part in (x, y)]
    found = products(node, sheet, *flat)
    size = prod(node.shape)
    parts = (np.ones(size * terms), np.arange(size * terms), terms * np.arange(size + 1))
    return found.through(csr_array(parts, shape=(size, size * terms)))
