"""DRT's conditions at every image of a data set: what they say of members and ensembles.

Margins and gradients are sampled (`phalanx.diagnostics.confidences`), the conditions are closed
forms (`phalanx.diagnostics.conditions`). The class is the one the weighted ensemble gives;
labels are not used. Estimates, never certificates.

The paper proves the max-margin conditions and the comparison with single members for two
members. For more:

* the sufficient condition of the max-margin ensemble is that of its pairs: if for one member i
  the sum of its margin and that of every other is positive, then i and whoever is right with a
  larger margin outvote whoever is wrong. r_suf is therefore the largest over i of the smallest
  pair (i, j). A necessary one does not follow: a third member may save the class.
* the comparison is made for every pair, and for all members as a weighted ensemble, where
  ``|sum w g| / sum w |g|`` takes the place of the angle.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from phalanx.data.dataset import Dataset
from phalanx.diagnostics.conditions import (
    SMOOTHNESS,
    AgainstBase,
    ensemble_against_base,
    smoothness,
    sufficient_radius,
)
from phalanx.diagnostics.confidences import confidences
from phalanx.diagnostics.geometry import Local, Margins, checked_weights
from phalanx.diagnostics.theory_report import (
    ComparisonRow,
    ConditionRow,
    ConditionsReport,
    CosineRow,
)
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import ParameterError
from phalanx.evaluation.request import check_models

Progress = Callable[[int, int], None]
Conditions = dict[str, "_Found"]

WEIGHTED, MAX_MARGIN = "weighted", "max-margin"


def conditions(
    ensemble: Ensemble,
    dataset: Dataset,
    indices: Sequence[int],
    sigma: float,
    samples: int = 200,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> ConditionsReport:
    """Evaluate DRT's conditions and its ensemble-against-base theorem on a data set.

    Args:
        ensemble: at least two members. A ``weighted`` reducer gives the weights of WE; any
            other means equal ones.
        dataset, indices: which inputs; labels are not used.
        sigma: noise level in input units.
        samples: noise draws per image, see `phalanx.diagnostics.confidences.confidences`.
        seed: run seed of the noise.
        progress: told after every image.

    Raises:
        ParameterError: too few members or samples, or sigma out of range.
        ModelError, DataError: see `phalanx.evaluation.request.check_models`.
        NonFiniteError: a member returned NaN or infinite logits or gradients.
    """
    members = len(ensemble.members)
    if members < 2:
        raise ParameterError(
            f"conditions of an ensemble of {members} model", why="they compare members"
        )
    check_models(list(ensemble.models), dataset, indices, sigma)
    weights = _weights_of(ensemble)
    looked = []
    for done, index in enumerate(indices, 1):
        x = dataset.images([index])[0]
        local = confidences(ensemble, x, sigma, samples, seed, image=index, weights=weights)
        looked.append(look(local, weights))
        if progress is not None:
            progress(done, len(indices))
    return ConditionsReport(
        images=len(looked),
        samples=samples,
        sigma=sigma,
        weights=weights,
        smoothness={name: smoothness(sigma, name) for name in SMOOTHNESS},
        rows=[_condition_row([one.conditions[key] for one in looked]) for key in _keys(looked)],
        cosines=[
            _cosine_row(pair, [one.cosines[pair] for one in looked]) for pair in looked[0].cosines
        ],
        comparisons=[
            _comparison_row(*key, [one.comparisons[key] for one in looked])
            for key in looked[0].comparisons
        ],
    )


@dataclass(frozen=True)
class _Found:
    """The conditions of one classifier at one image."""

    name: str
    margin: float
    gradient: float
    sufficient: dict[str, float]
    necessary: dict[str, float | None]
    silent: str = ""


@dataclass(frozen=True)
class _Image:
    conditions: Conditions
    cosines: dict[tuple[int, int], float | None]
    comparisons: dict[tuple[tuple[int, ...], str, str], AgainstBase]


def look(local: Local, weights: Sequence[float]) -> _Image:
    """All conditions at one input."""
    members = len(local.means)
    units = np.eye(members).tolist()
    found = {f"member {i}": _weighted(f"member {i}", local, units[i]) for i in range(members)}
    found[WEIGHTED] = _weighted(WEIGHTED, local, weights)
    found[MAX_MARGIN] = _max_margin(local)
    return _Image(found, _cosines(local, weights), _comparisons(local, weights))


def _weighted(name: str, local: Local, weights: Sequence[float]) -> _Found:
    margins = local.margins(weights)
    # m and g as the radii use them: at the class that limits r_suf, per unit of weight.
    tight = smoothness(local.sigma)
    at = _binding(margins.value, margins.high, tight * margins.weight)
    betas = {name: smoothness(local.sigma, name) for name in SMOOTHNESS}
    return _Found(
        name,
        float(margins.value[at]) / margins.weight,
        float(margins.high[at]) / margins.weight,
        {key: margins.sufficient(beta) for key, beta in betas.items()},
        {key: margins.necessary(beta) for key, beta in betas.items()},
    )


def _binding(value: np.ndarray, gradient: np.ndarray, curvature: float) -> int:
    """The class of the smallest r_suf, or of the smallest margin where one is not positive."""
    if bool((value <= 0).any()):
        return int(value.argmin())
    return int((2 * value / (gradient + np.sqrt(gradient**2 + 4 * curvature * value))).argmin())


def _cosines(local: Local, weights: Sequence[float]) -> dict[tuple[int, int], float | None]:
    """Between the members' margin gradients, at the class that limits the weighted ensemble.

    None where a gradient vanishes. Estimates of inner products may exceed those of lengths.
    """
    margins = local.margins(weights)
    at = _binding(margins.value, margins.high, smoothness(local.sigma) * margins.weight)
    squares = [float(local.squares(member)[at]) for member in range(len(local.means))]
    found: dict[tuple[int, int], float | None] = {}
    for i, j in combinations(range(len(squares)), 2):
        size = math.sqrt(max(squares[i], 0.0) * max(squares[j], 0.0))
        cosine = float(local.products(i, j)[at, at]) / size if size > 0 else None
        found[i, j] = None if cosine is None else min(max(cosine, -1.0), 1.0)
    return found


def _max_margin(local: Local) -> _Found:
    members = len(local.means)
    pairs = {(i, j): local.pair(i, j) for i, j in combinations(range(members), 2)}
    betas = {name: smoothness(local.sigma, name) for name in SMOOTHNESS}
    sufficient, necessary = {}, dict[str, float | None]()
    leader = 0
    for key, beta in betas.items():
        radii = np.full((members, members), np.inf)
        for (i, j), margins in pairs.items():
            radii[i, j] = radii[j, i] = margins.sufficient(beta)
        least = radii.min(1)
        sufficient[key] = float(least.max())
        leader = int(least.argmax())
        necessary[key] = None
        if members == 2:
            needed = pairs[0, 1].necessary(beta)
            stays = min(local.top_two_radius(member, betas["tight"]) for member in range(2))
            # At infinity the condition demands nothing, whoever is in the top two; at 0 the
            # class may already be a member's third.
            necessary[key] = needed if needed == np.inf or needed < stays else None
    silent = "" if members == 2 else "proved for two members only"
    # Shown: the leader's tightest partner.
    partner = min(
        (pairs[min(leader, j), max(leader, j)] for j in range(members) if j != leader),
        key=lambda margins: float(margins.value.min()),
    )
    at = int(partner.value.argmin())
    return _Found(
        MAX_MARGIN,
        float(partner.value.flat[at]) / 2,
        float(partner.high.flat[at]) / 2,
        sufficient,
        necessary,
        silent,
    )


def _comparisons(
    local: Local, weights: Sequence[float]
) -> dict[tuple[tuple[int, ...], str, str], AgainstBase]:
    members = len(local.means)
    units = np.eye(members).tolist()
    alone = [local.margins(unit) for unit in units]
    found: dict[tuple[tuple[int, ...], str, str], AgainstBase] = {}
    for constant in SMOOTHNESS:
        beta = smoothness(local.sigma, constant)
        radii = [one.sufficient(beta) for one in alone]
        for i, j in combinations(range(members), 2):
            base = min(radii[i], radii[j])
            found[(i, j), WEIGHTED, constant] = _against(local, base, beta, (units[i], units[j]))
            found[(i, j), MAX_MARGIN, constant] = _pair_against(local, base, beta, i, j)
        if members > 2:
            scaled = [(np.array(unit) * w).tolist() for unit, w in zip(units, weights, strict=True)]
            kept = [unit for unit in scaled if max(unit) > 0]
            base = min(r for r, w in zip(radii, weights, strict=True) if w > 0)
            every = tuple(range(members))
            found[every, WEIGHTED, constant] = _against(local, base, beta, kept)
    return found


def _against(
    local: Local, base: float, beta: float, parts: Sequence[Sequence[float]]
) -> AgainstBase:
    """The theorem for a weighted ensemble; ``parts`` are its members' rows of weights."""
    whole = local.margins(np.sum(parts, axis=0).tolist())
    each = [local.margins(part) for part in parts]
    lengths = np.sum([one.high for one in each], axis=0)
    # Margins per unit of weight: the premise is about f_i, not about w_i f_i.
    values = np.array([one.value / one.weight for one in each])
    return _compare(base, beta, whole, values, lengths)


