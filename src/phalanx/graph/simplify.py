"""The same function in fewer nodes: normalisation folded into layers, layouts in one form.

`simplify` rewrites one node at a time until nothing changes:

* reshapes, transposes, scales and selections that do nothing vanish; two of them in a row become
  one; a division becomes a product with a reciprocal, average pooling a convolution;
* ``scale`` behind or before ``linear`` and ``conv`` (a bias, a normalisation of the input,
  batch normalisation) goes into their weights.

Folding is exact in real arithmetic and moves roundings in floating point. The products that
make the new weights are computed in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from phalanx.graph.build import without_dead_ends
from phalanx.graph.ir import Graph, Node


@dataclass
class _State:
    nodes: dict[str, Node]
    output: str

    def __post_init__(self) -> None:
        self.count()

    def count(self) -> None:
        """How often each node is read, the outside world included."""
        self.uses = dict.fromkeys(self.nodes, 0)
        self.uses[self.output] = 1
        for node in self.nodes.values():
            for name in node.inputs:
                self.uses[name] += 1

    def source(self, node: Node, *ops: str) -> Node | None:
        """The node's first input, where it is one of these operators."""
        found = self.nodes[node.inputs[0]]
        return found if found.op in ops else None

    def own(self, node: Node, *ops: str) -> Node | None:
        """Likewise, where nobody else reads it."""
        found = self.source(node, *ops)
        return found if found is not None and self.uses[found.name] == 1 else None


Rewrite = Callable[[_State, Node], "Node | None"]
"""A node that computes the same, under the same name, or None."""


def simplify(graph: Graph) -> Graph:
    """An equal graph (in real arithmetic) with fewer nodes; see the module."""
    state = _State(graph.by_name(), graph.output)
    changed = True
    while changed:
        changed = False
        for name in list(state.nodes):
            node = state.nodes[name]
            for rewrite in REWRITES.get(node.op, ()):
                if (found := rewrite(state, node)) is not None:
                    state.nodes[name] = found
                    state.count()
                    changed = True
                    break
        kept = without_dead_ends(_aliases_resolved(state))
        state = _State(kept.by_name(), kept.output)
    return Graph(tuple(state.nodes.values()), state.output)


def _aliases_resolved(state: _State) -> Graph:
    """Readers of a ``same`` node read what it stands for."""
    stands: dict[str, str] = {}
    nodes = []
    for found in state.nodes.values():
        node = replace(found, inputs=tuple(stands.get(name, name) for name in found.inputs))
        if node.op == "same":
            stands[node.name] = node.inputs[0]
        else:
            nodes.append(node)
    return Graph(tuple(nodes), stands.get(state.output, state.output))


def _same(node: Node) -> Node:
    return Node(node.name, "same", node.inputs[:1], node.shape)


def _layout_vanishes(state: _State, node: Node) -> Node | None:
    if node.op == "transpose":
        permutation = node.attributes["permutation"]
        return _same(node) if list(permutation) == sorted(permutation) else None
    return _same(node) if state.nodes[node.inputs[0]].shape == node.shape else None


def _reshape_of_reshape(state: _State, node: Node) -> Node | None:
    before = state.source(node, "reshape")
    return None if before is None else replace(node, inputs=before.inputs)


def _transpose_of_transpose(state: _State, node: Node) -> Node | None:
    before = state.source(node, "transpose")
    if before is None:
        return None
    inner = before.attributes["permutation"]
    order = tuple(inner[axis] for axis in node.attributes["permutation"])
    return replace(node, inputs=before.inputs, attributes={"permutation": order})


def _transpose_is_reshape(state: _State, node: Node) -> Node | None:
    """Where only axes of size one change places, no number moves."""
    source = state.nodes[node.inputs[0]].shape
    moved = [axis for axis in node.attributes["permutation"] if source[axis] != 1]
    if moved != sorted(moved):
        return None
    return replace(node, op="reshape", attributes={"shape": node.shape})


def _pad_vanishes(state: _State, node: Node) -> Node | None:
    return None if any((*node.attributes["before"], *node.attributes["after"])) else _same(node)


def _scale_vanishes(state: _State, node: Node) -> Node | None:
    if any(tensor.requires_grad for tensor in node.tensors.values()):
        return None  # it is being trained: one now, another number soon
    ones = "weight" not in node.tensors or bool((node.tensors["weight"] == 1).all())
    zeros = "bias" not in node.tensors or bool((node.tensors["bias"] == 0).all())
    keeps = state.nodes[node.inputs[0]].shape == node.shape
    return _same(node) if ones and zeros and keeps else None


def _scale_of_scale(state: _State, node: Node) -> Node | None:
    before = state.own(node, "scale")
    if before is None:
        return None
    w, b = _pair(node)
    inner_w, inner_b = _pair(before)
    return replace(
        node, inputs=before.inputs, tensors=_stored(node, before, w * inner_w, w * inner_b + b)
    )


def _scale_behind_linear(state: _State, node: Node) -> Node | None:
    before = state.own(node, "linear")
    if before is None or node.shape != before.shape:
        return None
    w, b = (_along(part, node.shape, len(node.shape) - 1) for part in _pair(node))
    if w is None or b is None:
        return None
    weight, bias = before.tensors["weight"].double(), _bias(before)
    return replace(
        before, name=node.name, tensors=_stored(before, node, w.unsqueeze(1) * weight, w * bias + b)
    )


def _scale_behind_conv(state: _State, node: Node) -> Node | None:
    before = state.own(node, "conv")
    if before is None or node.shape != before.shape:
        return None
    w, b = (_along(part, node.shape, 0) for part in _pair(node))
    if w is None or b is None:
        return None
    weight = before.tensors["weight"].double()
    wide = w.reshape(-1, *[1] * (weight.ndim - 1))
    return replace(
        before, name=node.name, tensors=_stored(before, node, wide * weight, w * _bias(before) + b)
    )


