"""The correlation report of an ensemble: is it worth paying for k members?

Every image's draws are split in two halves. The first *predicts*: it chooses the class (as
certification does, from draws it does not count) and gives zeta, the moments and what follows
from them. The second *measures*: variances, success probabilities and radii. A prediction is
therefore never compared with the draws it was made from. All numbers are estimates about the
mean-logit ensembles of k members, averaged over the choices of k; none is a certificate.

Source: Horvath et al. (ICLR 2022, arXiv 2106.06946), section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phalanx.data.dataset import Dataset
from phalanx.diagnostics import correlation as law
from phalanx.diagnostics import prediction
from phalanx.diagnostics.collect import PHASE, collect
from phalanx.diagnostics.law import law_of
from phalanx.diagnostics.report import CorrelationReport, SizeRow
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import ParameterError
from phalanx.evaluation.request import check_models
from phalanx.noise.stream import NormalStream
from phalanx.runtime.keys import noise_key

LEAST_SAMPLES = 100
MOST_SUBSETS = 16
GAUSSIAN_DRAWS = 4096

Choice = tuple[int, ...]
Progress = Callable[[int, int], None]
"""``(images done, images)``, called after every image."""


def report(
    ensemble: Ensemble,
    dataset: Dataset,
    indices: Sequence[int],
    sigma: float,
    samples: int = 1000,
    *,
    seed: int = 0,
    alpha: float = 0.001,
    progress: Progress | None = None,
) -> CorrelationReport:
    """Measure how correlated an ensemble's members are, and what that predicts.

    Args:
        ensemble: at least two members; logits are averaged whatever its reducer.
        dataset, indices: which inputs; labels are not used (the class is the predicted one).
        sigma: noise level in input units.
        samples: noise draws per image, at least `LEAST_SAMPLES`.
        seed: run seed of the noise.
        alpha: level of the radii, in (0, 1).
        progress: told after every image.

    Raises:
        ParameterError: too few members or samples, or sigma or alpha out of range.
        ModelError, DataError: see `phalanx.evaluation.request.check_models`.
        NonFiniteError: a member returned NaN or infinite logits.
    """
    members = len(ensemble.members)
    _check(members, samples)
    check_models(list(ensemble.members), dataset, indices, sigma)  # type: ignore[arg-type]
    table = prediction.radius_table(samples - samples // 2, sigma=sigma, alpha=alpha)
    subsets = [
        law.member_subsets(members, k, MOST_SUBSETS, noise_key(seed, PHASE, "subsets", k))
        for k in range(1, members + 1)
    ]
    stream = NormalStream(noise_key(seed, PHASE, "margins"), ensemble.classes - 1)
    normals = stream.rows(GAUSSIAN_DRAWS).double()
    normals = normals[normals.norm(dim=1) > 0]
    looked = []
    for done, index in enumerate(indices, 1):
        x = dataset.images([index])[0]
        logits = collect(ensemble, x, sigma, samples, seed, image=index)
        looked.append(_look(index, logits, subsets, normals, table))
        if progress is not None:
            progress(done, len(indices))
    return CorrelationReport(
        members=members,
        images=len(looked),
        samples=samples,
        sigma=sigma,
        alpha=alpha,
        zeta_noise=_mean([image.zeta_noise for image in looked]),
        zeta_members=_mean([image.zeta_members for image in looked]),
        zeta_of_image={image.index: image.zeta_noise for image in looked},
        pairs=_pair_range(looked),
        largest_radius=float(table[-1]),
        rows=[_mean_row([image.rows[k] for image in looked]) for k in range(members)],
        law=law_of(
            [[p for image in looked for p in image.predicted[k]] for k in range(members)],
            [[c for image in looked for c in image.counts[k]] for k in range(members)],
            table,
            sigma=sigma,
            alpha=alpha,
        ),
    )


@dataclass(frozen=True)
class _Image:
    """One image's share of the report; ``predicted`` and ``counts`` by k and choice of members."""

    index: int
    zeta_noise: float | None
    zeta_members: float | None
    pairs: Tensor
    rows: list[SizeRow]
    predicted: list[list[float]]
    counts: list[list[int]]