def _pair_against(local: Local, base: float, beta: float, i: int, j: int) -> AgainstBase:
    """The theorem for the max-margin ensemble of two."""
    whole = local.pair(i, j)
    units = np.eye(len(local.means)).tolist()
    a, b = local.margins(units[i]), local.margins(units[j])
    shape = whole.value.shape
    values = np.array(
        [np.broadcast_to(a.value[:, None], shape), np.broadcast_to(b.value[None, :], shape)]
    )
    return _compare(base, beta, whole, values, a.high[:, None] + b.high[None, :])


def _compare(
    base: float, beta: float, whole: Margins, values: np.ndarray, lengths: np.ndarray
) -> AgainstBase:
    """The theorem over the watched classes, whose gradients were sampled.

    An angle to the rest is not known, so for the rest the ensemble's own sufficient condition
    takes the theorem's place: what is promised may not exceed it.
    """
    # Sampling may put the length of a sum above the sum of lengths. Where nothing slopes,
    # nothing is gained.
    share = np.divide(whole.high, lengths, out=np.ones_like(whole.high), where=lengths > 0)
    real = whole.real
    found = ensemble_against_base(
        base,
        values[:, real],
        whole.value[real],
        np.minimum(share[real], 1.0),
        beta,
        weight=whole.weight,
    )
    rest = sufficient_radius(whole.value, whole.high, beta, whole.weight)[~real]
    cap = float(rest.min(initial=np.inf))
    return replace(
        found,
        radius=None if found.radius is None else min(found.radius, cap),
        reach=None if found.reach is None else min(found.reach, cap),
    )


