"""The two terms of Shi et al. 2021 (arXiv 2103.16871, section 3.3), on boxes before ReLUs."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.bounds.engine import Engine
from phalanx.graph.ir import INPUT

THRESHOLD = 0.5
"""Ratios below it cost; the published value."""

TINY = 1e-12


def interval_terms(engine: Engine) -> tuple[Tensor, Tensor]:
    """How much boxes widen and how unevenly ReLUs are on and off: two scalars, means over layers.

    *Tightness*, ``relu(t - d_0 / d_i) / t``: d is the mean width of the boxes at the input and
    before ReLU i. *Balance*, ``(relu(t - min(a, 1/a)) + relu(t - min(b, 1/b))) / t``: a and b
    compare the entries that are surely on with those that are surely off, by the sum of their
    centres and by the sum of their centres' squared distances from the layer's mean. A ratio that
    is none (nothing is surely off, say) costs nothing.
    """
    first = engine.boxes[next(node.name for node in engine.graph if node.op == INPUT)]
    width = first.radius.mean()
    layers = [engine.boxes[node.inputs[0]] for node in engine.graph if node.op == "relu"]
    if not layers:
        return width.new_zeros(()), width.new_zeros(())
    tightness, balance = [], []
    for box in layers:
        tightness.append(_below(width / box.radius.mean().clamp_min(TINY)))
        centre, on, off = box.centre, box.lower > 0, box.upper < 0
        spread = (centre - centre.mean()).square()
        for values, sign in ((centre, -1.0), (spread, 1.0)):
            balance.append(_uneven((values * on).sum(), sign * (values * off).sum()))
    count = len(layers)
    return torch.stack(tightness).sum() / count, torch.stack(balance).sum() / count


def _below(ratio: Tensor) -> Tensor:
    """``relu(t - ratio) / t``."""
    return torch.relu(THRESHOLD - ratio) / THRESHOLD


def _uneven(first: Tensor, second: Tensor) -> Tensor:
    """Of two sums, neither below zero, the smaller over the larger; 0 where one of them is none.

    >>> _uneven(torch.tensor(1.0), torch.tensor(4.0)), _uneven(torch.tensor(1.0), torch.tensor(0.0))
    (tensor(0.5000), tensor(0.))
    """
    ratio = first.minimum(second) / first.maximum(second).clamp_min(TINY)
    both = (first > 0) & (second > 0)
    return torch.where(both, _below(ratio), torch.zeros_like(ratio))
