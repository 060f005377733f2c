"""What a model must be before anything is certified with it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from phalanx.errors import ModelError, NonFiniteError
from phalanx.models.model import Model
from phalanx.models.usercode import user_code

# A row computed in other company may differ by rounding, in units of the largest logit.
COMPANY_TOLERANCE = {torch.float16: 3e-2, torch.bfloat16: 1e-1}
COMPANY_TOLERANCE_FP32 = 1e-3


def validate(model: nn.Module) -> None:
    """Refuse a network that could not be the same function twice.

    Raises:
        ModelError: a part in training mode, BatchNorm without running statistics, or weights
            that are not finite; names the part.
    """
    for check in CHECKS.values():
        check(model)


def probe(model: Model, x: Tensor) -> Tensor:
    """Run ``model`` on inputs ``(B, *shape)`` and return the logits ``(B, classes)``.

    Raises:
        ModelError: it fails on them, the output has another shape or type, differs from pass
            to pass, or depends on which other inputs share the batch.
        NonFiniteError: some logits are NaN or infinite.
    """
    logits = _run(model, x)
    _check_output(model, x, logits)
    _check_repeatable(model, x, logits)
    _check_company(model, x)
    return logits


def company_gap(model: Model, x: Tensor) -> float:
    """The largest change of a logit when the other rows of its batch change.

    In units of the largest logit (plus one). The batch's shape stays the same, and both the
    order of the rows and the values of the others vary.
    """
    low, high = model.inputs.range
    rows = len(x)
    together = _run(model, torch.cat([x, x]))
    apart = _run(model, torch.cat([x, low + high - x]))
    moved = _run(model, torch.cat([x.flip(0), x]))[:rows].flip(0)
    gaps = torch.stack([apart[:rows] - together[:rows], moved - together[:rows]]).abs()
    return float(gaps.max() / (1 + together.abs().max()))


def _run(model: Model, x: Tensor) -> Tensor:
    with torch.no_grad(), user_code(f"{model.card.name} on inputs of shape {tuple(x.shape)}"):
        return model(x)


def _check_mode(model: nn.Module) -> None:
    training = [(name, part) for name, part in model.named_modules() if part.training]
    if not training:
        return
    # A Dropout or BatchNorm says more than the container around it.
    name, part = next(
        ((n, p) for n, p in training if not any(True for _ in p.children())), training[0]
    )
    raise ModelError(
        f"the model is in training mode ({_called(name, part)})",
        why="Dropout and BatchNorm would make it a different function in every call",
        repair="call .eval() on it, in the factory before returning it",
    )


def _check_batchnorm(model: nn.Module) -> None:
    for name, part in model.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is None:
            raise ModelError(
                f"{_called(name, part)} has no running statistics",
                why="an input's class would depend on the other inputs of its batch",
                repair="train with track_running_stats=True",
            )


def _check_weights(model: nn.Module) -> None:
    tensors = (*model.named_parameters(), *model.named_buffers())
    for name, values in tensors:
        if values.is_floating_point() and not torch.isfinite(values).all():
            broken = int((~torch.isfinite(values)).sum())
            raise ModelError(
                f"{broken} of {values.numel()} numbers in {name!r} are not finite",
                why="no class can be read from NaN or infinite weights",
            )


def _check_output(model: Model, x: Tensor, logits: object) -> None:
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            f"{model.card.name} returned {kind}", why="logits are a floating-point tensor"
        )
    expected = (len(x), model.classes)
    if tuple(logits.shape) != expected:
        raise ModelError(
            f"{model.card.name} returned logits of shape {tuple(logits.shape)}",
            why=f"{len(x)} inputs and {model.classes} classes need {expected}",
            repair="declare the right number with --classes",
        )
    broken = int((~torch.isfinite(logits)).sum())
    if broken:
        raise NonFiniteError(
            f"{broken} of {logits.numel()} logits of {model.card.name} are NaN or infinite",
            why="no class can be read from them",
        )


def _check_repeatable(model: Model, x: Tensor, logits: Tensor) -> None:
    again = _run(model, x)
    # GPUs may add in another order; a CPU has no such excuse.
    same = torch.equal(again, logits) if x.device.type == "cpu" else _close(again, logits)
    if not same:
        raise ModelError(
            f"{model.card.name} gave two different answers to the same inputs",
            why="a random network is not a function, and no certificate can speak of it",
            repair="switch its randomness off: .eval(), and no dropout or sampling in forward()",
        )


def _check_company(model: Model, x: Tensor) -> None:
    gap = company_gap(model, x)
    if gap > tolerance(model):
        raise ModelError(
            f"the logits of {model.card.name} depend on the other inputs of the batch"
            f" (by {gap:.2g} of the largest)",
            why="an input's class must depend on that input alone",
            repair="normalise with stored statistics, not over the batch",
        )


def tolerance(model: nn.Module) -> float:
    """How much of the largest logit rounding may explain, for the dtype of the weights."""
    dtype = next((values.dtype for values in model.parameters()), torch.float32)
    return COMPANY_TOLERANCE.get(dtype, COMPANY_TOLERANCE_FP32)


CHECKS: dict[str, Callable[[nn.Module], None]] = {
    "mode": _check_mode,
    "batch statistics": _check_batchnorm,
    "weights": _check_weights,
}
"""What `validate` checks, in order; each raises ModelError."""


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= COMPANY_TOLERANCE_FP32 * (1 + b.abs().max()))


def _called(name: str, part: nn.Module) -> str:
    return f"{type(part).__name__} {name!r}" if name else type(part).__name__
