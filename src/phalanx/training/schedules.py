"""The learning rate as a function of time."""

from __future__ import annotations

import math

from phalanx.training.recipe import SchedulePart


def learning_rate_factor(schedule: SchedulePart, epochs: int, progress: float) -> float:
    """What the recipe's learning rate is multiplied by, in (0, 1] before the end.

    Warm-up rises linearly from 0 over ``warmup_epochs``. After it: ``constant`` is 1;
    ``cosine`` is ``(1 + cos(pi t)) / 2`` with t from 0 to 1 over what remains (Loshchilov &
    Hutter 2017, eq. 5, without restarts); ``step`` is ``gamma ** floor(progress / step_epochs)``;
    ``milestones`` is ``gamma ** (how many of the milestones are behind)``.

    Args:
        schedule: the recipe's schedule.
        epochs: length of the training.
        progress: epochs done at the middle of the step, 0 < progress < epochs. The middle,
            so that neither the first nor the last step has a rate of 0.

    >>> cosine = SchedulePart(name="cosine", warmup_epochs=1)
    >>> [round(learning_rate_factor(cosine, 3, p), 3) for p in (0.5, 1, 2, 2.99)]
    [0.5, 1.0, 0.5, 0.0]
    >>> learning_rate_factor(SchedulePart(name="step", step_epochs=2, gamma=0.5), 6, 4.5)
    0.25
    >>> twice = SchedulePart(name="milestones", milestones=(0.5, 0.75))
    >>> [round(learning_rate_factor(twice, 4, p), 3) for p in (1.9, 2.1, 3.1)]
    [1.0, 0.1, 0.01]
    """
    if progress < schedule.warmup_epochs:
        return progress / schedule.warmup_epochs
    if schedule.name == "step":
        return schedule.gamma ** math.floor(progress / schedule.step_epochs)
    if schedule.name == "milestones":
        return schedule.gamma ** sum(share * epochs <= progress for share in schedule.milestones)
    if schedule.name == "cosine":
        done = (progress - schedule.warmup_epochs) / (epochs - schedule.warmup_epochs)
        return (1 + math.cos(math.pi * done)) / 2
    return 1.0