def _weights_of(ensemble: Ensemble) -> list[float]:
    members = len(ensemble.members)
    given = ensemble.reducer_options.get("weights") if ensemble.reducer_name == "weighted" else None
    weights = checked_weights([1.0] * members if given is None else given, members)
    return (weights / weights.sum()).tolist()


def _keys(looked: Sequence[_Image]) -> list[str]:
    return list(looked[0].conditions)


def _condition_row(found: Sequence[_Found]) -> ConditionRow:
    return ConditionRow(
        classifier=found[0].name,
        agrees=sum(one.margin > 0 for one in found),
        margin=float(np.mean([one.margin for one in found])),
        gradient=float(np.mean([one.gradient for one in found])),
        sufficient={
            key: float(np.mean([one.sufficient[key] for one in found])) for key in SMOOTHNESS
        },
        necessary={key: _median([one.necessary[key] for one in found]) for key in SMOOTHNESS},
        bounded={key: _bounded([one.necessary[key] for one in found]) for key in SMOOTHNESS},
        silent=found[0].silent,
    )


def _cosine_row(members: tuple[int, int], found: Sequence[float | None]) -> CosineRow:
    known = [value for value in found if value is not None]
    return CosineRow(members, len(known), float(np.mean(known)) if known else None)


def _median(values: Sequence[float | None]) -> float | None:
    """The median of the finite ones; None where there is none."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.median(known)) if known else None


def _bounded(values: Sequence[float | None]) -> int:
    return sum(value is not None and bool(np.isfinite(value)) for value in values)


def _comparison_row(
    members: tuple[int, ...], protocol: str, constant: str, found: Sequence[AgainstBase]
) -> ComparisonRow:
    held = [one for one in found if one.radius is not None]
    factors = [one.factor for one in held if one.factor is not None]
    return ComparisonRow(
        members=members,
        protocol=protocol,
        constant=constant,
        images=len(found),
        held=len(held),
        larger=sum(factor > 1 for factor in factors),
        limit=_median([one.limit for one in held]),
        slack=_median([one.slack for one in held]),
        factor=_median(factors),
        reach=_median([one.reach for one in found]),
        reasons=dict(sorted(Counter(one.reason for one in found if one.reason).items())),
    )
