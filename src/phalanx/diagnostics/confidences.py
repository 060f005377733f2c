"""Smoothed confidences and their gradients at one input, by sampling under keyed noise.

The gradient of ``E softmax(z(x + eps))`` is the mean gradient over noise. Two estimates exist:
gradients by automatic differentiation, averaged; and Stein's identity
``E[eps f(x + eps)] / sigma^2``, which needs no derivative. The variance of one draw is
``E|grad f|^2`` at most for the first and about ``d E f^2 / sigma^2`` for the second, which
grows with the number d of inputs and does not care how flat f is. The first is used. It is
right for every network that is continuous (ReLU included) and blind to steps, so a network
through which no gradient flows is refused.

Squared norms of a mean of n draws are too large by their variance over n. Draws are therefore
summed in `BLOCKS`, and inner products are taken between different blocks only: unbiased.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from phalanx.diagnostics.geometry import Local, checked_weights
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import ModelError, NonFiniteError, ParameterError
from phalanx.models.model import Model
from phalanx.models.validate import validate
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.stream import NormalStream
from phalanx.runtime.keys import noise_key
from phalanx.runtime.usercode import user_code

PHASE = "diagnose-gradients"
"""Names these draws in the noise key, so that nothing else ever reuses them."""

BATCH = 256
BLOCKS = 8
LEAST_SAMPLES = 4 * BLOCKS
WATCHED = 12
"""At most so many classes have their gradients sampled: y0 and the likeliest beside it."""

QUIET = 2e-4
"""A class below this confidence for every member is left to the rest (`Local`): its
gradient is below ``7.5e-4 / sigma``."""

_MOVES = 1e-6
"""Confidences that noise moves by more than this have a gradient."""


@torch.enable_grad()
def confidences(
    ensemble: Ensemble,
    x: Tensor,
    sigma: float,
    samples: int,
    seed: int = 0,
    *,
    image: int = 0,
    weights: Sequence[float] | None = None,
) -> Local:
    """Smoothed softmax confidences of every member at one input, and their gradients.

    All members see the same noise. Cost for each member: two forward passes of ``samples`` rows,
    and a backward pass for each class that is likely enough, at most `WATCHED`.

    Args:
        ensemble: members in evaluation mode; its reducer plays no part.
        x: one input ``(*shape)``, without the batch axis, in the members' input range.
        sigma: noise level in input units, positive.
        samples: number of noise draws, at least `LEAST_SAMPLES`; cut to a multiple of `BLOCKS`.
        seed: run seed; with ``image`` it determines the noise and nothing else does.
        image: index of the input in its data set.
        weights: one for each member; equal by default. They choose y0.

    Raises:
        ParameterError: sigma, samples or weights out of range.
        ModelError: a member is not a function, or no gradient flows through it.
        NonFiniteError: a member returned NaN or infinite logits or gradients.
    """
    if samples < LEAST_SAMPLES:
        raise ParameterError(
            f"{samples} draws for gradients",
            why=f"below {LEAST_SAMPLES} their norms are mostly chance",
            repair=f"--gradient-samples {LEAST_SAMPLES} or more; 0 leaves them out",
        )
    members = ensemble.models
    for member in members:
        validate(member)
    w = checked_weights(
        [1.0 / len(members)] * len(members) if weights is None else weights, len(members)
    )
    draws = _Draws(ensemble, x, sigma, samples // BLOCKS, noise_key(seed, image, PHASE))
    label, classes = _likely(draws, w)
    means, gram = _sample(draws, classes)
    return Local(means, gram, classes, sigma, label)


class _Draws:
    """Noisy copies of one input in blocks, the same at every pass."""

    def __init__(self, ensemble: Ensemble, x: Tensor, sigma: float, block: int, key: int) -> None:
        self.members, self.classes = ensemble.models, ensemble.classes
        device = next((p.device for p in ensemble.parameters()), torch.device("cpu"))
        self.x, self.noise, self.block, self.key = x.to(device), Gaussian(sigma), block, key

    def __iter__(self) -> Iterator[list[Tensor]]:
        stream = NormalStream(self.key, self.x.numel(), self.x.device)
        for _ in range(BLOCKS):
            yield list(self._pieces(stream))

    def _pieces(self, stream: NormalStream) -> Iterator[Tensor]:
        for start in range(0, self.block, BATCH):
            piece = self.x.new_empty(min(BATCH, self.block - start), *self.x.shape)
            self.noise.fill(piece, self.x, stream)
            yield piece


def _likely(draws: _Draws, weights: np.ndarray) -> tuple[int, tuple[int, ...]]:
    """The weighted ensemble's class, and with it the classes that some member finds likely."""
    means = np.zeros((len(draws.members), draws.classes))
    with torch.no_grad():
        for pieces in draws:
            for piece in pieces:
                for index, member in enumerate(draws.members):
                    means[index] += _softmax(member, piece, index).sum(0).cpu().numpy()
    means /= draws.block * BLOCKS
    label, most = int((weights @ means).argmax()), means.max(0)
    order = [int(c) for c in (-most).argsort(kind="stable") if c != label]
    likely = [c for k, c in enumerate(order) if k == 0 or most[c] >= QUIET]
    return label, tuple(sorted([label, *likely[: WATCHED - 1]]))


