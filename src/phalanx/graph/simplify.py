"""The same function in fewer nodes: normalisation folded into layers, layouts in one form.

`simplify` rewrites one node at a time until nothing changes:

* reshapes, transposes, scales and selections that do nothing vanish; two of them in a row become
  one; a division becomes a product with a reciprocal, average pooling a convolution;
* ``scale`` behind or before ``linear`` and ``conv`` (a bias, a normalisation of the input,
  batch normalisation) goes into their weights.

Folding is exact in real arithmetic and moves roundings in floating point. What proofs in exact
arithmetic rest on is made with ``exact``: new constants are in double precision, each is the true
number but for a relative error, and a node's attribute ``roundings`` counts how many went into it
(`phalanx.bounds.outward` charges them). What could only be folded with a sum stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    exact: bool = False

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


def simplify(graph: Graph, *, exact: bool = False) -> Graph:
    """An equal graph (in real arithmetic) with fewer nodes; see the module."""
    state = _State(graph.by_name(), graph.output, exact)
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
        state = _State(kept.by_name(), kept.output, exact)
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
    if node.attributes.get("roundings"):
        return None  # its one may be a number near one
    ones = "weight" not in node.tensors or bool((node.tensors["weight"] == 1).all())
    zeros = "bias" not in node.tensors or bool((node.tensors["bias"] == 0).all())
    keeps = state.nodes[node.inputs[0]].shape == node.shape
    return _same(node) if ones and zeros and keeps else None


def _scale_of_scale(state: _State, node: Node) -> Node | None:
    before = state.own(node, "scale")
    if before is None or (state.exact and "weight" not in before.tensors):
        return None  # a shift would keep the factor from going into a layer behind
    (w, b), (inner_w, inner_b) = _pair(node), _pair(before)
    whole = replace(node, inputs=before.inputs)
    return _folded(state, whole, (node, before), w * inner_w, (w * inner_b, b))


def _scale_behind_linear(state: _State, node: Node) -> Node | None:
    before = state.own(node, "linear")
    if before is None or node.shape != before.shape:
        return None
    w, b = (_along(part, node.shape, len(node.shape) - 1) for part in _pair(node))
    if w is None or b is None:
        return None
    weight = w.unsqueeze(1) * before.tensors["weight"].double()
    whole = replace(before, name=node.name)
    return _folded(state, whole, (before, node), weight, (w * _bias(before), b))


def _scale_behind_conv(state: _State, node: Node) -> Node | None:
    before = state.own(node, "conv")
    if before is None or node.shape != before.shape:
        return None
    w, b = (_along(part, node.shape, 0) for part in _pair(node))
    if w is None or b is None:
        return None
    weight = before.tensors["weight"].double()
    weight = w.reshape(-1, *[1] * (weight.ndim - 1)) * weight
    whole = replace(before, name=node.name)
    return _folded(state, whole, (before, node), weight, (w * _bias(before), b))


def _scale_before_linear(state: _State, node: Node) -> Node | None:
    before = state.own(node, "scale")
    if before is None or state.nodes[before.inputs[0]].shape != before.shape:
        return None
    last = len(before.shape) - 1
    w, b = (_along(part, before.shape, last) for part in _pair(before))
    if w is None or b is None or (state.exact and bool(b.any())):
        return None
    weight = node.tensors["weight"].double()
    whole = replace(node, inputs=before.inputs)
    return _folded(state, whole, (node, before), weight * w, (weight @ b, _bias(node)))


def _scale_before_conv(state: _State, node: Node) -> Node | None:
    """Zeros of the padding are put in behind the scale: with a shift they would move."""
    before = state.own(node, "scale")
    if before is None or state.nodes[before.inputs[0]].shape != before.shape:
        return None
    w, b = (_along(part, before.shape, 0) for part in _pair(before))
    if w is None or b is None or node.attributes["groups"] != 1:
        return None
    if bool(b.any()) and (state.exact or any(node.attributes["padding"])):
        return None
    weight = node.tensors["weight"].double()
    shift = (weight.flatten(2).sum(2) * b).sum(1)
    weight = weight * w.reshape(1, -1, *[1] * (weight.ndim - 2))
    whole = replace(node, inputs=before.inputs)
    return _folded(state, whole, (node, before), weight, (shift, _bias(node)))


def _folded(
    state: _State, node: Node, parts: Sequence[Node], weight: Tensor, shifts: Sequence[Tensor]
) -> Node | None:
    """The node with what two parts did: weights are products, the bias is a sum of two shifts.

    Returns:
        None where exact folding would have to add numbers up, or a product could underflow.
    """
    if not state.exact:
        kinds = [t.dtype for part in parts for t in part.tensors.values()]
        kind = torch.float64 if torch.float64 in kinds else torch.float32
        bias = shifts[0] + shifts[1]
        return replace(node, tensors={"weight": weight.to(kind), "bias": bias.to(kind)})
    first, second = torch.broadcast_tensors(*shifts)
    if bool(((first != 0) & (second != 0)).any()) or not all(map(_is_moderate, parts)):
        return None
    # Products of numbers of single precision are numbers of double precision.
    single = all(_is_single(tensor) for part in parts for tensor in part.tensors.values())
    before = sum(part.attributes.get("roundings", 0) for part in parts)
    attributes = {**node.attributes, "roundings": before + (0 if single else 1)}
    return replace(node, attributes=attributes, tensors={"weight": weight, "bias": first + second})


def _is_moderate(node: Node) -> bool:
    """Whether products and quotients of its constants have the relative error that is counted."""
    sizes = [t.abs() for t in node.tensors.values() if t.is_floating_point()]
    return all(bool(((n == 0) | ((n > 2.0**-500) & (n < 2.0**500))).all()) for n in sizes)


def _is_single(tensor: Tensor) -> bool:
    return torch.equal(tensor.float().to(tensor.dtype), tensor)


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
    return replace(before, name=node.name, inputs=(before.name,), shape=node.shape, tensors=tensors)


def _read_only_by_linear(state: _State, node: Node) -> bool:
    readers = [other for other in state.nodes.values() if node.name in other.inputs]
    return len(readers) == 1 == state.uses[node.name] and readers[0].op == "linear"


def _quotient_is_scale(state: _State, node: Node) -> Node | None:
    divisor = node.tensors["divisor"]
    if state.exact and not _is_moderate(node):
        return None
    weight = divisor.double().reciprocal()
    if not state.exact:
        return replace(node, op="scale", tensors={"weight": weight.to(divisor.dtype)})
    power = bool((torch.frexp(divisor.abs()).mantissa == 0.5).all())  # of two: nothing is rounded
    attributes = {**node.attributes, "roundings": 0 if power else 1}
    return replace(node, op="scale", attributes=attributes, tensors={"weight": weight})


BATCH_NORM_ROUNDINGS = 4
"""Of ``weight / sqrt(variance + epsilon)``, each of them at most half a unit in the last place."""


def _batch_norm_is_scale(state: _State, node: Node) -> Node | None:
    """One scale; in exact folding two, of which the first takes the mean off."""
    name, tensors = f"{node.name}-centred", node.tensors
    if name in state.nodes or (state.exact and not _is_moderate(node)):
        return None
    mean, variance, weight, bias = (
        tensors[key].double() for key in ("mean", "variance", "weight", "bias")
    )
    sides = (-1, *[1] * (len(node.shape) - 1))
    factor = weight / (variance + node.attributes["epsilon"]).sqrt()
    if not state.exact:
        kind = tensors["mean"].dtype
        parts = {"weight": factor, "bias": bias - mean * factor}
        folded = {key: part.reshape(sides).to(kind) for key, part in parts.items()}
        return replace(node, op="scale", attributes={}, tensors=folded)
    _put_before(
        state,
        node,
        Node(name, "scale", node.inputs, node.shape, {}, {"bias": -mean.reshape(sides)}),
    )
    return Node(
        node.name,
        "scale",
        (name,),
        node.shape,
        {"roundings": BATCH_NORM_ROUNDINGS},
        {"weight": factor.reshape(sides), "bias": bias.reshape(sides)},
    )


def _put_before(state: _State, node: Node, other: Node) -> None:
    nodes = {}
    for key, value in state.nodes.items():
        if key == node.name:
            nodes[other.name] = other
        nodes[key] = value
    state.nodes = nodes


def _division_is_product(state: _State, node: Node) -> Node | None:
    """``x / y = x (1 / y)``; the reciprocal takes the place of a new node before this one."""
    x, y = node.inputs
    name = f"{node.name}-reciprocal"
    if name in state.nodes:
        return None
    _put_before(state, node, Node(name, "reciprocal", (y,), state.nodes[y].shape))
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
    kind = torch.float64 if state.exact or torch.float64 in kinds else torch.float32
    weight = torch.full((channels, 1, *a["kernel"]), 1 / size, dtype=kind)
    ones = (1,) * len(a["kernel"])
    attributes = {
        "stride": tuple(a["stride"]),
        "padding": tuple(a["padding"]),
        "dilation": ones,
        "groups": channels,
        "roundings": 0 if size & (size - 1) == 0 else 1,  # a ninth is no number of any type
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
    "quotient": (_quotient_is_scale,),
    "batch-norm": (_batch_norm_is_scale,),
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
