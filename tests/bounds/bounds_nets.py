"""Small random networks around every operator that is bounded, in double precision."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.ops import rows
from phalanx.bounds.region import Region, box
from phalanx.graph.build import Builder
from phalanx.graph.ir import Graph

CURVES = {
    "relu": {},
    "leaky-relu": {"slope": 0.1},
    "leaky-relu steep": {"slope": 1.7},
    "leaky-relu falling": {"slope": -0.4},
    "sigmoid": {},
    "tanh": {},
    "gelu": {},
    "gelu tanh": {"approximate": "tanh"},
    "exp": {},
    "square": {},
    "power": {"exponent": 3.0},
    "power even": {"exponent": 4.0},
    "sin": {},
    "cos": {},
    "abs": {},
    "clip": {"low": -0.6, "high": 0.9},
    "clip below": {"low": -0.2, "high": float("inf")},
    "sign": {},
    "floor": {},
}
POSITIVE = {"log": {}, "sqrt": {}, "reciprocal": {}, "power root": {"exponent": 1.5}}
CONV = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 1}
POOL = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0)}


class Net:
    """A builder with random weights."""

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.builder = Builder(shape)
        self.last = self.builder.input

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random, dtype=torch.float64)

    def add(self, op: str, *others: str, tensors=None, **attributes) -> Net:
        self.last = self.builder.add(op, [self.last, *others], tensors=tensors, **attributes)
        return self

    def dense(self, out: int, scale: float = 1.0) -> Net:
        size = self.builder[self.last].shape[-1]
        tensors = {"weight": scale * self.draw(out, size) / size**0.5, "bias": self.draw(out)}
        return self.add("linear", tensors=tensors)

    def flat(self) -> Net:
        size = torch.Size(self.builder[self.last].shape).numel()
        return self.add("reshape", shape=(size,))

    def graph(self) -> Graph:
        return self.flat().dense(3).builder.graph(self.last)


def of_curve(name: str, seed: int) -> Graph:
    """Two hidden layers around the curve; its argument is positive where it must be."""
    op = name.partition(" ")[0]
    options = POSITIVE.get(name, CURVES.get(name, {}))
    net = Net(seed, (4,)).dense(5, 2.0)
    if name in POSITIVE:
        net.add("square").add("scale", tensors={"bias": torch.tensor(0.3, dtype=torch.float64)})
    net.add(op, **options).dense(4).add("relu").dense(4)
    if name not in POSITIVE:
        net.add(op, **options)
    return net.graph()


def of_layer(op: str, seed: int) -> Graph:
    """An image, the layer between two others, ReLUs."""
    net = Net(seed, (2, 5, 5))
    weight = {"weight": net.draw(3, 2, 3, 3) / 3, "bias": net.draw(3)}
    plain = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    net.add("conv", tensors=weight, **plain).add("relu")
    if op == "conv":
        net.add(op, tensors={"weight": net.draw(2, 3, 3, 3) / 3, "bias": net.draw(2)}, **CONV)
    elif op == "conv-transpose":
        tensors = {"weight": net.draw(3, 2, 3, 3) / 3, "bias": net.draw(2)}
        net.add(op, tensors=tensors, **{**CONV, "dilation": (1, 1), "output_padding": (1, 0)})
    elif op == "max-pool":
        net.add(op, **POOL, dilation=(1, 1), ceil_mode=True)
    elif op == "avg-pool":
        net.add(op, **POOL, count_padding=False)
    elif op == "avg-pool counted":
        net.add("avg-pool", **{**POOL, "kernel": (3, 3)}, count_padding=True)
    elif op == "quotient":
        net.add(op, tensors={"divisor": net.draw(3, 1, 1)})
        net.add("conv", tensors={"weight": net.draw(2, 3, 3, 3) / 3}, **CONV)
    elif op == "batch-norm":
        net.add("conv", tensors={"weight": net.draw(2, 3, 3, 3) / 3, "bias": net.draw(2)}, **CONV)
        tensors = {key: net.draw(2) for key in ("mean", "weight", "bias")}
        net.add(op, tensors={**tensors, "variance": net.draw(2).square()}, epsilon=1e-5)
    return net.add("relu").graph()


def of_layout(op: str, seed: int) -> Graph:
    """A sequence through everything that moves numbers, then the operator on two branches."""
    net = Net(seed, (3, 4)).dense(4)
    start = net.add("relu").last
    branch = net.dense(4).last
    net.last = start
    if op in ("add", "sub", "mul"):
        net.add(op, branch)
    elif op == "matmul":
        other = net.builder.add("transpose", [branch], permutation=(1, 0))
        net.add(op, other)
    elif op == "concat":
        constant = net.builder.constant(net.draw(3, 1))
        net.add(op, branch, constant, axis=1)
    elif op == "constant":
        net.add("mul", net.builder.constant(net.draw(3, 4)))
    elif op == "softmax":
        net.dense(3).add(op, axis=1)
    elif op == "div":
        below = net.builder.add("exp", [branch])
        net.add(op, below)
    else:
        arguments = {
            "scale": {"tensors": {"weight": net.draw(1, 4), "bias": net.draw(3, 1)}},
            "reshape": {"shape": (2, 6)},
            "transpose": {"permutation": (1, 0)},
            "take": {"axis": 1, "tensors": {"indices": torch.tensor([3, 0, 0])}},
            "pad": {"before": (1, 0), "after": (0, -1), "value": 0.7},
            "reduce-sum": {"axes": (1,)},
            "expand": {"shape": (2, 3, 4)},
            "linear": {"tensors": {"weight": net.draw(2, 4)}},
        }[op]
        net.add(op, **arguments)
    return net.add("relu").graph()


LAYERS = (
    *("conv", "conv-transpose", "max-pool", "avg-pool", "avg-pool counted"),
    *("quotient", "batch-norm"),
)
LAYOUTS = (
    *("add", "sub", "mul", "matmul", "concat", "constant", "softmax", "div"),
    *("scale", "reshape", "transpose", "take", "pad", "reduce-sum", "expand", "linear"),
)
CASES = (*CURVES, *POSITIVE, *LAYERS, *LAYOUTS)


def network(case: str, seed: int = 0) -> Graph:
    if case in LAYERS:
        return of_layer(case, seed)
    return of_layout(case, seed) if case in LAYOUTS else of_curve(case, seed)


def untested() -> set[str]:
    return set(rows.names()) - {case.partition(" ")[0] for case in CASES}


def around(graph: Graph, eps: float, seed: int = 0, batch: int = 3) -> Region:
    """Boxes of different sizes; the second element's is the largest."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn((batch, *graph.input.shape), generator=random, dtype=torch.float64)
    sizes = eps * torch.rand((batch, *graph.input.shape), generator=random, dtype=torch.float64)
    sizes[1:2] *= 2
    return box(x - sizes, x + sizes)


def points(region: Region, count: int, seed: int = 0) -> Tensor:
    """Points ``(count, B, *shape)``: corners, edges and the inside."""
    random = torch.Generator().manual_seed(seed)
    shape = (count, *region.lower.shape)
    share = torch.rand(shape, generator=random, dtype=region.lower.dtype)
    share[: count // 2] = share[: count // 2].round()
    if region.norm == "linf":
        return region.lower + share * (region.upper - region.lower)
    move = torch.randn(shape, generator=random, dtype=region.lower.dtype)
    if region.norm == "l1":
        move = move * (torch.rand(shape, generator=random) < 0.3)
    order = 1.0 if region.norm == "l1" else 2.0
    length = torch.linalg.vector_norm(move.flatten(2), ord=order, dim=2).clamp_min(1e-12)
    move = move / length.reshape(*length.shape, *[1] * (move.ndim - 2)) * region.eps
    return (region.centre + move).maximum(region.lower).minimum(region.upper)
