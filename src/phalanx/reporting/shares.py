"""How large p_A is, classifier by classifier, from the counts a run stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from phalanx.reporting.distribution import vote_shares
from phalanx.reporting.formatting import count, cut, percent
from phalanx.reporting.table import Cell, Table
from phalanx.runs.radius_law import share_quantiles
from phalanx.runs.store import RunStore

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class ShareRow:
    """n_A / n of one classifier over its images with known counts.

    Attributes:
        classifier: its name in the run.
        images: number of images with counts.
        quantiles: at `LEVELS`.
        half: share of images on which n_A / n is at most one half: never certified.
        unanimous: share of images on which every vote agrees: only more samples could help.
    """

    classifier: str
    images: int
    quantiles: Sequence[float]
    half: float
    unanimous: float


@dataclass(frozen=True)
class Shares:
    """The rows, one a classifier, in the run's order."""

    rows: Sequence[ShareRow]

    def as_dicts(self) -> list[dict[str, Any]]:
        """JSON values."""
        return [{**asdict(row), "levels": list(LEVELS)} for row in self.rows]

    def table(self) -> Table:
        """One line a classifier."""
        levels = tuple(f"{level:.0%}" for level in LEVELS)
        return Table(
            "p_A from stored counts",
            ("n_A / n at quantile", *levels, "at most ½ %", "unanimous %", "images"),
            tuple(
                (
                    Cell(row.classifier),
                    *(Cell(cut(value, 4)) for value in row.quantiles),
                    Cell(percent(row.half)),
                    Cell(percent(row.unanimous)),
                    Cell(count(row.images)),
                )
                for row in self.rows
            ),
        )


def shares_of(store: RunStore) -> Shares | None:
    """The distribution of n_A / n of every classifier; None where no counts are known."""
    rows = []
    for classifier in store.manifest.classifiers:
        found = vote_shares(store.certificates(classifier.name))
        if found:
            rows.append(_row(classifier.name, np.concatenate(list(found.values()))))
    return Shares(rows) if rows else None


def _row(name: str, values: np.ndarray) -> ShareRow:
    return ShareRow(
        classifier=name,
        images=values.size,
        quantiles=share_quantiles(values, LEVELS),
        half=float((values <= 0.5).mean()),
        unanimous=float((values == 1).mean()),
    )
