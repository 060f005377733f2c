"""What searches of sub-problems share: which go first, and points that may be counterexamples."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.specs.property import Case
from phalanx.verify.bab.inputs import Confirm, Network, inward


def worst_first(bound: Tensor, count: int, *, full: bool) -> tuple[Tensor, Tensor]:
    """Which sub-problems are taken, and which are left: indices.

    Args:
        bound: of all that wait, the newest last.
        count: taken at most.
        full: they fill the memory, so that the newest are taken: their own stay few.

    >>> worst_first(torch.tensor([0.0, -3.0, -1.0]), 2, full=False)
    (tensor([1, 2]), tensor([0]))
    >>> worst_first(torch.tensor([0.0, -3.0, -1.0]), 1, full=True)
    (tensor([2]), tensor([0, 1]))
    """
    every = torch.arange(len(bound))
    if full:
        at = max(0, len(bound) - count)
        return every[at:], every[:at]
    taken = bound.topk(min(count, len(bound)), largest=False).indices
    left = torch.ones(len(bound), dtype=torch.bool)
    left[taken] = False
    return taken, every[left]


def counterexample(
    points: Tensor, case: Case, network: Network, confirm: Confirm | None
) -> Tensor | None:
    """The first of some inputs ``(D, n)`` on which the network is wrong, moved into the box.

    Args:
        points: any.
        case: what must not happen.
        network: answers; those that are not finite show nothing.
        confirm: asked about each; None: it is believed.
    """
    at = inward(points.double(), case.lower, case.upper)
    with torch.no_grad():
        answers = network(at)
    wrong = case.holds(at, answers) & torch.isfinite(answers).all(1)
    for index in wrong.nonzero().squeeze(1).tolist():
        if confirm is None or confirm(at[index]):
            return at[index]
    return None
