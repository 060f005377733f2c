"""From points to outcomes: an attack on all of them, some at a time, each with its own seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.attacks import Attack, check_norm
from phalanx.attacks.siege import LEAST, Siege
from phalanx.attacks.target import Target
from phalanx.errors import DataError, ModelError, ParameterError
from phalanx.runtime.device import full_precision
from phalanx.specs.threat import Threat

BATCH = 256
"""Points attacked together where each batch is kept as it ends."""
MOST = 1024
"""Points attacked together otherwise, unless their inputs are large: after its first part
AutoAttack has few points left of a batch, and few rows are dear."""
VALUES = 2**22
"""Values of all inputs up to which more points than `BATCH` are attacked together."""

Progress = Callable[[int, int], None]
"""Called with (points done, points in all)."""


@dataclass(frozen=True)
class Outcome:
    """What an attack did to each of ``B`` points.

    Attributes:
        adversarial: the worst input found ``(B, *shape)``, the clean one where none is.
        before, after: probability of the right answer there: 0 or 1, unless the classifier is
        random. success: whether the attack lowered it.
        distance: of ``adversarial`` in the threat's norm, float64; 0 where nothing was found.
        queries: inputs shown to the classifier, each outcome of a random one counted.
        flat: gradients that were zero throughout.
        by: which part of the attack found it.
        judged: draws from which ``after`` is estimated; None: it is exact.
    """

    adversarial: Tensor
    before: Tensor
    after: Tensor
    success: Tensor
    distance: Tensor
    queries: Tensor
    flat: Tensor
    by: list[str]
    judged: int | None = None


def attack_points(
    attack: Attack,
    target: Target,
    threat: Threat,
    x: Tensor,
    y: Tensor,
    *,
    name: str = "",
    seed: int = 0,
    samples: Sequence[int] | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Attack points.

    Args:
        attack: from `phalanx.attacks.build_attack`.
        target: from `phalanx.attacks.defences.target_of`.
        threat: what may be done to them; its box is the target's input range.
        x: clean inputs ``(B, *shape)``, float32.
        y: their classes ``(B,)``, int64.
        name: what a message calls the attack.
        seed: with the numbers of the points it decides every random number.
        samples: the number of each point in its data set; ``0 .. B - 1`` by default.
        batch: points at a time; changes no result. By default 256 to 1024, by their size.
        progress: told after every batch.

    Raises:
        ParameterError: the attack does not work in this norm, or nothing is asked.
        DataError: inputs outside of the range, not finite, or labels that do not fit.
        ModelError: the target gives no gradients, or NaN. AttackError: see `Siege.verified`.
    """
    check_norm(attack, name or type(attack).__name__, threat.norm)
    numbers = list(range(len(x))) if samples is None else list(samples)
    check_points(target, threat, x, y, numbers)
    if attack.gradients and not target.differentiable:
        raise ModelError(
            f"{target.name} is asked for its scores alone",
            why=f"the attack {name!r} follows gradients",
            repair="--attack square",
        )
    batch = points_together(x) if batch is None else batch
    if type(batch) is not int or batch < 1:
        raise ParameterError(f"a batch of {batch!r} points", repair="a whole number from 1")
    parts = []
    with full_precision(target.device):
        for first in range(0, len(x), batch):
            some = slice(first, first + batch)
            siege = Siege(
                target,
                threat,
                x[some].to(target.device, torch.float32),
                y[some].to(target.device),
                samples=numbers[some],
                seed=seed,
            )
            attack.run(siege)
            parts.append(outcome_of(siege.verified()))
            if progress is not None:
                progress(min(first + batch, len(x)), len(x))
    return joined(parts)


def points_together(x: Tensor) -> int:
    """Points of a batch where nothing is kept before the end.

    >>> [points_together(torch.zeros(2, *shape)) for shape in ((784,), (3, 64, 64), (3, 224, 224))]
    [1024, 341, 256]
    """
    return max(BATCH, min(MOST, VALUES // max(1, x[0].numel())))


def check_points(
    target: Target, threat: Threat, x: Tensor, y: Tensor, samples: Sequence[int]
) -> None:
    """Refuse points that no attack could start from.

    Raises:
        DataError, ParameterError: what, why and the repair.
    """
    if not len(x):
        raise DataError("no inputs are given")
    if tuple(y.shape) != (len(x),) or len(samples) != len(x):
        raise DataError(
            f"{len(x)} inputs, labels of shape {tuple(y.shape)} and {len(samples)} numbers",
            why="there is one label and one number an input",
        )
    if y.is_floating_point() or int(y.min()) < 0 or int(y.max()) >= target.classes:
        raise DataError(
            f"labels from {y.min().item()} to {y.max().item()}",
            why=f"{target.name} has {target.classes} classes, 0..{target.classes - 1}",
        )
    low, high = target.inputs.range
    if (threat.low, threat.high) != (low, high):
        raise ParameterError(
            f"the threat's box is {threat.low:g} .. {threat.high:g}",
            why=f"{target.name} expects inputs in {low:g} .. {high:g}",
            repair=f"Threat({threat.norm!r}, {threat.eps:g}, {low:g}, {high:g})",
        )
    if not bool(torch.isfinite(x).all()):
        raise DataError("some inputs are NaN or infinite")
    if float(x.min()) < low - 1e-6 or float(x.max()) > high + 1e-6:
        raise DataError(
            f"inputs have values from {float(x.min()):g} to {float(x.max()):g}",
            why=f"{target.name} expects {low:g} to {high:g}, and eps is in those units",
            repair=f"--input-range {float(x.min()):g} {float(x.max()):g}, or rescale them",
        )
    shape = target.inputs.shape
    if shape is not None and tuple(x.shape[1:]) != tuple(shape):
        raise DataError(
            f"inputs have shape {tuple(x.shape[1:])}, and {target.name} expects {tuple(shape)}"
        )


def outcome_of(siege: Siege) -> Outcome:
    """What a verified siege found."""
    success = siege.now < siege.before - LEAST
    found = siege.adversarial
    return Outcome(
        adversarial=found.cpu(),
        before=siege.before.cpu(),
        after=siege.now.cpu(),
        success=success.cpu(),
        distance=siege.threat.distance(siege.x, found).cpu(),
        queries=siege.queries,
        flat=siege.flat,
        by=list(siege.by),
        judged=siege.target.judged,
    )


def joined(parts: Sequence[Outcome]) -> Outcome:
    """Outcomes of several batches as one."""
    if len(parts) == 1:
        return parts[0]

    def every(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    tensors = ("adversarial", "before", "after", "success", "distance", "queries", "flat")
    by = [word for part in parts for word in part.by]
    return Outcome(**{name: every(name) for name in tensors}, by=by, judged=parts[0].judged)