def _scale_before_linear(state: _State, node: Node) -> Node | None:
    before = state.own(node, "scale")
    if before is None or state.nodes[before.inputs[0]].shape != before.shape:
        return None
    last = len(before.shape) - 1
    w, b = (_along(part, before.shape, last) for part in _pair(before))
    if w is None or b is None:
        return None
    weight = node.tensors["weight"].double()
    return replace(
        node,
        inputs=before.inputs,
        tensors=_stored(node, before, weight * w, _bias(node) + weight @ b),
    )


def _scale_before_conv(state: _State, node: Node) -> Node | None:
    """Zeros of the padding are put in behind the scale: with a shift they would move."""
    before = state.own(node, "scale")
    if before is None or state.nodes[before.inputs[0]].shape != before.shape:
        return None
    w, b = (_along(part, before.shape, 0) for part in _pair(before))
    if w is None or b is None or node.attributes["groups"] != 1:
        return None
    if any(node.attributes["padding"]) and bool((b != 0).any()):
        return None
    weight = node.tensors["weight"].double()
    shift = (weight.flatten(2).sum(2) * b).sum(1)
    wide = weight * w.reshape(1, -1, *[1] * (weight.ndim - 2))
    return replace(
        node, inputs=before.inputs, tensors=_stored(node, before, wide, _bias(node) + shift)
    )


def _scale_before_reshape(state: _State, node: Node) -> Node | None:
    """The scale goes behind the reshape where a layer that takes it in may follow."""
    before = state.own(node, "scale")
    if before is None or len(node.shape) != 1:
        return None
    if state.nodes[before.inputs[0]].shape != before.shape:
        return None
    if not _read_only_by_linear(state, node):
        return None
    tensors = {
        key: tensor.expand(before.shape).reshape(node.shape)
        for key, tensor in before.tensors.items()
    }
    # The two change places: names stay, so that the order of the nodes does.
    state.nodes[before.name] = replace(node, name=before.name, inputs=before.inputs)
    return Node(node.name, "scale", (before.name,), node.shape, {}, tensors)


def _read_only_by_linear(state: _State, node: Node) -> bool:
    readers = [other for other in state.nodes.values() if node.name in other.inputs]
    return len(readers) == 1 == state.uses[node.name] and readers[0].op == "linear"


def _division_is_product(state: _State, node: Node) -> Node | None:
    """``x / y = x (1 / y)``; the reciprocal takes the place of a new node before this one."""
    x, y = node.inputs
    name = f"{node.name}-reciprocal"
    if name in state.nodes:
        return None
    nodes = {}
    for key, value in state.nodes.items():
        if key == node.name:
            nodes[name] = Node(name, "reciprocal", (y,), state.nodes[y].shape)
        nodes[key] = value
    state.nodes = nodes
    return replace(node, op="mul", inputs=(x, name))


def _average_is_convolution(state: _State, node: Node) -> Node | None:
    """A convolution of every channel with equal weights, where all windows count the same."""
    a = node.attributes
    channels = node.shape[0]
    if any(a["padding"]) and not a["count_padding"]:
        return None
    size = 1
    for length in a["kernel"]:
        size *= length
    kinds = {t.dtype for other in state.nodes.values() for t in other.tensors.values()}
    kind = torch.float64 if torch.float64 in kinds else torch.float32  # 1/9 is in neither
    weight = torch.full((channels, 1, *a["kernel"]), 1 / size, dtype=kind)
    ones = (1,) * len(a["kernel"])
    attributes = {
        "stride": tuple(a["stride"]),
        "padding": tuple(a["padding"]),
        "dilation": ones,
        "groups": channels,
    }
    return replace(node, op="conv", attributes=attributes, tensors={"weight": weight})


REWRITES: Mapping[str, tuple[Rewrite, ...]] = {
    "reshape": (_layout_vanishes, _reshape_of_reshape, _scale_before_reshape),
    "expand": (_layout_vanishes,),
    "transpose": (_layout_vanishes, _transpose_of_transpose, _transpose_is_reshape),
    "pad": (_pad_vanishes,),
    "scale": (_scale_vanishes, _scale_of_scale, _scale_behind_linear, _scale_behind_conv),
    "linear": (_scale_before_linear,),
    "conv": (_scale_before_conv,),
    "div": (_division_is_product,),
    "avg-pool": (_average_is_convolution,),
}
"""What is tried on each operator, in order."""


def _pair(node: Node) -> tuple[Tensor, Tensor]:
    """Weight and bias of a scale in double precision."""
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    weight, bias = node.tensors.get("weight", one), node.tensors.get("bias", zero)
    return weight.double(), bias.double()


def _bias(node: Node) -> Tensor:
    weight = node.tensors["weight"]
    found = node.tensors.get("bias")
    return torch.zeros(len(weight), dtype=torch.float64) if found is None else found.double()


def _along(tensor: Tensor, shape: tuple[int, ...], axis: int) -> Tensor | None:
    """A broadcast tensor as one number for each entry of ``axis``; None where it needs more."""
    full = tensor.expand(np.broadcast_shapes(tensor.shape, shape))
    if full.shape != torch.Size(shape):
        return None
    rows = full.movedim(axis, 0).reshape(shape[axis], -1)
    return rows[:, 0].clone() if bool((rows == rows[:, :1]).all()) else None


def _stored(node: Node, other: Node, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """In the precision the tensors were in."""
    kinds = [t.dtype for n in (node, other) for t in n.tensors.values()]
    kind = torch.float64 if torch.float64 in kinds else torch.float32
    return {"weight": weight.to(kind), "bias": bias.to(kind)}