def _sample(draws: _Draws, classes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Means ``(members, classes)`` and the unbiased Gram matrix of the watched gradients."""
    members, rows = len(draws.members), len(draws.members) * len(classes)
    means = np.zeros((members, draws.classes))
    total: Tensor | None = None
    same = np.zeros((rows, rows))
    flows = _Flow(members)
    for pieces in draws:
        parts = []
        for index, member in enumerate(draws.members):
            gradient: Tensor | None = None
            for piece in pieces:
                values, slopes = _differentiate(member, piece, classes, index)
                flows.see(index, values, slopes)
                means[index] += values.sum(0).cpu().numpy()
                gradient = slopes if gradient is None else gradient + slopes
            parts.append(gradient)
        block = torch.cat([part for part in parts if part is not None]) / draws.block
        total = block if total is None else total + block
        same += (block @ block.T).cpu().numpy()
    flows.check(draws)
    if total is None:
        raise ParameterError("no draws")
    between = ((total @ total.T).cpu().numpy() - same) / (BLOCKS * (BLOCKS - 1))
    shape = (members, len(classes), members, len(classes))
    return means / (draws.block * BLOCKS), between.reshape(shape)


def _differentiate(
    member: Model, piece: Tensor, classes: tuple[int, ...], index: int
) -> tuple[Tensor, Tensor]:
    """Confidences ``(rows, classes)`` and gradients summed over rows ``(watched, numel)``."""
    noisy = piece.detach().requires_grad_()
    confidence = _softmax(member, noisy, index)
    if not confidence.requires_grad:
        return confidence, piece.new_zeros(len(classes), piece[0].numel(), dtype=torch.float64)
    slopes = []
    with user_code(f"the gradient of {member.card.name}"):
        for c in classes:
            (slope,) = torch.autograd.grad(
                confidence[:, c].sum(), noisy, retain_graph=True, allow_unused=True
            )
            slopes.append(piece.new_zeros(piece.shape) if slope is None else slope)
    gradient = torch.stack([slope.double().sum(0).flatten() for slope in slopes])
    if not bool(torch.isfinite(gradient).all()):
        raise NonFiniteError(
            f"member {index} has NaN or infinite gradients",
            why="no norm can be read from them",
            repair="--gradient-samples 0 leaves them out",
        )
    return confidence.detach(), gradient


def _softmax(member: Model, x: Tensor, index: int) -> Tensor:
    with user_code(f"{member.card.name} with gradients"):
        logits = member(x)
    broken = int((~torch.isfinite(logits)).sum())
    if broken:
        raise NonFiniteError(
            f"member {index} returned {broken} NaN or infinite logits of {logits.numel()}",
            why="no confidence can be read from them",
            repair="phalanx doctor MODEL",
        )
    return logits.double().softmax(-1)


class _Flow:
    """Whether gradients flow through each member, judged once all draws are seen."""

    def __init__(self, members: int) -> None:
        self.low: list[Tensor | None] = [None] * members
        self.high: list[Tensor | None] = [None] * members
        self.slope = [0.0] * members

    def see(self, index: int, values: Tensor, slopes: Tensor) -> None:
        """Note one batch of one member."""
        low, high = self.low[index], self.high[index]
        least, most = values.min(0).values, values.max(0).values
        self.low[index] = least if low is None else torch.minimum(low, least)
        self.high[index] = most if high is None else torch.maximum(high, most)
        self.slope[index] = max(self.slope[index], float(slopes.abs().max()))

    def check(self, draws: _Draws) -> None:
        """Refuse a member whose confidences move while its gradient is exactly zero."""
        for index, member in enumerate(draws.members):
            low, high = self.low[index], self.high[index]
            if low is None or high is None or self.slope[index] > 0:
                continue
            if float((high - low).max()) > _MOVES:
                raise ModelError(
                    f"no gradient flows through member {index} ({member.card.name})",
                    why="it rounds, takes an argmax or detaches, so automatic differentiation"
                    " cannot see how its confidences change",
                    repair="--gradient-samples 0 leaves DRT's conditions out",
                )
