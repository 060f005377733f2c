"""Arrays in memory as a `Dataset`, checked once at the door."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phalanx.data.dataset import DataCard, Dataset
from phalanx.errors import DataError

COLOURS = (1, 3)
LEVELS = (255, 16, 256)
"""Steps of inputs that are looked for: bytes, the built-in digits, and halvings of the range."""
FLOAT_ROUNDING = 2.0**-22
BLOCK_ROWS = 256


def from_arrays(
    x: Any,
    y: Any = None,
    *,
    value_range: tuple[float, float] | None = None,
    name: str = "arrays",
    split: str = "test",
    checksums: Mapping[str, str] | None = None,
    source: str = "",
) -> Dataset:
    """A data set of tensors or NumPy arrays.

    Args:
        x: inputs ``(n, ...)``: images in NCHW order or rows ``(n, d)``, of any float dtype;
            integers only with a ``value_range``.
        y: integer labels ``(n,)``, or None (then accuracy is absent, not zero).
        value_range: smallest and largest value an input can have. It may be omitted for floats
            that all lie in ``(0, 1)``, which is then the range.
        name, split, source: for the card.
        checksums: SHA-256 digests for the card; computed from the arrays when None.

    Raises:
        DataError: no inputs, NaN or infinite values, integers without a range, values outside
            the range, images in NHWC order, or labels of the wrong shape, dtype or range.

    >>> import numpy as np
    >>> from_arrays(np.zeros((2, 1, 4, 4)), [3, 1]).card.value_range
    (0.0, 1.0)
    >>> from_arrays(np.zeros((2, 5)) - 1)
    Traceback (most recent call last):
    ...
    phalanx.errors.DataError: the inputs x lie in -1 .. -1; they have no declared \
range and (0, 1) does not hold them; repair: value_range=(low, high)
    """
    inputs = _inputs(x)
    values = inputs.to(torch.float32)
    bounds = _range(inputs, values, value_range)
    labels = None if y is None else label_tensor(y, len(values))
    card = DataCard(
        name=name,
        split=split,
        shape=tuple(values.shape[1:]),
        classes=None,
        images=len(values),
        value_range=bounds,
        checksums=_digests(values, labels) if checksums is None else checksums,
        source=source,
        levels=_levels(values, bounds),
    )

    def fetch(indices: Sequence[int]) -> Tensor:
        return values[torch.as_tensor(indices, dtype=torch.int64)]

    return Dataset(card, fetch, labels)


def check_layout(shape: tuple[int, ...]) -> None:
    """Refuse an input shape ``(n, ...)`` that cannot be a batch of images or rows."""
    if len(shape) < 2 or 0 in shape:
        raise DataError(
            f"the inputs x have shape {shape}",
            why="a non-empty batch was expected, (n, channels, height, width) or (n, features)",
            repair="x[None] makes a batch of one input",
        )
    if len(shape) == 4 and shape[3] in COLOURS and shape[1] == shape[2] and shape[1] not in COLOURS:
        raise DataError(
            f"the images x have shape {shape}",
            why="the colours seem to be the last axis, and they must be the second (NCHW)",
            repair="NumPy: x.transpose(0, 3, 1, 2), torch: x.permute(0, 3, 1, 2)",
        )


def label_tensor(y: Any, count: int) -> Tensor:
    """``y`` as int64 ``(count,)`` with values of at least 0, or a `DataError`."""
    labels = _tensor(y, "the label array y")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise DataError(
            f"the labels y have dtype {labels.dtype}",
            why="class indices are integers",
            repair="y.astype('int64')",
        )
    if tuple(labels.shape) != (count,):
        raise DataError(
            f"the labels y have shape {tuple(labels.shape)}",
            why=f"({count},) was expected, one class index per input",
            repair="y.argmax(1) turns one-hot labels into indices",
        )
    if int(labels.min()) < 0:
        raise DataError(
            f"the labels y contain {int(labels.min())}",
            why="class indices start at 0",
            repair="leave y out for inputs without labels",
        )
    return labels.to(torch.int64)


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()  # a later change of the caller's is not ours
    try:
        return torch.from_numpy(np.array(value))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{what} is not an array of numbers", why=str(error), repair="pass a NumPy array"
        ) from error


def _inputs(x: Any) -> Tensor:
    inputs = _tensor(x, "the input x")
    if inputs.is_complex() or inputs.dtype == torch.bool:
        raise DataError(f"the inputs x have dtype {inputs.dtype}", why="real numbers were expected")
    check_layout(tuple(inputs.shape))
    if inputs.is_floating_point() and not torch.isfinite(inputs).all():
        first = int((~torch.isfinite(inputs)).flatten(1).any(1).nonzero()[0])
        raise DataError(
            f"input {first} has NaN or infinite values",
            why="nothing can be certified around it",
            repair="remove it or replace its values",
        )
    return inputs


def _range(
    inputs: Tensor, values: Tensor, declared: tuple[float, float] | None
) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if declared is None:
        if not inputs.is_floating_point():
            raise DataError(
                f"the inputs x are integers ({inputs.dtype}) without a declared range",
                why="radii are in input units, so the units must be known",
                repair="x / 255.0 for bytes, or value_range=(0, 255)",
            )
        if low < 0 or high > 1:
            raise DataError(
                f"the inputs x lie in {low:g} .. {high:g}",
                why="they have no declared range and (0, 1) does not hold them",
                repair="value_range=(low, high)",
            )
        return (0.0, 1.0)
    start, end = float(declared[0]), float(declared[1])
    if not (np.isfinite([start, end]).all() and start < end):
        raise DataError(
            f"the value range is {start:g} .. {end:g}",
            why="it must be two finite numbers in increasing order",
        )
    if low < np.float32(start) or high > np.float32(end):
        raise DataError(
            f"the inputs x lie in {low:g} .. {high:g}",
            why=f"their declared range is {start:g} .. {end:g}",
            repair="declare the range the model expects, and scale x to it",
        )
    return (start, end)


def _levels(values: Tensor, bounds: tuple[float, float]) -> int | None:
    """The number of quantisation steps that every value shows, if there is one.

    Whole numbers of steps up to a few roundings of float32, which a step must outweigh.
    """
    low, high = bounds
    for levels in LEVELS:
        step, rounding = (high - low) / levels, FLOAT_ROUNDING * max(abs(low), abs(high))
        blocks = values.split(BLOCK_ROWS)
        if step >= 64 * rounding and all(_on_steps(b, low, step, rounding) for b in blocks):
            return levels
    return None


def _on_steps(values: Tensor, low: float, step: float, rounding: float) -> bool:
    offset = values.to(torch.float64) - low
    return bool(((offset / step).round() * step - offset).abs().max() <= rounding)


def _digests(values: Tensor, labels: Tensor | None) -> dict[str, str]:
    arrays = {"x": values, **({} if labels is None else {"y": labels})}
    return {
        key: hashlib.sha256(array.contiguous().numpy().data).hexdigest()
        for key, array in arrays.items()
    }
