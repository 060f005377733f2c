"""What a model must be before anything is certified with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from phalanx.errors import ModelError, NonFiniteError
from phalanx.models.model import InputSpec, Model
from phalanx.runtime.keys import noise_key
from phalanx.runtime.usercode import user_code

# A row computed in other company may differ by rounding, in units of the largest logit.
COMPANY_TOLERANCE = {torch.float16: 3e-2, torch.bfloat16: 1e-1}
COMPANY_TOLERANCE_FP32 = 1e-3

# Noisy company is this much noisier than the rows it must not change.
COMPANY_NOISE = 3.0

# Noise of `keyed_inputs`, in widths of the input range: clean, and what smoothing uses.
KEYED_LEVELS = (0.0, 0.25, 0.5, 1.0)


def validate(model: nn.Module) -> None:
    """Refuse a network that could not be the same function twice.

    Raises:
        ModelError: a part in training mode, BatchNorm without running statistics, or weights
            that are not finite; names the part.
    """
    for check in CHECKS.values():
        check(model)


def probe(model: Model, x: Tensor, sigma: float | None = None) -> Tensor:
    """Run ``model`` on inputs ``(B, *shape)`` and return the logits ``(B, classes)``.

    Args:
        model: any model.
        x: clean inputs.
        sigma: the noise level it will run under, see `company_gap`.

    Raises:
        ModelError: it fails on them, the output has another shape or type, differs from pass
            to pass, or depends on which other inputs share the batch.
        NonFiniteError: some logits are NaN or infinite.
    """
    logits = _run(model, x)
    _check_output(model, x, logits)
    _check_repeatable(model, x, logits)
    _check_company(model, x, sigma)
    return logits


def company_gap(model: Model, x: Tensor, sigma: float | None = None) -> float:
    """The largest change of a logit when the other rows of its batch change.

    In units of the largest logit (plus one), infinite where one becomes finite or ceases to be.
    The batch's shape stays the same, and both the order of the rows and the values of the
    others vary: among clean inputs, and among noisy ones beside noisier ones, because clean
    images share a smallest and a largest value that hide a normalisation over the batch.

    Args:
        model: any model.
        x: clean inputs ``(B, *shape)``.
        sigma: level of that noise in input units; half the width of the range by default.
    """
    low, high = model.inputs.range
    level = (high - low) / 2 if sigma is None else sigma
    noise = torch.from_numpy(_keyed().standard_normal((2, *x.shape), np.float32)).to(x.device)
    noisy, noisier = x + level * noise[0], x + COMPANY_NOISE * level * noise[1]
    return max(_gap(model, x, low + high - x), _gap(model, noisy, noisier))


def keyed_inputs(inputs: InputSpec, shape: Sequence[int]) -> Tensor:
    """Stand-ins for noisy inputs, float32 ``(4, *shape)``, the same in every process.

    Uniform over the input range, plus normals of the `KEYED_LEVELS`.
    """
    low, high = inputs.range
    generator, rows = _keyed(), (len(KEYED_LEVELS), *shape)
    levels = np.array(KEYED_LEVELS, np.float32).reshape(-1, *[1] * len(shape))
    spread = generator.random(rows, np.float32) + levels * generator.standard_normal(
        rows, np.float32
    )
    return torch.from_numpy(np.float32(low) + np.float32(high - low) * spread)


def _keyed() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=noise_key("probe")))


def _gap(model: Model, x: Tensor, others: Tensor) -> float:
    rows = len(x)
    together = _run(model, torch.cat([x, x]))[:rows]
    apart = _run(model, torch.cat([x, others]))[:rows]
    moved = _run(model, torch.cat([x.flip(0), x]))[:rows].flip(0)
    return max(relative_gap(apart, together), relative_gap(moved, together))


def relative_gap(found: Tensor, expected: Tensor) -> float:
    """The largest difference in units of the largest ``expected`` (plus one).

    Where both are NaN or the same infinity there is none; where one of them is, it is infinite.

    >>> relative_gap(torch.tensor([1.0, torch.nan]), torch.tensor([3.0, torch.nan]))
    0.5
    """
    same = (found == expected) | (found.isnan() & expected.isnan())
    gaps = (found - expected).abs().nan_to_num(nan=torch.inf, posinf=torch.inf).masked_fill(same, 0)
    finite = expected[torch.isfinite(expected)].abs()
    return float(gaps.max() / (1 + finite.max())) if len(finite) else float(gaps.max())


def _run(model: Model, x: Tensor) -> Tensor:
    # As the engine runs it: a network may ask whether gradients are wanted.
    with torch.inference_mode(), user_code(_doing(model, x)):
        return model(x)


def _doing(model: Model, x: Tensor) -> str:
    return f"{model.card.name} on inputs of shape {tuple(x.shape)}"


def check_wrapper(model: nn.Module) -> None:
    """Refuse a `Model` that adds more to its network than its input specification.

    Raises:
        ModelError: a subclass with a function of its own, or hooks.
    """
    if not isinstance(model, Model):
        return
    kind = type(model)
    own = [name for name in _FUNCTION if name in vars(model)]
    own += [name for name in _FUNCTION if getattr(kind, name) is not getattr(Model, name)]
    if hooked(model):
        own.append("hooks")
    if own:
        raise ModelError(
            f"{model.card.name} has {', '.join(own)} of its own around its network",
            why="members are run as normalisation and network, so that would be left out",
            repair="put it into the network: phalanx.Model(network, inputs, classes)",
        )


_FUNCTION = ("__call__", "forward", "normalise")


def hooked(module: nn.Module) -> bool:
    """Whether hooks take part in calling this module itself."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


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
    allowed = 0.0 if x.device.type == "cpu" else COMPANY_TOLERANCE_FP32
    if relative_gap(again, logits) > allowed:
        raise ModelError(
            f"{model.card.name} gave two different answers to the same inputs",
            why="a random network is not a function, and no certificate can speak of it",
            repair="switch its randomness off: .eval(), and no dropout or sampling in forward()",
        )


def _check_company(model: Model, x: Tensor, sigma: float | None) -> None:
    gap = company_gap(model, x, sigma)
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
    "wrapper": check_wrapper,
    "mode": _check_mode,
    "batch statistics": _check_batchnorm,
    "weights": _check_weights,
}
"""What `validate` checks, in order; each raises ModelError."""


def _called(name: str, part: nn.Module) -> str:
    return f"{type(part).__name__} {name!r}" if name else type(part).__name__
