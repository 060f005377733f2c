"""The Python front door to attacks: ``phalanx.attack`` and its result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.attacks import build_attack
from phalanx.attacks.core import Outcome, attack_points
from phalanx.attacks.defences import Settings, target_of
from phalanx.attacks.target import Target
from phalanx.data.dataset import Dataset
from phalanx.ensembles.ensemble import Ensemble
from phalanx.ensembles.random_ensemble import RandomEnsemble
from phalanx.errors import DataError, ParameterError
from phalanx.models.model import Model
from phalanx.models.resolve import Declaration, resolve_all, wrap
from phalanx.models.validate import validate
from phalanx.runs.attacked import interval
from phalanx.runs.statistics import Interval
from phalanx.specs.threat import Threat

Attacked = Model | Ensemble | RandomEnsemble | Target | nn.Module | str | Sequence[Any]
PROBE_POINTS = 4


@dataclass(frozen=True)
class AttackResult:
    """What an attack did to every input, and how it did it.

    Attributes:
        outcome: per input, see `phalanx.attacks.core.Outcome`: ``adversarial``, ``before``,
            ``after``, ``success``, ``distance``, ``queries``, ``by``.
        attack, threat, seed: what was asked.
    """

    outcome: Outcome
    attack: str
    threat: Threat
    seed: int

    def __len__(self) -> int:
        return len(self.outcome.success)

    @property
    def adversarial(self) -> Tensor:
        """The worst input found for each ``(B, *shape)``; the clean one where none was."""
        return self.outcome.adversarial

    @property
    def success(self) -> Tensor:
        """Where the attack lowered the probability of the right answer: bool ``(B,)``."""
        return self.outcome.success

    @property
    def right_before(self) -> Tensor:
        """Probability of the right answer at the clean inputs: float64 ``(B,)``."""
        return self.outcome.before

    @property
    def right_after(self) -> Tensor:
        """The same at the worst inputs found."""
        return self.outcome.after

    @property
    def distance(self) -> Tensor:
        """How far each input was moved, in the threat's norm: float64 ``(B,)``."""
        return self.outcome.distance

    @property
    def queries(self) -> Tensor:
        """Inputs shown to the classifier for each: int64 ``(B,)``."""
        return self.outcome.queries

    @property
    def accuracy(self) -> float:
        """Before the attack; of a random classifier, expected."""
        return float(self.right_before.mean())

    @property
    def robust_accuracy(self) -> float:
        """What is left of it: an upper bound of the truth."""
        return float(self.right_after.mean())

    @property
    def interval(self) -> Interval:
        """95% over inputs, of `robust_accuracy`."""
        return interval(self.right_after.numpy())

    def __repr__(self) -> str:
        low, high = self.interval
        return (
            f"AttackResult of {self.attack} within {self.threat.norm} {self.threat.eps:.4g} on"
            f" {len(self)} inputs: accuracy {self.accuracy:.4f}, robust {self.robust_accuracy:.4f}"
            f" [{low:.4f}, {high:.4f}]"
        )


def attack(
    model: Attacked,
    x: Tensor | Dataset,
    y: Tensor | None = None,
    *,
    attack: str = "autoattack",
    norm: str = "linf",
    eps: float,
    seed: int = 0,
    reducer: str = "mean",
    batch: int | None = None,
    rows: int | None = None,
    draws: int = 16,
    judged: int = 100,
    sigma: float | None = None,
    gradients: bool = True,
    force_random: bool = False,
    input_range: tuple[float, float] | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    classes: int | None = None,
    normalised_inside: bool = False,
    **options: Any,
) -> AttackResult:
    """Look for inputs near given ones that a classifier answers wrongly.

    Every success has been run again. Robust accuracy is an upper bound: another attack may find
    more. The result depends neither on the batch nor on which other inputs are given.

    Args:
        model: a `Model`, an `Ensemble`, a `RandomEnsemble`, a MODEL string, a bare module (then
            declare its input below), a `phalanx.attacks.target.Target`, or a sequence of models.
        x: inputs ``(B, *shape)`` in input units, or a labelled `Dataset`.
        y: classes ``(B,)``.
        attack: one of ``phalanx list attacks``; ``options`` are its fields, such as ``steps=100``.
        norm, eps: what may be done to an input, in input units.
        seed: of all random numbers, which every input draws for itself.
        reducer: of a sequence of models; ``random-member`` draws one for every answer.
        batch, rows: inputs attacked together (by default 256 to 1024), and of one pass.
        draws, judged: of a classifier that draws: passes of a gradient, and of an answer.
        sigma: attack the classifier under Gaussian noise of this level, answering by most votes.
        gradients: False: scores only.
        force_random: take a random model to draw from torch's generator.

    Raises:
        ParameterError, ModelError, DataError: what, why and the repair.
    """
    declaration = Declaration(
        input_range=input_range,
        mean=tuple(mean),
        std=tuple(std),
        classes=classes,
        normalised_inside=normalised_inside,
    )
    built = build_attack(attack, options)
    inputs, labels = _points(x, y)
    settings = Settings(rows, draws, judged, sigma, gradients, force_random)
    target = _target(model, declaration, settings, reducer, inputs)
    low, high = target.inputs.range
    threat = Threat(norm, eps, low, high)
    outcome = attack_points(
        built, target, threat, inputs, labels, name=attack, seed=seed, batch=batch
    )
    return AttackResult(outcome, attack, threat, seed)


def _points(x: Tensor | Dataset, y: Tensor | None) -> tuple[Tensor, Tensor]:
    if isinstance(x, Dataset):
        every = list(range(len(x)))
        return x.images(every), x.labels(every)
    if y is None:
        raise DataError("no labels are given", why="an attack makes right answers wrong")
    inputs, labels = torch.as_tensor(x), torch.as_tensor(y)
    if not inputs.is_floating_point():
        raise DataError(f"inputs are {inputs.dtype}", why="they are floats in the model's range")
    return inputs.float(), labels


def _target(
    model: Attacked, said: Declaration, settings: Settings, reducer: str, x: Tensor
) -> Target:
    if isinstance(model, Target):
        return model
    found: Any = model
    if isinstance(model, str | os.PathLike):
        found = resolve_all([os.fspath(model)], said)
    elif isinstance(model, nn.Module) and not isinstance(model, Model | Ensemble):
        found = [wrap(model, said)]
    elif isinstance(model, Sequence):
        several: list[Any] = list(model)
        found = [m if isinstance(m, Model) else wrap(m, said) for m in several]
    for member in _members(found):
        validate(member)
    device = next((p.device for m in _members(found) for p in m.parameters()), x.device)
    if not len(x):
        raise DataError("no inputs are given")
    _check_ranks(_members(found), x)
    return target_of(found, settings, reducer=reducer, probe=x[:PROBE_POINTS].to(device))


def _members(model: Any) -> list[Model]:
    if isinstance(model, RandomEnsemble):
        return list(model.ensemble.models)
    if isinstance(model, Ensemble):
        return list(model.models)
    return [model] if isinstance(model, Model) else list(model)


def _check_ranks(members: Sequence[Model], x: Tensor) -> None:
    if not members:
        raise ParameterError("there is no model to attack")
    shape = members[0].inputs.shape
    if shape is not None and tuple(x.shape[1:]) != tuple(shape):
        raise DataError(
            f"inputs have shape {tuple(x.shape[1:])}, and {members[0].card.name} expects"
            f" {tuple(shape)}"
        )
