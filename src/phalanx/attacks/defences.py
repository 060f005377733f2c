"""From models to targets; a classifier that draws is attacked as one, or refused."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.attacks.drawn import Sampled, SmoothedTarget, from_torch_state
from phalanx.attacks.target import Expected, Plain, Reduced, Subsets, Target, device_of, shares_of
from phalanx.ensembles.ensemble import Ensemble
from phalanx.ensembles.random_ensemble import RandomEnsemble
from phalanx.errors import ModelError, ParameterError
from phalanx.models.hypernetwork import cached
from phalanx.models.model import Model
from phalanx.models.usercode import user_code
from phalanx.models.validate import COMPANY_TOLERANCE_FP32, relative_gap

RANDOM_MEMBER = "random-member"
"""The reducer's name of a random ensemble; ``random-member:1,2,1`` weighs its members."""
PASSES = 3
INTERFACE = (
    "give it members (modules) and probabilities as attributes, which is exact, or"
    " forward(x, generator) drawing from that generator alone, which is sampled; --force-random"
    " takes it to draw from torch's generator"
)


@dataclass(frozen=True)
class Settings:
    """How a classifier is asked.

    Attributes:
        rows: of a pass; None: what suits the device.
        draws, judged: of a classifier that draws, for a gradient and for an answer.
        sigma: level of the noise of a smoothed classifier; None: not smoothed.
        gradients: False: scores only.
        force_random: take a random model to draw from torch's generator.
    """

    rows: int | None = None
    draws: int = 16
    judged: int = 100
    sigma: float | None = None
    gradients: bool = True
    force_random: bool = False


def target_of(
    model: Model | Ensemble | RandomEnsemble | Sequence[Model],
    settings: Settings,
    *,
    reducer: str = "mean",
    probe: Tensor | None = None,
) -> Target:
    """The target that a model, an ensemble or several models are.

    Args:
        model: several models are an ensemble under ``reducer``; ``random-member`` draws one for
            every answer.
        settings: see there.
        reducer: of several models.
        probe: inputs on which a hidden randomness would show.

    Raises:
        ModelError: it is random, and does not say how. ParameterError: settings that do not fit it.
    """
    if isinstance(model, RandomEnsemble):
        _refuse_noise(settings)
        return Subsets(model, settings.rows, gradients=settings.gradients)
    if isinstance(model, Ensemble):
        members: list[Model] = list(model.models)
    else:
        # Kernels that a hypernetwork makes are made once, not in every step of an attack.
        members = [cached(one) for one in ([model] if isinstance(model, Model) else model)]
        name, _, weights = reducer.partition(":")
        if name == RANDOM_MEMBER:
            return _random_ensemble(members, weights, settings)
    if not isinstance(model, Ensemble):
        model = members[0] if len(members) == 1 else Ensemble(members, reducer)
    if probe is not None and isinstance(model, Ensemble):
        for member in model.models:
            if is_random(member, probe):
                raise _undeclared(member)
    if settings.sigma is not None:
        if isinstance(model, Model):
            _check_smoothable(model, settings, probe)
        return SmoothedTarget(
            model,
            settings.sigma,
            device_of(model),
            draws=settings.draws,
            judged=settings.judged,
            rows=settings.rows,
        )
    if isinstance(model, Ensemble):
        return Reduced(model, settings.rows, gradients=settings.gradients)
    return _single(model, settings, probe)


def _single(model: Model, settings: Settings, probe: Tensor | None) -> Target:
    declared = declared_random(model, settings)
    if declared is not None:
        return declared
    if probe is not None and is_random(model, probe):
        if not settings.force_random:
            raise _undeclared(model)
        return Sampled(
            from_torch_state(model),
            model.inputs,
            model.classes,
            device_of(model),
            draws=settings.draws,
            judged=settings.judged,
            name=model.card.name,
        )
    return Plain(model, settings.rows, gradients=settings.gradients)


def _check_smoothable(model: Model, settings: Settings, probe: Tensor | None) -> None:
    """Refuse noise around a network that draws numbers itself: its draws would go unaccounted."""
    if declared_random(model, settings) is not None:
        _refuse_noise(settings)
    if probe is not None and is_random(model, probe):
        raise _undeclared(model)


def _refuse_noise(settings: Settings) -> None:
    """Refuse a level of noise where the classifier itself draws.

    Raises:
        ParameterError: there is one.
    """
    if settings.sigma is not None:
        raise ParameterError(
            f"noise of level {settings.sigma:g} around a random classifier",
            why="every draw of it under noise is a smoothed classifier of its own, and an answer"
            " with most votes over both kinds of draws is another defence than either",
            repair="leave --sigma out, or another reducer",
        )


def _random_ensemble(members: list[Model], weights: str, settings: Settings) -> Target:
    _refuse_noise(settings)
    shares = None
    if weights:
        try:
            given = [float(word) for word in weights.split(",")]
        except ValueError:
            raise ParameterError(
                f"{weights!r} are no weights", repair="random-member:1,2,1"
            ) from None
        shares = shares_of(given, len(members))
    return Expected(members, shares, settings.rows, gradients=settings.gradients)


def declared_random(model: Model, settings: Settings) -> Target | None:
    """The target of a network that says itself how it draws; None where it says nothing."""
    network: Any = model.network
    members, shares = getattr(network, "members", None), getattr(network, "probabilities", None)
    if members is not None and shares is not None:
        inputs = model.inputs
        models = [Model(member, inputs, model.classes, model.card) for member in members]
        return Expected(models, shares, settings.rows, gradients=settings.gradients)
    if not takes_generator(network):
        return None

    def forward(x: Tensor, generator: torch.Generator) -> Tensor:
        drawn: Tensor = network(model.normalise(x), generator)
        return drawn

    return Sampled(
        forward,
        model.inputs,
        model.classes,
        device_of(model),
        draws=settings.draws,
        judged=settings.judged,
        name=model.card.name,
    )


def takes_generator(network: nn.Module) -> bool:
    """Whether ``forward`` has a parameter ``generator``."""
    return "generator" in inspect.signature(network.forward).parameters


def is_random(model: Model, x: Tensor) -> bool:
    """Whether equal inputs ``(B, *shape)`` had different answers in any of a few passes."""
    with torch.inference_mode(), user_code(f"{model.card.name} on {tuple(x.shape)}"):
        first, *others = [model(x) for _ in range(PASSES)]
    # GPUs may add in another order; a CPU has no such excuse.
    allowed = 0.0 if x.device.type == "cpu" else COMPANY_TOLERANCE_FP32
    return any(relative_gap(other, first) > allowed for other in others)


def _undeclared(model: Model) -> ModelError:
    return ModelError(
        f"{model.card.name} gave different answers to the same inputs",
        why="an attack on a random model means nothing until its randomness is accounted for",
        repair=INTERFACE,
    )
