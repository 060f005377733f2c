"""What every bounding method must satisfy, whatever the operator; methods join by registration."""

from __future__ import annotations

import itertools

import torch
from bounds_nets import points
from torch import Tensor

from phalanx.bounds.front import Bounds, compute
from phalanx.bounds.region import Region
from phalanx.graph.ir import Graph
from phalanx.graph.run import run

SLACK = 1e-9
"""Roundings of double precision, which the bounds do not count, in units of the largest value."""


def outputs(graph: Graph, x: Tensor) -> Tensor:
    """Values ``(N, B, outputs)`` at points ``(N, B, *shape)``."""
    return run(graph, x.flatten(0, 1)).reshape(*x.shape[:2], -1)


def contains(
    graph: Graph, region: Region, found: Bounds, count: int = 400, steps: int = 12
) -> None:
    """No point of the region, random or found by descent, is outside of the bounds.

    Answers that are NaN in floating point (``exp`` of ``exp``, at large radii) say nothing.
    """
    values = outputs(graph, points(region, count))
    slack = SLACK * (1 + values.abs().where(torch.isfinite(values), 0.0).amax())
    assert found.upper is not None
    assert not torch.isnan(found.lower).any()
    assert not torch.isnan(found.upper).any()
    assert not (values < found.lower - slack).any()
    assert not (values > found.upper + slack).any()
    for sign in (1.0, -1.0) if steps else ():
        worst = descended(graph, region, sign, steps)
        bound = found.lower if sign > 0 else -found.upper
        assert (worst >= bound - slack).all()


def descended(graph: Graph, region: Region, sign: float, steps: int) -> Tensor:
    """The least of ``sign`` times each output that signed gradients reach: ``(B, outputs)``."""
    width = region.upper - region.lower
    best = []
    for output in range(graph[graph.output].shape[0]):
        x = points(region, 4)
        low = torch.full(x.shape[:2], torch.inf, dtype=x.dtype)
        for step in range(steps):
            x = x.detach().requires_grad_(True)
            value = sign * outputs(graph, x)[..., output]
            low = low.fmin(value.detach())
            (slope,) = torch.autograd.grad(value.sum(), x)
            moved = x.detach() - width * 0.4 * 0.8**step * slope.sign()
            x = moved.maximum(region.lower).minimum(region.upper)
            if region.norm != "linf":
                break
        best.append(low.amin(0))
    return torch.stack(best, 1)


def enumerated(graph: Graph, region: Region) -> Tensor:
    """The exact minimum of each output of a one-hidden-layer ReLU net on boxes, by its patterns.

    For each activation pattern the net is affine; its least value over the box, with the pattern's
    constraints, is a linear program.
    """
    from scipy.optimize import linprog

    first, last = (node for node in graph if node.op == "linear")
    w, b = first.tensors["weight"], first.tensors["bias"]
    v, d = last.tensors["weight"], last.tensors["bias"]
    best = torch.full((len(region), len(v)), torch.inf, dtype=w.dtype)
    for row in range(len(region)):
        sides = list(zip(region.lower[row].tolist(), region.upper[row].tolist(), strict=True))
        for pattern in itertools.product((0.0, 1.0), repeat=len(w)):
            on = torch.tensor(pattern, dtype=w.dtype)
            signs = 1 - 2 * on  # on: -(w x + b) <= 0
            for output in range(len(v)):
                cost = (v[output] * on) @ w
                solved = linprog(
                    cost.numpy(), A_ub=(signs[:, None] * w).numpy(), b_ub=(-signs * b).numpy(),
                    bounds=sides,
                )  # fmt: skip
                if solved.status == 0:
                    value = solved.fun + float((v[output] * on) @ b + d[output])
                    best[row, output] = min(best[row, output], value)
    return best


def tighter(graph: Graph, region: Region, pairs) -> None:
    """No method's bounds are outside those of one that it is said to improve on."""
    found = {m: compute(graph, region, method=m) for m in {m for pair in pairs for m in pair}}
    for better, worse in pairs:
        slack = SLACK * (1 + found[worse].lower.abs().clamp_max(1e6))
        assert (found[better].lower >= found[worse].lower - slack).all(), (better, worse)
        assert (found[better].upper <= found[worse].upper + slack).all(), (better, worse)
