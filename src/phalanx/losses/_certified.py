"""Certified training: losses on what is proven of a member in a ball around every image.

The bounds are those of `phalanx.bounds`, on the member's graph with its parameters as they are, so
that every layer that is bounded can be trained, by every method; what has no bound is refused by
the graph's own errors. A step takes one training pass on the images and the bounds of one more
graph, in which batch normalisation has the statistics of that pass (as in Shi et al. 2021) and
dropout is absent.

They are bounds in float32, up to roundings: good for training, and no certificate.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal
from weakref import WeakKeyDictionary

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from phalanx.bounds.engine import Engine, Settings
from phalanx.bounds.prepare import Prepared, prepare
from phalanx.bounds.problem import least_on_boxes
from phalanx.bounds.region import Region, ball
from phalanx.graph.from_torch import LiveGraph
from phalanx.graph.ir import Graph
from phalanx.losses import Batch, Loss, LossOutput
from phalanx.losses._member import Metrics, Score, Weight, forward, mean_metrics
from phalanx.specs.threat import Threat

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Radius = Annotated[float, Field(gt=0, allow_inf_nan=False)]

MIDDLE = 0.25
"""Where a smooth ramp becomes straight."""


@dataclass(frozen=True, eq=False)
class Question:
    """What is to be bounded in one step.

    Attributes:
        graph: the member's, with tensors that carry its parameters' gradients.
        region: the balls.
        rows: ``(C, B, C)``: the margin of the label over each class, and zero for its own.
        grown: how much of the ramp is behind, in [0, 1].
    """

    graph: Prepared
    region: Region
    rows: Tensor
    grown: float

    def bounded(self, settings: Settings) -> Engine:
        """The engine, with the boxes of all values."""
        engine = Engine(self.graph, self.region, settings)
        engine.bound_all()
        return engine

    def by_boxes(self, engine: Engine) -> Tensor:
        """Lower bounds ``(C, B)`` from boxes, the last layer merged with the margins."""
        return least_on_boxes(engine, self.rows)

    def by_lines(self, engine: Engine) -> Tensor:
        """Lower bounds ``(C, B)`` from one backward pass."""
        return engine.least({self.graph.output: self.rows}, None)


@dataclass(frozen=True, eq=False)
class Answer:
    """Lower bounds of the margins ``(C, B)`` and what is added to the loss."""

    lower: Tensor
    added: Tensor | None = None
    metrics: Metrics | None = None


class CertifiedLoss(Loss):
    """Base: ``k CE(logits) + (1 - k) CE(worst logits)``, the radius growing from zero.

    The worst logit of a class is minus the lower bound of the label's margin over it (the label's
    own is zero), so that the cross entropy is an upper bound of the largest one in the ball.

    Attributes:
        eps: radius in input units, in the end.
        norm: ``linf``, ``l2`` or ``l1``.
        kappa: weight k of the clean loss, in the end.
        warmup_epochs: with the clean loss alone.
        ramp_epochs: in which the radius grows to ``eps``, and k falls from 1 to ``kappa``.
        ramp: ``linear``, or ``smooth``: slower at first.
    """

    eps: Radius = 0.1
    norm: Literal["linf", "l2", "l1"] = "linf"
    kappa: Share = 0.5
    warmup_epochs: Weight = 0.0
    ramp_epochs: Weight = 10.0
    ramp: Literal["linear", "smooth"] = "linear"
    _graphs: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], LiveGraph]] = PrivateAttr(
        default_factory=WeakKeyDictionary
    )

    @abstractmethod
    def answer(self, question: Question) -> Answer:
        """Bounds of the margins."""

    def radius(self, grown: float) -> float:
        """The radius at a point of the ramp."""
        return self.eps * grown

    def clean_share(self, grown: float) -> float:
        """k at a point of the ramp."""
        return 1 - (1 - self.kappa) * grown

    def __call__(self, members: Sequence[nn.Module], batch: Batch) -> LossOutput:
        """Mean over ``members``.

        Raises:
            GraphError: a layer of a member that has no bound.
        """
        noisy, scores = [], []
        for member in members:
            logits, score = self._of(member, batch)
            noisy.append(logits.detach())
            scores.append(score)
        loss = torch.stack([score.loss for score in scores]).mean()
        return LossOutput(loss, torch.stack(noisy), mean_metrics(scores))

    def _of(self, member: nn.Module, batch: Batch) -> tuple[Tensor, Score]:
        noise = self.sigma * batch.noise(0) if self.sigma else torch.zeros_like(batch.x)
        with watched(member) as statistics:
            logits = forward(member, batch.x + noise)
        clean = cross_entropy(logits, batch.y)
        begun = batch.progress >= self.warmup_epochs
        grown = grown_share(batch.progress - self.warmup_epochs, self.ramp_epochs, self.ramp)
        eps = self.radius(grown) if begun else 0.0
        metrics = {"eps": clean.new_tensor(eps)}
        # A point has nothing to bound; and what is broken is said by the trainer.
        if eps == 0 or not bool(torch.isfinite(clean)):
            right = (logits.argmax(1) == batch.y).float().mean()
            return logits, Score(clean, {**metrics, "certified": right})
        with torch.autocast(batch.x.device.type, enabled=False):
            graph = prepare(self._graph(member, tuple(batch.x.shape[1:]), statistics()))
            region = self._region(batch, noise, eps)
            answer = self.answer(Question(graph, region, _margins(logits, batch.y), grown))
            worst = cross_entropy(-answer.lower.T, batch.y)
        share = self.clean_share(grown)
        loss = share * clean + (1 - share) * worst
        loss = loss if answer.added is None else loss + answer.added
        metrics["certified"] = _proven(answer.lower.detach(), batch.y).float().mean()
        return logits, Score(loss, {**metrics, "worst": worst, **(answer.metrics or {})})

    def _graph(self, member: nn.Module, shape: tuple[int, ...], given: dict[str, Tensor]) -> Graph:
        known = self._graphs.setdefault(member, {})
        if shape not in known:
            known[shape] = LiveGraph(member, shape)
        return known[shape].graph(given)

    def _region(self, batch: Batch, noise: Tensor, eps: float) -> Region:
        """Valid images around the image, under its noise."""
        low, high = batch.value_range
        # An image may have been augmented out of the range by a rounding.
        around = ball(Threat(self.norm, eps, low, high), batch.x.clamp(low, high))
        if not self.sigma:
            return around
        lower, upper = around.lower + noise, around.upper + noise
        return Region(lower, upper, around.centre + noise, self.norm, eps)


def grown_share(epochs: float, ramp: float, kind: str) -> float:
    """How far a ramp has come after so many epochs of it, in [0, 1].

    ``smooth`` is a fourth power up to a quarter of the time and straight from there, without a
    kink: ``c t^4``, then slope ``4 c (1/4)^3``.

    >>> [grown_share(t, 10, "linear") for t in (-1, 0, 5, 10, 99)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    >>> [round(grown_share(t, 1, "smooth"), 4) for t in (0.125, 0.25, 0.625, 1)]
    [0.0048, 0.0769, 0.5385, 1.0]
    """
    if ramp <= 0 or epochs >= ramp:
        return 1.0
    t = max(0.0, epochs / ramp)
    if kind == "linear":
        return t
    c = 1 / (MIDDLE**4 + 4 * MIDDLE**3 * (1 - MIDDLE))
    return c * t**4 if t < MIDDLE else c * (MIDDLE**4 + 4 * MIDDLE**3 * (t - MIDDLE))


@contextmanager
def watched(member: nn.Module) -> Iterator[Callable[[], dict[str, Tensor]]]:
    """While inside, what batch normalisations in training see; the yielded function gives it.

    By name, ``1.running_mean`` and ``1.running_var``: mean and (biased) variance of the last batch
    each of them normalised, with a graph.
    """
    found: dict[str, Tensor] = {}

    def look(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if module.training:
                x = inputs[0].float()
                axes = [axis for axis in range(x.ndim) if axis != 1]
                variance, mean = torch.var_mean(x, axes, correction=0)
                found[f"{name}.running_mean"], found[f"{name}.running_var"] = mean, variance

        return hook

    norms = [
        (name.removeprefix("."), module)
        for name, module in member.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    hooks = [module.register_forward_pre_hook(look(name)) for name, module in norms]
    try:
        yield lambda: found
    finally:
        for hook in hooks:
            hook.remove()


def _margins(logits: Tensor, y: Tensor) -> Tensor:
    """``z_y - z_j`` as rows ``(C, B, C)``; zero for j = y."""
    unit = torch.eye(logits.shape[1], dtype=torch.float32, device=logits.device)
    return unit[y].unsqueeze(0) - unit.unsqueeze(1)


def _proven(lower: Tensor, y: Tensor) -> Tensor:
    """Whether every margin over another class ``(C, B)`` is above zero: bool ``(B,)``."""
    own = nn.functional.one_hot(y, len(lower)).T.bool()
    return ((lower > 0) | own).all(0)
