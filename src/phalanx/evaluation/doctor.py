"""What can be found out about a model before anything is spent on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from phalanx.bounds.support import Support, support
from phalanx.errors import GraphError, ModelError
from phalanx.graph.from_onnx import onnx_outline
from phalanx.graph.simplify import simplify
from phalanx.models.fold import fold_batchnorm
from phalanx.models.imported import input_shape, outline_of
from phalanx.models.model import Model
from phalanx.models.validate import CHECKS, company_gap, probe
from phalanx.models.weights import PUBLISHED_NORMALISATION
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.stream import NormalStream
from phalanx.runtime.keys import noise_key

PROBE_INPUTS = 8
NOISY_COPIES = 8
# A difference of accuracy or mean confidence that no honest range produces by chance.
CLEARLY_BETTER = 0.1


class Level(StrEnum):
    """How bad a finding is; a model with an ERROR cannot be certified."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing found out: which check, how bad, in words, and what repairs it."""

    check: str
    level: Level
    says: str
    repair: str = ""

    def as_dict(self) -> dict[str, str]:
        """JSON values."""
        return asdict(self)


def examine(model: Model, x: Tensor | None = None, y: Tensor | None = None) -> list[Finding]:
    """Everything that can be said about ``model`` without certifying anything.

    Args:
        model: any model, sound or not; left as it is.
        x: some clean inputs ``(B, *shape)`` in input units; without them uniform ones of the
            declared range stand in, and nothing is said about range and noise.
        y: their labels ``(B,)``.

    Returns:
        Findings in the order of the checks. Checks that need a sound model are left out when
        an earlier one found an error.
    """
    return list(_findings(model, x, y))


def _findings(model: Model, x: Tensor | None, y: Tensor | None) -> Iterator[Finding]:
    yield _size(model)
    states = [_passes(name, partial(check, model)) for name, check in CHECKS.items()]
    yield from states
    if any(finding.level is Level.ERROR for finding in states):
        return
    inputs = _stand_ins(model) if x is None else x
    if inputs is None:
        yield Finding("function", Level.NOTE, "not run: its input shape is not known", "--data")
        return
    runs = _passes("function", partial(probe, model, inputs[:PROBE_INPUTS]))
    yield runs
    if runs.level is Level.ERROR:
        return
    yield _company(model, inputs[:PROBE_INPUTS])
    yield _folding(model)
    yield _half_precision(model, inputs)
    if x is None:
        yield Finding("range", Level.NOTE, "expected input range not tested without data", "--data")
    else:
        yield _range(model, x, y)
    yield _smoothing(model, x)
    yield _bounding(model, tuple(inputs.shape[1:]))


def layers(model: Model, x: Tensor | None = None) -> list[Support]:
    """What each bounding method makes of every layer; empty where the model has no graph.

    Operators that are not read are among them.
    """
    try:
        shape = None if x is None else tuple(x.shape[1:])
        return support(simplify(outline_of(model, shape)))
    except ModelError:
        return []


def examine_file(path: Path, refused: ModelError) -> tuple[list[Finding], list[Support]]:
    """What can be said about an ONNX file of which no model can be made, and its `layers`.

    Args:
        path: the file.
        refused: why: its graph, or what nobody has declared about its input.
    """
    says = f"{refused.what}; {refused.why}" if refused.why else refused.what
    found = [Finding("model", Level.ERROR, says, refused.repair)]
    if isinstance(refused, GraphError):
        found.append(_SMOOTHING_A_FILE)
    try:
        return found, support(simplify(onnx_outline(path)))
    except GraphError:
        return found[:1], []


_SMOOTHING_A_FILE = Finding(
    "smoothing",
    Level.NOTE,
    "needs no graph, but this file is run by its graph",
    "certify --sigma S the torch module it was exported from, as file.py:factory",
)


def _bounding(model: Model, shape: tuple[int, ...]) -> Finding:
    """Whether deterministic bounds reach every layer; smoothing does not need them to."""
    try:
        found = support(simplify(outline_of(model, shape)))
    except ModelError as error:
        why = f"; {error.why}" if error.why else ""
        return Finding("bounds", Level.NOTE, f"cannot be bounded: {error.what}{why}", error.repair)
    open_ = [layer for layer in found if not layer.bounded]
    if open_:
        says = f"{len(open_)} of {len(found)} layers cannot be bounded, first {open_[0].node!r}"
        says += f" ({open_[0].op}); smoothing does not need it to be"
        return Finding("bounds", Level.NOTE, says, open_[0].repair)
    return Finding("bounds", Level.OK, f"every one of {len(found)} layers can be bounded")


def _size(model: Model) -> Finding:
    count = sum(values.numel() for values in model.parameters())
    inputs = model.inputs
    normalised = f"mean {inputs.mean} std {inputs.std}" if inputs.mean else "none or inside"
    says = (
        f"{model.card.architecture or type(model.network).__name__}, {count:,} parameters,"
        f" {model.classes} classes; input {inputs.range[0]:g} .. {inputs.range[1]:g},"
        f" normalisation {normalised}"
    )
    return Finding("model", Level.OK, says)


def _passes(name: str, check: Callable[[], object]) -> Finding:
    try:
        check()
    except ModelError as error:
        says = f"{error.what}; {error.why}" if error.why else error.what
        return Finding(name, Level.ERROR, says, error.repair)
    return Finding(name, Level.OK, _GOOD[name])


