"""Targets: what an attack may ask of a classifier.

Every classifier is a list of *outcomes*, each with a probability: a deterministic one has one, a
random ensemble one for each member, a defence that draws its own numbers as many as are sampled.
Accuracy is the probability of the right answer; where the outcomes are all that can happen it is
exact, and otherwise it says from how many draws it was estimated.

An answer depends on its row and not on the company it is in, to the last bit: see
`phalanx.attacks.passes`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from phalanx.attacks.draws import Draws
from phalanx.attacks.objective import ce
from phalanx.attacks.passes import Ladder, in_passes
from phalanx.ensembles.ensemble import Ensemble
from phalanx.ensembles.random_ensemble import RandomEnsemble, subsets_of
from phalanx.errors import ModelError, NonFiniteError, ParameterError
from phalanx.models.model import InputSpec, Model
from phalanx.models.usercode import user_code

ROWS = {"cpu": 128, "cuda": 256}
"""Rows of a full pass, by the type of the device."""
TRIAL = 1
"""Key of the inputs on which smaller passes are tried: any; every process must use the same."""


@dataclass(frozen=True)
class Seen:
    """What a pass showed.

    Attributes:
        scores: of every outcome ``(S, B, C)``: its class is the first largest.
        steep: what gradients are taken of ``(S', B, C)``: the same, unless scores are flat.
    """

    scores: Tensor
    steep: Tensor


class Target(ABC):
    """A classifier under attack.

    Attributes:
        inputs, classes: what it expects and what it names.
        weights: probabilities of the outcomes, float32 ``(S,)``, in the order of `Seen.scores`.
        steep_weights: the same for `Seen.steep`.
        device: where its passes run.
        rows: of a pass.
        exact: whether the outcomes are all that can happen; else answers depend on keys.
        fresh: whether random draws differ from query to query (or stay those of their point).
        judged: draws from which the probability of the right answer is estimated; None: exact.
        pooled: whether it decides by the mean prediction over its outcomes.
        differentiable: whether gradients may be asked for.
        members: the single classifiers it is made of, for attacks that go through one.
    """

    exact: ClassVar[bool] = True
    fresh: ClassVar[bool] = False
    judged: int | None = None
    pooled: ClassVar[bool] = False
    differentiable: bool = True
    inputs: InputSpec
    classes: int
    weights: Tensor
    device: torch.device
    rows: int
    name: str

    @property
    def steep_weights(self) -> Tensor:
        """Probabilities of what gradients are taken of."""
        return self.weights

    @property
    def members(self) -> Sequence[Target]:
        """The classifiers it is made of; itself where it is one."""
        return [self]

    def ladder(self, x: Tensor) -> Ladder:
        """The sizes of passes of inputs like ``x`` ``(B, *shape)``."""
        shape = tuple(x.shape[1:])
        if shape not in self._ladders:
            steady = self.exact and x.device.type == "cpu"
            alike = partial(same_bits, self, shape) if steady else lambda size: False
            self._ladders[shape] = Ladder(self.rows, alike)
        return self._ladders[shape]

    @cached_property
    def _ladders(self) -> dict[tuple[int, ...], Ladder]:
        return {}

    @abstractmethod
    def see(self, x: Tensor, keys: Sequence[int]) -> Seen:
        """One pass of inputs ``(B, *shape)``; ``keys`` are one number a row, for random draws."""

    def agreement(self, scores: Tensor, y: Tensor) -> Tensor:
        """The probability of class ``y`` that scores ``(S, B, C)`` show: float64 ``(B,)``."""
        right = (scores.argmax(-1) == y).double()
        if len(right) == 1:
            return right[0]
        return (self.weights.double()[:, None] * right).sum(0)

    def right(self, x: Tensor, y: Tensor, keys: Sequence[int]) -> Tensor:
        """The probability of the right answer, from plain passes: float64 ``(B,)``.

        Raises:
            NonFiniteError: scores are NaN or infinite.
        """
        with torch.inference_mode():
            scores = in_passes(lambda a, k: self.see(a, k).scores, x, keys, self.ladder(x))
        require_finite(scores, self.name)
        return self.agreement(scores.clone(), y)


def same_bits(target: Target, shape: tuple[int, ...], size: int) -> bool:
    """Whether passes of ``size`` rows give what full ones give, on inputs drawn for the trial.

    What a library does follows from the shape and not from the values, so rows that differ in
    rounding would show among the many scores and gradients compared. Inputs on which the classifier
    fails show nothing: its passes stay full.
    """
    x = _trial_inputs(target, shape)
    try:
        whole, part = _shown(target, x), _shown(target, x[:size])
    except ModelError:
        return False
    pairs = zip(whole, part, strict=True)
    return all(torch.equal(one.narrow(axis, 0, size), two) for (axis, one), (_, two) in pairs)


def _trial_inputs(target: Target, shape: tuple[int, ...]) -> Tensor:
    low, high = target.inputs.range
    numbers = Draws([TRIAL]).uniforms(
        torch.zeros(1, dtype=torch.int64), 0, target.rows * prod(shape)
    )
    return low + (high - low) * numbers.view(target.rows, *shape)


def _shown(target: Target, x: Tensor) -> list[tuple[int, Tensor]]:
    """Scores without a graph and with one, a loss and its gradient: each with its axis of rows."""
    keys = [0] * len(x)
    with torch.inference_mode():
        found = [(1, target.see(x, keys).scores)]
    if not target.differentiable:
        return found
    with torch.enable_grad():
        moved = x.clone().requires_grad_()
        seen = target.see(moved, keys)
        loss = ce(seen.steep, target.steep_weights, torch.arange(len(x)) % target.classes)
        found += [(1, seen.scores.detach()), (0, loss.detach())]
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss.sum(), moved, allow_unused=True)
            found += [] if gradient is None else [(0, gradient)]
    return found


def require_finite(scores: Tensor, name: str) -> None:
    """Refuse scores from which no class can be read.

    Raises:
        NonFiniteError: there are some.
    """
    finite = torch.isfinite(scores)
    if not bool(finite.all()):
        broken = ~finite.all(-1)
        raise NonFiniteError(
            f"{int(broken.sum())} of {broken.numel()} answers of {name} are NaN or infinite",
            why="no class can be read from them, and no attack may call that a success",
            repair="phalanx doctor MODEL",
        )


class Plain(Target):
    """One model.

    Args:
        model: in evaluation mode.
        rows: of a pass; by default what suits the device.
        gradients: False: only its scores are asked for.
    """

    def __init__(self, model: Model, rows: int | None = None, *, gradients: bool = True) -> None:
        self.model, self.inputs, self.classes = model, model.inputs, model.classes
        self.device, self.name = device_of(model), model.card.name
        self.rows = rows_of(self.device, rows)
        self.weights = torch.ones(1, device=self.device)
        self.differentiable = gradients

    def see(self, x: Tensor, keys: Sequence[int]) -> Seen:
        """Its logits, the one outcome."""
        logits = called(self.model, x, self.name)[None]
        return Seen(logits, logits)


class Reduced(Target):
    """An ensemble under a reducer: one outcome.

    Where the reducer's scores are confidences, gradients are those of their logarithm, and where
    they are votes, those of the members, each with equal probability.
    """

    def __init__(
        self, ensemble: Ensemble, rows: int | None = None, *, gradients: bool = True
    ) -> None:
        self.ensemble, self.inputs, self.classes = ensemble, ensemble.inputs, ensemble.classes
        self.device, self.name = device_of(ensemble), f"the {ensemble.reducer_name} ensemble"
        self.rows = rows_of(self.device, rows)
        self.weights = torch.ones(1, device=self.device)
        self.differentiable = gradients

    @property
    def steep_weights(self) -> Tensor:
        """Of the reduced scores, or of the members where those are flat."""
        count = len(self.ensemble.members) if self.ensemble.reducer_name == "vote" else 1
        return torch.full((count,), 1 / count, device=self.device)

    @property
    def members(self) -> Sequence[Target]:
        """Each alone."""
        return [
            Plain(model, self.rows, gradients=self.differentiable) for model in self.ensemble.models
        ]

    def see(self, x: Tensor, keys: Sequence[int]) -> Seen:
        """The reduced scores, and what to climb."""
        with user_code(f"{self.name} on inputs of shape {tuple(x.shape)}"):
            logits = self.ensemble.member_logits(x).float()
        scores = self.ensemble.reducer(logits)[None]
        return Seen(scores, self._steep(logits, scores))

    def _steep(self, logits: Tensor, scores: Tensor) -> Tensor:
        name, options = self.ensemble.reducer_name, self.ensemble.reducer_options
        if name == "vote":
            return logits
        if name == "max-margin":
            two = logits.softmax(-1).topk(2, dim=-1).values
            leader = (two[..., 0] - two[..., 1]).argmax(0)
            return logits.take_along_dim(leader.view(1, -1, 1), dim=0)
        if name in ("softmax", "weighted"):
            shares = logits.new_tensor(options.get("weights") or [1.0] * len(logits))
            shares = (shares / shares.sum()).clamp_min(1e-30).log()
            return (log_softmax(logits, -1) + shares[:, None, None]).logsumexp(0)[None]
        return scores


class Expected(Target):
    """A random ensemble: a member is drawn for every answer, so accuracy is an exact mean.

    Args:
        models: the members.
        probabilities: of each; by default all equal.

    Raises:
        ParameterError: they are not probabilities, or not one a member.
    """

    def __init__(
        self,
        models: Sequence[Model],
        probabilities: Sequence[float] | Tensor | None = None,
        rows: int | None = None,
        *,
        gradients: bool = True,
    ) -> None:
        if not models:
            raise ModelError("a random ensemble without members")
        self.models, self.inputs, self.classes = list(models), models[0].inputs, models[0].classes
        self.device, self.name = device_of(models[0]), "the random ensemble"
        self.rows, self.differentiable = rows_of(self.device, rows), gradients
        shares = _probabilities(probabilities, len(models))
        self.weights = torch.tensor(shares, dtype=torch.float32, device=self.device)
        self.shares = torch.tensor(shares, dtype=torch.float64, device=self.device)

    @property
    def members(self) -> Sequence[Target]:
        """Each alone."""
        return [Plain(model, self.rows, gradients=self.differentiable) for model in self.models]

    def see(self, x: Tensor, keys: Sequence[int]) -> Seen:
        """Every member's logits."""
        logits = torch.stack([called(model, x, self.name) for model in self.models])
        return Seen(logits, logits)

    def agreement(self, scores: Tensor, y: Tensor) -> Tensor:
        """The exact probability that the member that is drawn is right."""
        return (self.shares[:, None] * (scores.argmax(-1) == y).double()).sum(0)


class Subsets(Target):
    """A random ensemble of which some members answer together: every subset is an outcome.

    Args:
        random: the members, how many are drawn, and the reducer of those.

    Raises:
        ParameterError: there are too many subsets to go through.
    """

    def __init__(
        self, random: RandomEnsemble, rows: int | None = None, *, gradients: bool = True
    ) -> None:
        ensemble = random.ensemble
        self.random, self.inputs, self.classes = random, ensemble.inputs, ensemble.classes
        self.device, self.name = device_of(ensemble), "the random ensemble"
        self.rows, self.differentiable = rows_of(self.device, rows), gradients
        self.subsets = subsets_of(len(ensemble.models), random.drawn)
        count = len(self.subsets)
        self.weights = torch.full((count,), 1 / count, device=self.device)

    @property
    def members(self) -> Sequence[Target]:
        """Each alone."""
        models = self.random.ensemble.models
        return [Plain(model, self.rows, gradients=self.differentiable) for model in models]

    def see(self, x: Tensor, keys: Sequence[int]) -> Seen:
        """The reduced scores of every subset; members run once."""
        ensemble = self.random.ensemble
        logits = torch.stack([called(model, x, self.name) for model in ensemble.models])
        scores = torch.stack([ensemble.reducer(logits[list(some)]) for some in self.subsets])
        return Seen(scores, scores)

    def agreement(self, scores: Tensor, y: Tensor) -> Tensor:
        """The exact share of subsets that are right."""
        return (scores.argmax(-1) == y).double().mean(0)


def shares_of(weights: Sequence[float], members: int) -> list[float]:
    """Weights of members as probabilities; all equal where none are given.

    Raises:
        ParameterError: not one a member, one that is negative or not finite, or none above 0.

    >>> shares_of([], 4), shares_of([3, 1], 2)
    ([0.25, 0.25, 0.25, 0.25], [0.75, 0.25])
    """
    values = [float(value) for value in weights] or [1.0] * members
    total = sum(values)
    if len(values) != members or not all(0 <= v < float("inf") for v in values) or total <= 0:
        raise ParameterError(
            f"the weights {values} are no probabilities of {members} members",
            repair="one number from 0 for each member, such as 1,1,2",
        )
    return [value / total for value in values]


def _probabilities(given: Sequence[float] | Tensor | None, members: int) -> list[float]:
    if given is None:
        return [1 / members] * members
    values = [float(value) for value in given]
    total = sum(values)
    if len(values) != members or not all(0 <= v <= 1 for v in values) or abs(total - 1) > 1e-6:
        raise ParameterError(
            f"the probabilities of {members} members are {values}",
            why="there is one a member, none negative, and they sum to 1",
        )
    return [value / total for value in values]


def called(model: nn.Module, x: Tensor, name: str) -> Tensor:
    """Logits in float32.

    Raises:
        ModelError: its code fails, or returns something else than logits.
    """
    with user_code(f"{name} on inputs of shape {tuple(x.shape)}"):
        logits: Tensor = model(x)
    return logits.float()


def device_of(model: nn.Module) -> torch.device:
    """Where its weights are."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def rows_of(device: torch.device, asked: int | None) -> int:
    """Rows of a pass, asked for or by the device.

    Raises:
        ParameterError: fewer than 1.
    """
    if asked is None:
        return ROWS.get(device.type, ROWS["cuda"])
    if type(asked) is not int or asked < 1:
        raise ParameterError(f"{asked!r} rows in a pass", repair="a whole number from 1")
    return asked
