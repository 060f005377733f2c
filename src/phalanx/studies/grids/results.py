"""What a grid found, beside what was published; read from its runs, as far as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from phalanx.reporting.published.deterministic import PublishedCell, cell
from phalanx.runs.query import summarise
from phalanx.runs.store import RunStore
from phalanx.studies.grids.grid import SMOOTHING
from phalanx.studies.grids.steps import Entry, GridSetting, entries
from phalanx.studies.steps import is_certified
from phalanx.verdicts import Verdict


@dataclass(frozen=True)
class Figure:
    """One entry of a grid, measured.

    Attributes:
        entry: which.
        images: that were certified.
        clean: share that is answered rightly.
        certified: share that is answered rightly everywhere in the ball; None of a search.
        falsified: share of right answers for which a counterexample was run; None of a search.
        radius: average certified radius in the entry's norm; None unless it was searched for.
        seconds: mean of an image.
        published: by others, on a network of the same layers; None where there is nothing.
    """

    entry: Entry
    images: int
    clean: float
    certified: float | None
    falsified: float | None
    radius: float | None
    seconds: float
    published: PublishedCell | None

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        known = self.published
        return {
            **vars(self.entry),
            "images": self.images,
            "clean_accuracy": self.clean,
            "certified_accuracy": self.certified,
            "falsified": self.falsified,
            "average_radius": self.radius,
            "seconds": self.seconds,
            "published": None if known is None else vars(known),
        }


def grid_figures(setting: GridSetting) -> list[Figure]:
    """Every figure whose run is finished."""
    found = []
    for entry in entries(setting):
        folder = setting.run(entry)
        if is_certified(folder, setting.images[1]):
            with RunStore.open(folder) as run:
                found.append(_figure(setting, entry, run))
    return found


def _figure(setting: GridSetting, entry: Entry, run: RunStore) -> Figure:
    smoothed = setting.grid.methods[entry.method].method == SMOOTHING
    eps = entry.eps
    # A ball of l_inf lies in one of l2, sqrt(d) times as large; one of l1 in one as large.
    reach = eps if eps is None or entry.norm != "linf" else eps * math.sqrt(setting.pixels)
    asked = reach if smoothed else eps
    summary = summarise(run, run.manifest.classifiers[0].name, [] if asked is None else [asked])
    records = list(run.certificates())
    wrong = [r for r in records if r.verdict is Verdict.FALSIFIED and r.correct]
    return Figure(
        entry=entry,
        images=summary.images,
        clean=fmean(bool(record.correct) for record in records),
        certified=None if asked is None else summary.at(asked).value,
        falsified=None if eps is None or smoothed else len(wrong) / len(records),
        radius=summary.average_certified_radius if eps is None else None,
        seconds=fmean(record.seconds or 0.0 for record in records),
        published=published(setting, entry, setting.grid.methods[entry.method].published),
    )


def published(setting: GridSetting, entry: Entry, methods: Sequence[str]) -> PublishedCell | None:
    """The literature's figures for an entry, under the first of these names that has any.

    A network of theirs was certified at the one radius that it was trained for.
    """
    grid = setting.grid
    network = grid.networks[entry.network].published
    training = grid.trainings[entry.training].published
    if entry.norm != "linf":
        return None
    found = (cell(grid.data, network, training, method) for method in methods)
    known = next((one for one in found if one is not None), None)
    if known is None or entry.eps is None or math.isclose(entry.eps, known.eps):
        return known
    return None


@dataclass(frozen=True)
class Best:
    """The most that one kind of certificate gives at a radius, over networks and trainings.

    Attributes:
        norm, eps: where.
        kind: ``bounds`` or ``smoothing``.
        figure: the best one.
    """

    norm: str
    eps: float
    kind: str
    figure: Figure


def best_of_kinds(setting: GridSetting, found: Sequence[Figure]) -> list[Best]:
    """Bounds beside smoothing at every radius that both speak of."""
    result = []
    wheres = {(one.entry.norm, one.entry.eps) for one in found if one.entry.eps is not None}
    for norm, eps in sorted(wheres):
        same = [one for one in found if (one.entry.norm, one.entry.eps) == (norm, eps)]
        kinds: dict[str, list[Figure]] = {}
        for one in same:
            smoothed = setting.grid.methods[one.entry.method].method == SMOOTHING
            kinds.setdefault("smoothing" if smoothed else "bounds", []).append(one)
        if len(kinds) == 2:
            for kind in sorted(kinds):
                most = max(kinds[kind], key=lambda one: (one.certified or 0.0, -one.seconds))
                result.append(Best(norm, eps, kind, most))
    return result
