"""Properties of classifiers: the class that wins must win everywhere in a box."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from phalanx.errors import DataError, ParameterError
from phalanx.specs.property import Case, Property


def robust_in_box(
    lower: Tensor,
    upper: Tensor,
    label: int,
    classes: int,
    *,
    targets: Sequence[int] | None = None,
    margin: float = 0.0,
    name: str = "robust",
) -> Property:
    """``y_label - y_other > margin`` for every other class and every input of a box.

    A tie is unsafe: not everybody breaks it in the same way.

    Args:
        lower, upper: the box, of any shape.
        label: the class.
        classes: how many there are.
        targets: which other classes; None: all.
        margin: by how much it must win.
        name: for tables.

    Raises:
        DataError: an empty box, or sides that are not finite. ParameterError: no such class.

    >>> prop = robust_in_box(torch.zeros(2), torch.ones(2), 1, 3)
    >>> [case.outputs.tolist() for case in prop.cases]
    [[[-1.0, 1.0, 0.0]], [[0.0, 1.0, -1.0]]]
    """
    others = [c for c in range(classes) if c != label] if targets is None else list(targets)
    for number in (label, *others):
        if not 0 <= number < classes:
            raise ParameterError(f"class {number} of {classes}", repair=f"0 .. {classes - 1}")
    if label in others or not others:
        raise ParameterError(f"targets {others} of class {label}", why="another class is a target")
    if not math.isfinite(margin):
        raise ParameterError(f"a margin of {margin}")
    low, high = lower.flatten().double(), upper.flatten().double()
    unit = torch.eye(classes, dtype=torch.float64)
    offset = torch.tensor([-margin], dtype=torch.float64)
    rows = [(unit[label] - unit[other])[None] for other in others]
    return Property(tuple(Case(low, high, row, offset) for row in rows), name)


def robust(
    x: Tensor,
    eps: float,
    label: int,
    classes: int,
    *,
    low: float = 0.0,
    high: float = 1.0,
    targets: Sequence[int] | None = None,
) -> Property:
    """`robust_in_box` for all valid inputs within ``eps`` of ``x`` in linf.

    Args:
        x: one input, of any shape.
        eps: radius in input units.
        label, classes, targets: see `robust_in_box`.
        low, high: range of valid inputs.

    Raises:
        ParameterError: a radius that is not positive and finite. DataError: an invalid input.
    """
    if not (math.isfinite(eps) and eps > 0):
        raise ParameterError(f"the radius eps is {eps}", why="it must be positive and finite")
    at = x.double()
    if not bool(((at >= low) & (at <= high)).all()):
        raise DataError(f"an input outside of {low:g} .. {high:g}, or NaN")
    lower, upper = (at - eps).clamp_min(low), (at + eps).clamp_max(high)
    return robust_in_box(lower, upper, label, classes, targets=targets)