def _look(
    index: int, logits: Tensor, subsets: list[list[Choice]], normals: Tensor, table: np.ndarray
) -> _Image:
    """Predict from the first half of the draws, measure on the second."""
    first, second = logits.tensor_split([logits.shape[1] // 2], dim=1)
    label = int(first.mean(0).argmax(-1).bincount(minlength=logits.shape[-1]).argmax())
    z = law.margins(first, label)
    zeta = law.zeta_noise(z)
    draws, lengths = prediction.gaussian_draws(z, normals), normals.norm(dim=1)
    rows, every_p, every_count = [], [], []
    for k, choices in enumerate(subsets, 1):
        measured = law.variance_ratio(law.margins(second, label), choices)
        known = zeta is not None and measured is not None
        theory = law.variance_law(zeta, k) if zeta is not None else None
        counts = [_count(second, choice, label) for choice in choices]
        # Where noise moves no margin the draws are zero, and their scale is of no consequence.
        scale = 1.0 if theory is None else max(theory, 0.0)
        means = [z[list(choice)].mean((0, 1)) for choice in choices]
        gaussian = [prediction.gaussian_success(mean, draws, lengths, scale) for mean in means]
        every_p.append(gaussian)
        every_count.append(counts)
        bounds = [prediction.chebyshev_bound(z[list(choice)].mean(0)) for choice in choices]
        rows.append(
            SizeRow(
                k=k,
                variance=measured if known else None,
                variance_theory=theory if known else None,
                success=float(np.mean(counts)) / second.shape[1],
                success_gaussian=float(np.mean(gaussian)),
                success_chebyshev=float(np.mean(bounds)),
                radius=float(table[counts].mean()),
                radius_predicted=float(
                    np.mean([prediction.expected_radius(p, table) for p in gaussian])
                ),
            )
        )
    pairs = law.pair_correlations(z)
    return _Image(index, zeta, law.zeta_members(z), pairs, rows, every_p, every_count)


def _count(logits: Tensor, choice: Choice, label: int) -> int:
    """Draws on which the mean of the chosen members' logits gives ``label``."""
    return int((logits[list(choice)].mean(0).argmax(-1) == label).sum())


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of the numbers that exist; None if none does."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _mean_row(rows: Sequence[SizeRow]) -> SizeRow:
    return SizeRow(
        k=rows[0].k,
        variance=_mean([row.variance for row in rows]),
        variance_theory=_mean([row.variance_theory for row in rows]),
        success=float(np.mean([row.success for row in rows])),
        success_gaussian=float(np.mean([row.success_gaussian for row in rows])),
        success_chebyshev=float(np.mean([row.success_chebyshev for row in rows])),
        radius=float(np.mean([row.radius for row in rows])),
        radius_predicted=float(np.mean([row.radius_predicted for row in rows])),
    )


def _pair_range(looked: Sequence[_Image]) -> tuple[float, float] | None:
    """Smallest and largest correlation of a pair, each averaged over the images that have it."""
    matrix = torch.stack([image.pairs for image in looked]).nanmean(0)
    members = len(matrix)
    pairs = matrix[tuple(torch.triu_indices(members, members, offset=1))]
    pairs = pairs[~pairs.isnan()]
    return (float(pairs.min()), float(pairs.max())) if len(pairs) else None


def _check(members: int, samples: int) -> None:
    if members < 2:
        raise ParameterError(
            f"a correlation report on {members} model",
            why="members are compared with one another, so it needs at least two",
            repair="name more models, or a folder of checkpoints",
        )
    if samples < LEAST_SAMPLES:
        raise ParameterError(
            f"{samples} noise samples per image",
            why=f"below {LEAST_SAMPLES} a correlation is mostly chance",
            repair="--samples 1000",
        )
