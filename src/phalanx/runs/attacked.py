"""What an attack run says: robust accuracy, its interval, and by which part points were broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phalanx.errors import RunError
from phalanx.runs.statistics import Interval, bootstrap_mean, clopper_pearson
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict

ATTACK = "attack"
"""Kind of a run that attacks; its records say before, after, distance, queries, seed in details."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AttackSummary:
    """An attack run over its points.

    Attributes:
        classifier: its name.
        points: records, errors among them.
        errors: points that ended in one: they count as not robust.
        clean, robust: accuracy before and after; of a random classifier, expected accuracy.
        intervals: of both, 95% over points: Clopper-Pearson, or bootstrap where a point's value is
            neither 0 nor 1.
        success: share of the points that were right before and are not any more.
        queries, distance: medians, of all points and of those that were broken; None without any.
        by: points broken by each part of the attack.
        flat: share of the points with a gradient that was zero throughout: of masked gradients.
        judged: draws from which each value is estimated; None: it is exact.
    """

    classifier: str
    points: int
    errors: int
    clean: float
    robust: float
    intervals: dict[str, Interval]
    success: float | None
    queries: float | None
    distance: float | None
    by: dict[str, int]
    flat: float
    judged: int | None

    def as_json(self) -> dict[str, Any]:
        """JSON values; an absent number is null."""
        return {
            "classifier": self.classifier,
            "points": self.points,
            "errors": self.errors,
            "clean_accuracy": self.clean,
            "robust_accuracy": self.robust,
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
            "success_rate": self.success,
            "median_queries": self.queries,
            "median_distance": self.distance,
            "broken_by": self.by,
            "flat_gradients": self.flat,
            "judged_by_draws": self.judged,
        }


def summarise_attack(store: RunStore) -> AttackSummary:
    """The summary of a run that attacks.

    Raises:
        RunError: it is another kind of run, or has no record yet.
    """
    if store.manifest.kind != ATTACK:
        raise RunError(f"{store.folder} is a {store.manifest.kind} run, which attacks nothing")
    records = store.certificates()
    if not records:
        raise RunError(f"{store.folder} has no records yet", repair="the same command continues")
    said = [r.details for r in records if r.verdict is not Verdict.ERROR]
    missing = [0.0] * (len(records) - len(said))
    before = np.array([one["before"] for one in said] + missing)
    after = np.array([one["after"] for one in said] + missing)
    right = [one for one in said if one["before"] > 0]
    broken = [one for one in said if one["success"]]
    return AttackSummary(
        classifier=store.manifest.classifiers[0].name,
        points=len(records),
        errors=len(missing),
        clean=float(before.mean()),
        robust=float(after.mean()),
        intervals={"clean_accuracy": interval(before), "robust_accuracy": interval(after)},
        success=len(broken) / len(right) if right else None,
        queries=median([one["queries"] for one in said]),
        distance=median([one["distance"] for one in broken]),
        by=dict(Counter(one["by"] for one in broken)),
        flat=sum(one["flat"] > 0 for one in said) / len(records),
        judged=next((one["judged"] for one in said), None),
    )


def interval(values: Floats) -> Interval:
    """95% over points, of the mean of probabilities: exact where each is 0 or 1.

    >>> low, high = interval(np.array([1.0] * 9 + [0.0]))
    >>> round(low, 4), round(high, 4)
    (0.555, 0.9975)
    """
    if bool(np.isin(values, (0.0, 1.0)).all()):
        return clopper_pearson(int(values.sum()), len(values))
    return bootstrap_mean(values)


def median(values: Sequence[float]) -> float | None:
    """None of nothing.

    >>> median([]), median([1, 3])
    (None, 2.0)
    """
    return float(np.median(values)) if len(values) else None
