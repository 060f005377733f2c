"""Search for counterexamples: the centre of every box, and descent from keyed random starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from phalanx.attacks.draws import Draws
from phalanx.runtime.keys import noise_key
from phalanx.specs.property import Property
from phalanx.verify.network import Network
from phalanx.verify.outcome import Clock
from phalanx.verify.stack import Stack, stacks
from phalanx.verify.witness import Witness, replayed

FIRST_STEP, LAST_STEP = 0.5, 0.001
"""Of the width of the box: the first step goes from a centre to any corner, the last ones are fine
enough for cases that are nearly empty."""
WORTH = 1 << 21
"""Numbers of a pass that all starts together may have before there are fewer of them."""

FEWEST = 4
"""Starts there are in any case, where so many are asked for."""
REPLAYS = 4
"""Candidates of a step that are run again."""


@dataclass(frozen=True)
class Effort:
    """How hard it is tried.

    Attributes:
        starts: random ones for each case, beside the centre; fewer of a large network.
        steps: of each descent.
    """

    starts: int
    steps: int


def falsified(
    network: Network,
    prop: Property,
    numbers: tuple[int, ...],
    clock: Clock,
    *,
    effort: Effort,
    seed: int = 0,
) -> Witness | None:
    """A replayed counterexample of one of the cases; None: none was found in time.

    The loss is the sum of what a case's rows are above zero; steps go along the sign of its
    gradient, each at most a share of the box's width. What is drawn follows from the seed and the
    number of the case alone.

    Args:
        network: see `Network`.
        prop: the property.
        numbers: which cases.
        clock: nothing more is begun when it has run out.
        effort: see `Effort`.
        seed: of the random starts.
    """
    size = sum(prod(node.shape) for node in network.graph)
    for stack in stacks(prop, numbers):
        most = max(FEWEST, WORTH // (size * len(stack)))
        effort = replace(effort, starts=min(effort.starts, most))
        for found in _descents(network, stack, clock, effort, seed):
            witness = _confirmed(network, prop, stack, found)
            if witness is not None:
                return witness
            if clock.expired():
                return None
    return None


def _descents(
    network: Network, stack: Stack, clock: Clock, effort: Effort, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Points ``(starts K, n)`` and their rows, step after step; all starts go side by side."""
    draws = Draws([noise_key(seed, "verify", number) for number in stack.numbers])
    width, count = stack.upper - stack.lower, stack.lower.shape[1]
    every = torch.arange(len(stack))
    begun = [(stack.lower + stack.upper) / 2]
    for start in range(effort.starts):
        begun.append(stack.lower + width * draws.uniforms(every, start * count, count))
    x, times = torch.cat(begun), effort.starts + 1
    lower, upper, width = (side.repeat(times, 1) for side in (stack.lower, stack.upper, width))
    for step in range(effort.steps + 1):
        x, values, gradient = _looked(network, stack, x)
        yield x, values
        if gradient is None or clock.expired() or not bool(width.any()):
            return
        reach = FIRST_STEP * (LAST_STEP / FIRST_STEP) ** (step / max(1, effort.steps))
        x = x - (reach * width) * gradient.sign()
        x = torch.minimum(torch.maximum(x, lower), upper)


def _looked(network: Network, stack: Stack, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Points as the network reads them, their rows, and the gradient of the loss; None: it is 0."""
    given = x.to(network.dtype).requires_grad_(True)
    with torch.enable_grad():
        values = stack.values(given, network.answers(given))
        loss = values.clamp_min(0).sum()
        if not loss.requires_grad:
            return given.detach().double(), values.detach(), None
        (gradient,) = torch.autograd.grad(loss, given)
    return given.detach().double(), values.detach(), gradient.double().nan_to_num(0.0, 0.0, 0.0)


def _confirmed(
    network: Network, prop: Property, stack: Stack, found: tuple[Tensor, Tensor]
) -> Witness | None:
    """The first point whose rows are all at most zero, if it is a counterexample when replayed."""
    x, values = found
    for at in (values <= 0).all(1).nonzero().flatten().tolist()[:REPLAYS]:
        witness = replayed(network, prop, stack.numbers[at % len(stack)], x[at][None])
        if witness is not None:
            return witness
    return None
