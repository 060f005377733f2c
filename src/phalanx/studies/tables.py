"""A study's tables: ours with the published figure below, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from phalanx.reporting.formatting import (
    count,
    cut,
    percent,
    percent_of_runs,
    signed,
    signed_interval,
)
from phalanx.reporting.table import Cell, Table
from phalanx.runs.query import radius_key
from phalanx.studies.results import Envelope, Row
from phalanx.studies.steps import Setting


def tables(setting: Setting, found: Sequence[Row], envelopes: Sequence[Envelope]) -> list[Table]:
    """A table and its paired differences for every noise level, and the best of all levels."""
    result = []
    for sigma in dict.fromkeys(row.sigma for row in found):
        same = [row for row in found if row.sigma == sigma]
        result.append(_accuracies(setting, sigma, same))
        if paired := [row for row in same if row.minus]:
            result.append(_differences(setting, sigma, paired))
        if explained := [row for row in same if row.diagnosis]:
            result.append(_diagnoses(sigma, explained))
    if setting.study.envelope and envelopes:
        result.append(_envelopes(setting, envelopes))
    return result


def _accuracies(setting: Setting, sigma: float, found: Sequence[Row]) -> Table:
    radii = setting.study.radii
    seeds = max(len(row.seeds) for row in found)
    images, n = count(found[0].summaries[0].images), count(setting.scale.n)
    spread = f", mean and standard deviation over {seeds} seeds" if seeds > 1 else ""
    return Table(
        title=f"{setting.study.name}, sigma {sigma:g}: {images} images, n = {n}{spread}",
        columns=("method", "epochs", "ACR", *(f"r = {radius_key(radius)}" for radius in radii)),
        rows=tuple(_accuracy_row(row, radii) for row in found),
        note=_accuracies_note(found),
    )


def _accuracies_note(found: Sequence[Row]) -> str:
    note = "Below each figure the published one, if there is one for this very setting."
    caps = sorted({cut(row.cap, 3) for row in found if row.cap is not None})
    return note + (f" These n can give radii up to {' or '.join(caps)}." if caps else "")


def _accuracy_row(row: Row, radii: Sequence[float]) -> tuple[Cell, ...]:
    curve = row.published
    acr = [summary.average_certified_radius or 0.0 for summary in row.summaries]
    cited = "" if curve is None or curve.acr is None else f"{curve.acr:.3f}"
    cells = [Cell(_mean(acr), cited)]
    for radius in radii:
        rates = [summary.at(radius).value for summary in row.summaries]
        known = None if curve is None else curve.certified.get(radius)
        cells.append(Cell(percent_of_runs(rates), "" if known is None else percent(known)))
    epochs = str(row.trained.get("epochs", ""))
    return (Cell(row.title, "published" if curve else ""), Cell(epochs), *cells)


def _mean(values: Sequence[float]) -> str:
    """The mean, cut to three digits, with the standard deviation where there are several.

    >>> _mean([1.0, 3.0]), _mean([0.99999])
    ('2.000±1.414', '0.999')
    """
    mean = cut(fmean(values))
    return mean if len(values) == 1 else f"{mean}±{stdev(values):.3f}"


def _differences(setting: Setting, sigma: float, found: Sequence[Row]) -> Table:
    radii = setting.study.radii
    return Table(
        title=f"Paired differences, sigma {sigma:g}",
        columns=("method", "minus", "seed", "ACR", *(f"r = {radius_key(r)}" for r in radii)),
        rows=tuple(line for row in found for line in _difference_rows(row)),
        note=(
            "Percentage points (ACR: input units) with 95% paired bootstrap intervals over images;"
            " one that contains 0 decides nothing."
        ),
    )


def _difference_rows(row: Row) -> list[tuple[Cell, ...]]:
    lines = []
    for seed, pair in row.minus.items():
        _, _, gained, limits = pair.average_certified_radius
        cells = [Cell(signed(gained), signed_interval(*limits))]
        for one in pair.rows:
            limit = signed_interval(*one.interval, 1, scale=100)
            cells.append(Cell(signed(one.difference, 1, scale=100), limit))
        lines.append((Cell(row.title), Cell(row.other), Cell(str(seed)), *cells))
    return lines


FIGURES = ("zeta", "cosine", "transfer", "margin", "gradient", "sufficient")
"""Of a `phalanx.studies.results.diagnosis`, in the order of the columns."""


def _diagnoses(sigma: float, found: Sequence[Row]) -> Table:
    rows = []
    for row in found:
        notes = list(row.diagnosis.values())
        cells = [Cell(_mean_of([note.get(figure) for note in notes])) for figure in FIGURES]
        gains = zip(*(note["gain"] for note in notes), strict=True)
        rows.append((Cell(row.title), *cells, *(Cell(_mean_of(gain)) for gain in gains)))
    return Table(
        title=f"Why: what the members have in common, sigma {sigma:g}",
        columns=("method", *FIGURES, "gain predicted", "measured"),
        rows=tuple(rows),
        note=(
            "Estimates by `phalanx diagnose`, means over images: zeta, the correlation of the"
            " members' margins over noise; cosine of their margin gradients; transfer, the share"
            " of attacks on one member that mislead another; margin, gradient and sufficient"
            " radius of DRT's conditions for the decision; average radius of all members over"
            " that of one, as zeta predicts it and as it was."
        ),
    )


def _mean_of(values: Sequence[Any]) -> str:
    """As `_mean`, to three digits; nothing where one is missing.

    >>> _mean_of([0.25]), _mean_of([{"tight": 1.0, "paper": 0.5}]), _mean_of([0.25, None])
    ('0.250', '1.000', '')
    """
    numbers = [value["tight"] if isinstance(value, Mapping) else value for value in values]
    return "" if None in numbers else _mean(numbers)


def _envelopes(setting: Setting, found: Sequence[Envelope]) -> Table:
    radii = setting.study.radii
    rows = []
    for one in found:
        cells = []
        for radius in radii:
            known = None if one.published is None else one.published.certified.get(radius)
            cited = "" if known is None else percent(known)
            cells.append(Cell(percent(one.certified[radius][0]), cited))
        rows.append((Cell(one.title, "published" if one.published else ""), *cells))
    return Table(
        title="The best noise level at every radius",
        columns=("method", *(f"r = {radius_key(radius)}" for radius in radii)),
        rows=tuple(rows),
        note="No classifier has such a curve: the noise level is chosen with the very images.",
    )


def sources(found: Sequence[Row]) -> list[str]:
    """Where the published figures were read, and what to be careful about."""
    curves = [row.published for row in found if row.published]
    return list(dict.fromkeys(f"Published: {c.source}. {c.caution}".strip() for c in curves))
