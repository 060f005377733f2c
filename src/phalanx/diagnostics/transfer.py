"""Transfer: does what deceives one smoothed member deceive the others?

Every member is attacked alone, within an l2 ball, by the adversary that SmoothAdv trains with
(projected gradient on ``-log mean softmax`` under noise; Salman et al., NeurIPS 2019). What
deceives it is shown to the others under fresh noise. The rate of ``i -> j`` is the share of such
images, among those that both get right before, that deceive j too (as in Yang et al., "TRS",
NeurIPS 2021). Members that share their mistakes have rates near 1. An attack that finds nothing
proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phalanx.attacks.smoothed import Smoothed, ascended
from phalanx.data.dataset import Dataset
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import ParameterError
from phalanx.evaluation.request import check_models
from phalanx.models.model import Model
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.stream import NormalStream
from phalanx.runtime.keys import noise_key

PHASE = "diagnose-transfer"
"""Names these draws in the noise key, so that nothing else ever reuses them."""
ATTACK_DRAWS, STEPS, IMAGES = 8, 10, 16
"""Noises an attack looks at, its steps, and images attacked at a time."""

Progress = Callable[[int, int], None]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class TransferReport:
    """Attacks on every member, and whom else they deceive.

    Attributes:
        images: looked at.
        eps: radius of the attacks, l2, input units.
        samples: noise draws of every decision.
        right: ``(M,)`` images that a member gets right.
        deceived: ``(M,)`` of those, how many an attack on it turned.
        asked: ``(M, M)`` attacks that turned i on images that j got right too.
        passed: ``(M, M)`` of those, how many turned j.
    """

    images: int
    eps: float
    samples: int
    right: Counts
    deceived: Counts
    asked: Counts
    passed: Counts

    def rate(self, first: int, second: int) -> float | None:
        """Of ``first -> second``; None where no attack succeeded."""
        asked = int(self.asked[first, second])
        return int(self.passed[first, second]) / asked if asked else None

    @property
    def mean(self) -> float | None:
        """Over all ordered pairs of different members, each attack counted once."""
        off = ~np.eye(len(self.right), dtype=bool)
        asked = int(self.asked[off].sum())
        return int(self.passed[off].sum()) / asked if asked else None

    def as_dict(self) -> dict[str, Any]:
        """JSON values (an absent number is None)."""
        members = range(len(self.right))
        return {
            "images": self.images,
            "eps": self.eps,
            "samples": self.samples,
            "right": self.right.tolist(),
            "deceived": self.deceived.tolist(),
            "rates": [[self.rate(i, j) for j in members] for i in members],
            "asked": self.asked.tolist(),
            "mean": self.mean,
        }

    def table(self) -> str:
        """A few lines of plain text."""
        members = range(len(self.right))
        lines = [
            f"transfer of attacks within l2 {self.eps:g}: {self.images} images, mean"
            f" {_shown(self.mean)}",
            f"{'attack on':>11}{'right':>7}{'deceived':>10}"
            + "".join(f"{f'-> {j}':>8}" for j in members),
        ]
        for i in members:
            rates = "".join(f"{_shown(self.rate(i, j) if i != j else None):>8}" for j in members)
            lines.append(f"{f'member {i}':>11}{self.right[i]:>7}{self.deceived[i]:>10}{rates}")
        return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def transfer(
    ensemble: Ensemble,
    dataset: Dataset,
    indices: Sequence[int],
    sigma: float,
    samples: int = 64,
    *,
    eps: float,
    seed: int = 0,
    progress: Progress | None = None,
) -> TransferReport:
    """Attack every member of an ensemble and ask the others.

    Args:
        ensemble: at least two members; its reducer plays no part.
        dataset, indices: labelled inputs.
        sigma: noise level in input units.
        samples: noise draws of every decision, at least 1.
        eps: radius of the attacks in input units, positive.
        seed: run seed of the noise.
        progress: told after every few images.

    Raises:
        ParameterError: too few members or samples, no labels, or eps out of range.
        ModelError, DataError: see `phalanx.evaluation.request.check_models`.
    """
    members = len(ensemble.members)
    if members < 2 or samples < 1 or not (0 < eps < math.inf):
        raise ParameterError(
            f"no transfer between {members} members with {samples} draws within {eps!r}",
            why="it needs two members, a draw and a positive radius",
        )
    if not dataset.labelled:
        raise ParameterError(
            "no transfer without labels", why="a member is deceived where it was right before"
        )
    check_models(list(ensemble.models), dataset, indices, sigma)
    report = _empty(members, len(indices), eps, samples)
    box = dataset.card.value_range
    draws = _Draws(ensemble, sigma, seed, samples)
    for first in range(0, len(indices), IMAGES):
        some = list(indices[first : first + IMAGES])
        x, y = dataset.images(some).to(draws.device), dataset.labels(some).to(draws.device)
        _count(report, ensemble, draws.at(some, x), x, y, box=box)
        if progress is not None:
            progress(first + len(some), len(indices))
    return report


def _count(
    report: TransferReport,
    ensemble: Ensemble,
    noises: tuple[list[Tensor], list[Tensor]],
    x: Tensor,
    y: Tensor,
    *,
    box: tuple[float, float],
) -> None:
    """Add some images to the counts."""
    attack, decide = noises
    models = ensemble.models
    right = torch.stack([_right(model, x, y, decide) for model in models])
    for i, model in enumerate(models):
        moved = ascended(Smoothed(model, y, attack), x, report.eps, STEPS, box)
        wrong = torch.stack([~_right(other, moved, y, decide) for other in models])
        turned = right[i] & wrong[i]
        report.right[i] += int(right[i].sum())
        report.deceived[i] += int(turned.sum())
        report.asked[i] += (turned & right).sum(1).cpu().numpy()
        report.passed[i] += (turned & right & wrong).sum(1).cpu().numpy()


@torch.inference_mode()
def _right(model: Model, x: Tensor, y: Tensor, noises: Sequence[Tensor]) -> Tensor:
    """Whether the mean confidence under noise is largest for the label: bool ``(B,)``."""
    total = sum((model(x + noise).double().softmax(-1) for noise in noises), torch.zeros(()))
    return total.argmax(-1) == y


class _Draws:
    """Noise of every image from a key of its own, in whatever company it is."""

    def __init__(self, ensemble: Ensemble, sigma: float, seed: int, samples: int) -> None:
        self.device = next((p.device for p in ensemble.parameters()), torch.device("cpu"))
        self.noise, self.seed, self.samples = Gaussian(sigma), seed, samples

    def at(self, images: Sequence[int], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Noises of the attack and of the decisions: each like ``x``."""
        drawn = torch.stack(list(self._each(images, x)), dim=1)
        return list(drawn[:ATTACK_DRAWS]), list(drawn[ATTACK_DRAWS:])

    def _each(self, images: Sequence[int], x: Tensor) -> Iterator[Tensor]:
        zeros = torch.zeros_like(x[0])
        for image in images:
            stream = NormalStream(noise_key(self.seed, image, PHASE), zeros.numel(), self.device)
            drawn = zeros.new_empty(ATTACK_DRAWS + self.samples, *zeros.shape)
            self.noise.fill(drawn, zeros, stream)
            yield drawn


def _empty(members: int, images: int, eps: float, samples: int) -> TransferReport:
    one, two = np.zeros(members, np.int64), np.zeros((members, members), np.int64)
    return TransferReport(images, eps, samples, one, one.copy(), two, two.copy())
