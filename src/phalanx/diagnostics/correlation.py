"""How alike an ensemble's members are under noise: margins, zeta, variance against size.

Source: Horvath, Mueller, Fischer, Vechev, "Boosting randomized smoothing with variance
reduced classifiers" (ICLR 2022, arXiv 2106.06946), section 4. For a class c the margin of
member l against class i is ``z_i^l = f_c^l(x + eps) - f_i^l(x + eps)``. Averaging k members
that are equally correlated leaves the mean margin alone and shrinks its variance:

    sigma^2(k) / sigma^2(1) = (1 + zeta (k - 1)) / k  ->  zeta  as k grows.

Everything here is a pure function of float64 tensors. Variances are pooled over the classes
i != c (their sum), so one zeta speaks for an image.
"""

from __future__ import annotations

import math
from itertools import combinations
from random import Random

import torch
from torch import Tensor

from phalanx.errors import ParameterError

ROUNDING = 1e-10
"""A standard deviation below this share of the margins' size is rounding, not variance."""


def margins(logits: Tensor, label: int) -> Tensor:
    """Margins of class ``label``: ``(..., classes)`` logits to ``(..., classes - 1)``.

    >>> margins(torch.tensor([3.0, 1.0, 5.0]), 0)
    tensor([ 2., -2.])
    """
    others = [i for i in range(logits.shape[-1]) if i != label]
    return logits[..., label : label + 1] - logits[..., others]


def pooled_covariance(z: Tensor) -> Tensor:
    """Covariance of the members over noise, summed over classes: ``(members, members)``.

    Args:
        z: margins ``(members, samples, classes - 1)``, at least two samples.

    Entry (l, m) is ``sum_i Cov_eps(z_i^l, z_i^m)`` with ``samples - 1`` in the denominator.

    >>> z = torch.tensor([[[1.0], [-1.0]], [[2.0], [-2.0]]], dtype=torch.float64)
    >>> pooled_covariance(z).tolist()
    [[2.0, 4.0], [4.0, 8.0]]
    """
    centred = (z - z.mean(1, keepdim=True)).flatten(1)
    return centred @ centred.T / (z.shape[1] - 1)


def mean_variance(z: Tensor) -> float | None:
    """Variance of one member's margins over noise, averaged over members; None where there is
    none (a constant network, or noise that changes nothing), up to rounding.
    """
    variance = float(pooled_covariance(z).diagonal().mean())
    return variance if variance > _rounding(z) else None


def zeta_noise(z: Tensor) -> float | None:
    """Correlation of two members over noise: mean pair covariance / mean variance.

    With this definition the variance of the mean over all members is *exactly*
    ``mean variance * (1 + zeta (members - 1)) / members``.

    Args:
        z: margins ``(members, samples, classes - 1)``, at least two members.

    Returns:
        A number in ``[-1/(members - 1), 1]``, or None where the margins have no variance:
        a correlation that does not exist is absent, not zero.

    >>> z = torch.tensor([[[1.0], [-1.0], [0.0]], [[1.0], [-1.0], [0.0]]], dtype=torch.float64)
    >>> zeta_noise(z)
    1.0
    >>> zeta_noise(torch.ones(2, 3, 1, dtype=torch.float64)) is None
    True
    """
    variance = mean_variance(z)
    return None if variance is None else _mean_pair(pooled_covariance(z)) / variance


def zeta_members(z: Tensor) -> float | None:
    """Correlation of two members' margins when the members' own means vary as well.

    The paper splits a margin into a clean part, random through training, and a perturbation
    part, random through noise. Members trained from independent seeds have independent clean
    parts, so only the noise correlates them while both parts add variance:

        zeta = mean pair covariance over noise / (mean variance over noise + variance of means).

    The variance of the means is the unbiased one over members, less what it owes to the
    finite number of noise draws, ``(variance - covariance) / samples``, and at least zero.
    """
    variance = mean_variance(z)
    if variance is None:
        return None
    covariance = _mean_pair(pooled_covariance(z))
    spread = float(z.mean(1).var(0, correction=1).sum()) - (variance - covariance) / z.shape[1]
    return covariance / (variance + max(spread, 0.0))


def pair_correlations(z: Tensor) -> Tensor:
    """Pearson correlation over noise of every pair of members: ``(members, members)``.

    NaN marks pairs with a member whose margins do not vary.
    """
    covariance = pooled_covariance(z)
    variance = covariance.diagonal()
    deviation = torch.where(variance > _rounding(z), variance, torch.nan).sqrt()
    return covariance / (deviation[:, None] * deviation[None, :])


def variance_law(zeta: float, members: int) -> float:
    """The theory line ``(1 + zeta (k - 1)) / k`` (section 4 of the paper).

    >>> [round(variance_law(0.5, k), 3) for k in (1, 2, 4)]
    [1.0, 0.75, 0.625]
    """
    return (1.0 + zeta * (members - 1)) / members


def variance_ratio(z: Tensor, choices: list[tuple[int, ...]]) -> float | None:
    """Measured ``sigma^2(k) / sigma^2(1)``: the variance of the mean of the chosen members,
    averaged over the choices, over the mean variance of one member.

    Over *all* choices of k members this equals ``variance_law(zeta_noise(z), k)`` identically,
    so it says something only on draws that did not give zeta.
    """
    variance = mean_variance(z)
    if variance is None:
        return None
    covariance = pooled_covariance(z)
    of_means = [float(covariance[list(c)][:, list(c)].mean()) for c in choices]
    return sum(of_means) / len(of_means) / variance


def member_subsets(members: int, size: int, limit: int, key: int) -> list[tuple[int, ...]]:
    """All subsets of ``size`` members, or ``limit`` different ones drawn with ``key``.

    >>> member_subsets(3, 2, 10, key=0)
    [(0, 1), (0, 2), (1, 2)]
    >>> len(set(member_subsets(20, 10, 5, key=0)))
    5
    """
    if not 1 <= size <= members:
        raise ParameterError(f"{size} of {members} members", why="choose between 1 and all")
    if math.comb(members, size) <= limit:
        return list(combinations(range(members), size))
    draw, chosen = Random(key), set[tuple[int, ...]]()
    while len(chosen) < limit:
        chosen.add(tuple(sorted(draw.sample(range(members), size))))
    return sorted(chosen)


def _rounding(z: Tensor) -> float:
    """The largest variance that rounding alone could give to these margins."""
    return (float(z.abs().max()) * ROUNDING) ** 2


def _mean_pair(covariance: Tensor) -> float:
    """Mean of the entries off the diagonal."""
    members = covariance.shape[0]
    if members < 2:
        raise ParameterError(
            "a correlation of one member", why="it needs at least two", repair="name more models"
        )
    return float((covariance.sum() - covariance.trace()) / (members * (members - 1)))