_GOOD = {
    "wrapper": "its function is normalisation and network, nothing around them",
    "mode": "evaluation mode throughout",
    "batch statistics": "no layer normalises over the batch",
    "weights": "all finite",
    "function": "finite logits of the right shape; the same inputs give the same logits",
}


def _stand_ins(model: Model) -> Tensor | None:
    """Uniform inputs of the declared range, the same in every call."""
    if (shape := input_shape(model)) is None:
        return None
    low, high = model.inputs.range
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand((PROBE_INPUTS, *shape), generator=generator)
    return low + (high - low) * uniform


def _company(model: Model, x: Tensor) -> Finding:
    gap = company_gap(model, x)
    says = "logits do not depend on the other inputs of the batch"
    return Finding("company", Level.OK, f"{says} (largest relative change {gap:.1g})")


def _folding(model: Model) -> Finding:
    _, count = fold_batchnorm(model.network)
    norms = sum(
        isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in model.modules()
    )
    if not norms:
        return Finding("folding", Level.OK, "no BatchNorm to fold")
    return Finding("folding", Level.OK, f"{count} of {norms} BatchNorm layers can be folded")


def _half_precision(model: Model, x: Tensor) -> Finding:
    """Agreement with bfloat16, which --precision bf16 would use."""
    half = deepcopy(model.network).bfloat16()
    with torch.no_grad():
        try:
            rough = half(model.normalise(x).bfloat16()).float()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            says = f"does not run in bf16: {str(error).partition(chr(10))[0]}"
            return Finding("bf16", Level.NOTE, says, "keep --precision fp32")
        same = (rough.argmax(-1) == model(x).argmax(-1)).float().mean()
    level = Level.OK if same > 1 - CLEARLY_BETTER else Level.WARNING
    says = f"bf16 names the same class for {same:.1%} of {len(x)} inputs"
    return Finding("bf16", level, says, "" if level is Level.OK else "keep --precision fp32")


def _range(model: Model, x: Tensor, y: Tensor | None) -> Finding:
    """Whether the network does better on inputs of another range or normalisation.

    Judged by accuracy, or without labels by mean confidence (a network is rarely surer of
    inputs it was not trained on; a hint, not a proof).
    """
    low, high = model.inputs.range
    outside = ((x < low) | (x > high)).float().mean()
    if outside > 0:
        says = f"{outside:.1%} of the data's values lie outside the declared {low:g} .. {high:g}"
        return Finding("range", Level.ERROR, says, f"--input-range {x.min():g} {x.max():g}")
    declared = _score(model.network, model.normalise(x), y)
    scores = {name: _score(model.network, z, y) for name, z in _other_ranges(model, x).items()}
    best = max(scores, key=lambda name: scores[name])
    measure = "mean confidence" if y is None else "accuracy"
    says = f"{measure} {declared:.3f} with the declared range and normalisation"
    if scores[best] > declared + CLEARLY_BETTER:
        level = Level.NOTE if y is None else Level.WARNING
        says += f", but {scores[best]:.3f} with {best}"
        return Finding("range", level, says, "declare what the network was trained on")
    return Finding("range", Level.OK, says + ", the best of the usual ones")


def _other_ranges(model: Model, x: Tensor) -> dict[str, Tensor]:
    low, high = model.inputs.range
    unit = (x - low) / (high - low)
    found = {"values 0 .. 1": unit, "values -1 .. 1": 2 * unit - 1, "values 0 .. 255": 255 * unit}
    for (shape, _), (mean, std) in PUBLISHED_NORMALISATION.items():
        if x.ndim == 4 and x.shape[1] == 3:
            place, spread = (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std))
            found[f"the normalisation usual at {shape[1]}x{shape[2]}"] = (unit - place) / spread
    return found


def _score(network: torch.nn.Module, z: Tensor, y: Tensor | None) -> float:
    with torch.no_grad():
        logits = network(z).float()
    if y is None:
        return float(logits.softmax(-1).max(-1).values.mean())
    return float((logits.argmax(-1) == y).float().mean())


def _smoothing(model: Model, x: Tensor | None) -> Finding:
    if model.sigma is None:
        says = "its card names no sigma: the noise it was trained for is not known"
        return Finding("smoothing", Level.WARNING, says, "certify with --sigma S")
    says = f"trained for sigma {model.sigma:g}" if model.sigma else "trained without noise"
    if x is None or not model.sigma:
        return Finding("smoothing", Level.OK, says)
    kept = _kept_under_noise(model, x, model.sigma)
    says += f"; {kept:.1%} of noisy copies keep the clean input's class"
    level = Level.OK if kept > 0.5 else Level.WARNING
    repair = "" if level is Level.OK else "train with Gaussian augmentation at this sigma"
    return Finding("smoothing", level, says, repair)


def _kept_under_noise(model: Model, x: Tensor, sigma: float) -> float:
    """Share of noisy copies with the clean input's class; a description, not a certificate."""
    noisy = torch.empty(NOISY_COPIES, *x.shape[1:])
    kept = 0
    with torch.no_grad():
        for index, (image, clean) in enumerate(zip(x, model(x).argmax(-1), strict=True)):
            stream = NormalStream(noise_key("doctor", index), image.numel())
            Gaussian(sigma).fill(noisy, image, stream)
            kept += int((model(noisy).argmax(-1) == clean).sum())
    return kept / (NOISY_COPIES * len(x))
