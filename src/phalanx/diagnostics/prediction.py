"""What a member's moments say about the ensemble: success probability and radius.

Source: Horvath et al. (ICLR 2022, arXiv 2106.06946), section 4 and appendix A. Estimates
from sampled moments, never certificates.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import binom, chi
from torch import Tensor

from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.radii import radii


def chebyshev_bound(z: Tensor) -> float:
    """``p_A >= 1 - sum_i sigma_i^2 / zbar_i^2``, clipped at 0 (the paper's equation for p_A).

    Args:
        z: margins ``(samples, classes - 1)`` of the classifier in question.

    The mean and the variance are those of the given draws (denominator ``samples``), so the
    share of draws with only positive margins never lies below the bound. A class whose mean
    margin is not positive leaves nothing to bound.

    >>> z = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    >>> chebyshev_bound(z)
    0.75
    >>> chebyshev_bound(-z)
    0.0
    """
    mean, variance = z.mean(0), z.var(0, correction=0)
    if bool((mean <= 0).any()):
        return 0.0
    return max(0.0, 1.0 - float((variance / mean**2).sum()))


def gaussian_draws(z: Tensor, normals: Tensor) -> Tensor:
    """Zero-mean Gaussian margins with a member's mean covariance over noise.

    Args:
        z: margins ``(members, samples, classes - 1)``.
        normals: standard normals ``(draws, classes - 1)``.

    Returns:
        ``(draws, classes - 1)``: ``normals`` times the square root of the ``(classes - 1)^2``
        covariance, averaged over members. The symmetric root exists also for a covariance
        that is singular, as it is when there are more classes than samples.
    """
    centred = z - z.mean(1, keepdim=True)
    covariance = torch.einsum("lni,lnj->ij", centred, centred) / (z.shape[0] * (z.shape[1] - 1))
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(0.0).sqrt() @ vectors.T
    return normals.to(z.dtype) @ root


def gaussian_success(mean: Tensor, draws: Tensor, lengths: Tensor, ratio: float) -> float:
    """Probability that every margin is positive when they are jointly Gaussian.

    All classes count, not the runner-up alone. A normal is a direction and an independent
    length. Along a direction the margins are positive for the lengths in one interval, whose
    probability is known exactly (chi with ``classes - 1`` degrees of freedom), so only
    directions are sampled: failures far rarer than one in the number of draws are still seen.

    Args:
        mean: mean margins ``(classes - 1,)``, which averaging members does not change.
        draws: `gaussian_draws` of one member.
        lengths: norms ``(draws,)`` of the normals the draws were made from.
        ratio: ``sigma^2(k) / sigma^2(1)``, by which averaging k members scales the covariance.

    >>> normals = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    >>> p = gaussian_success(torch.tensor([2.0]), normals, normals.norm(dim=1), 1.0)
    >>> round(p, 4)  # the normal distribution function at 2
    0.9772
    """
    along = ratio**0.5 * draws / lengths[:, None]
    needed = torch.where(along == 0, torch.inf, -mean / along)
    # A margin that falls along the direction ends the interval, one that rises begins it.
    end = torch.where(along < 0, needed, torch.inf).amin(1).clamp_min(0.0)
    begin = torch.where(along > 0, needed, 0.0).amax(1).clamp_min(0.0)
    freedom = draws.shape[1]
    mass = chi.cdf(end.numpy(), freedom) - chi.cdf(begin.numpy(), freedom)
    possible = ((along != 0) | (mean > 0)).all(1).numpy()
    return float(np.where(possible, np.maximum(mass, 0.0), 0.0).mean())


def radius_table(
    samples: int,
    *,
    sigma: float,
    alpha: float,
    bound: str = "clopper-pearson",
    certificate: str = "neyman-pearson",
) -> np.ndarray:
    """Certified radius for every possible count of the right class: float64 ``(samples + 1,)``.

    Zero where the count allows no claim, as an abstention enters an average certified radius.
    """
    lower, radius = bounds.get(bound).lower, radii.get(certificate).radius
    return np.array([radius(lower(k, samples, alpha), sigma) for k in range(samples + 1)])


def expected_radius(success: float, table: np.ndarray) -> float:
    """Mean certified radius when ``n_A ~ Bin(n, success)`` (the paper's radius law).

    >>> expected_radius(1.0, np.array([0.0, 0.0, 2.0]))
    2.0
    >>> expected_radius(0.5, np.array([0.0, 0.0, 2.0]))
    0.5
    """
    counts = np.arange(len(table))
    return float(binom.pmf(counts, len(table) - 1, success) @ table)
