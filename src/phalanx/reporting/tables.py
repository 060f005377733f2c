"""The tables of a run: its figures, ensembles against their best member, the literature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from phalanx.errors import RunError
from phalanx.reporting.formatting import (
    ABSENT,
    count,
    cut,
    images_text,
    interval,
    measure,
    percent,
    percent_interval,
    signed,
    signed_interval,
)
from phalanx.reporting.published import PublishedCurve
from phalanx.reporting.table import Cell, Table
from phalanx.runs.bounded import bounded_note
from phalanx.runs.compare import Comparison, Side, compare
from phalanx.runs.manifest import BOUNDS
from phalanx.runs.query import Summary, default_radii, primary, radius_key, summarise
from phalanx.runs.schema import ClassifierRecord
from phalanx.runs.store import RunStore

NARROW, WIDE = 5, 9
INTERVALS = (
    "Certified accuracy in percent of all images, at radius r; in brackets 95% intervals over "
    "images: Clopper-Pearson for rates, bootstrap for the average certified radius (ACR). Claims "
    "are cut, never rounded up."
)


def chosen_radii(store: RunStore, most: int) -> list[float]:
    """The run's usual radii, every second one dropped until at most ``most`` are left."""
    radii = list(default_radii(store))
    while len(radii) > most:
        radii = radii[::2]
    return radii


def summaries(store: RunStore, radii: Sequence[float]) -> list[Summary]:
    """Every classifier that has certificates, the primary one first.

    An empty list means that nothing is certified yet.
    """
    if not store.manifest.classifiers:
        return []
    first = primary(store.manifest).name
    names = sorted((one.name for one in store.manifest.classifiers), key=lambda n: n != first)
    return [summarise(store, name, radii) for name in names if store.certificates(name)]


def summary_table(store: RunStore, radii: Sequence[float] | None = None) -> Table:
    """One row a classifier: rates at radii, ACR, abstentions, errors.

    Args:
        store: a run with at least one certificate.
        radii: in input units; default: at most five of the run's usual ones.

    Raises:
        RunError: nothing is certified yet.
    """
    shown = chosen_radii(store, NARROW) if radii is None else list(radii)
    found = summaries(store, shown)
    if not found:
        raise RunError("nothing is certified yet", repair="run the command again: it continues")
    table = summary_rows(found, shown)
    return replace(table, note=" ".join(filter(None, [table.note, ended_early(store)])))


def ended_early(store: RunStore) -> str:
    """What a run's figures mean whose sampling ended once given radii were decided, or nothing."""
    radii = store.manifest.config.get("radii") or ()
    if store.manifest.kind == BOUNDS:
        return bounded_note(store)
    if not radii:
        return ""
    decided = ", ".join(map(radius_key, radii))
    return (
        f"Sampling ended once the radii {decided} were decided: the ACR and figures at other radii"
        " are lower limits."
    )


def summary_rows(found: Sequence[Summary], radii: Sequence[float]) -> Table:
    """The table of `summary_table` for summaries at hand, the primary one first."""
    labelled = found[0].labelled
    images = images_text((summary.images for summary in found), found[0].images_asked)
    note = (
        INTERVALS
        if labelled
        else INTERVALS.replace("accuracy", "fraction").replace(
            ", bootstrap for the average certified radius (ACR)", ""
        )
    )
    return Table(
        title=f"{measure(labelled, found[0].measured).capitalize()} on {images}",
        columns=(
            "classifier",
            *(_at(radius, labelled) for radius in radii),
            *(["ACR"] if labelled else []),
            "abstained",
            "errors",
        ),
        rows=tuple(_summary_row(summary, radii) for summary in found),
        primary=0,
        note=note,
    )


def _at(radius: float, labelled: bool) -> str:
    return "clean, r = 0" if radius == 0 and labelled else f"r = {radius_key(radius)}"


def _summary_row(summary: Summary, radii: Sequence[float]) -> tuple[Cell, ...]:
    rates = [summary.at(radius) for radius in radii]
    acr = summary.average_certified_radius
    limits = summary.average_certified_radius_interval
    return (
        Cell(summary.classifier),
        *(Cell(percent(r.value), percent_interval(r.low, r.high)) for r in rates),
        *([Cell(cut(acr), interval(*limits) if limits else "")] if summary.labelled else []),
        Cell(count(summary.abstained)),
        Cell(count(summary.errors)),
    )


def is_ensemble(record: ClassifierRecord) -> bool:
    """Whether a classifier combines several members (an imported one never says so)."""
    members: Any = record.identity.get("members", ())
    return isinstance(members, list | tuple) and len(members) > 1


def best_member(store: RunStore, found: Sequence[Summary]) -> str | None:
    """The single member with the largest mean certified radius on these images, if any.

    It is chosen with the very images it is compared on, which favours the member: an ensemble
    that still wins wins cautiously.
    """
    alone = {one.name for one in store.manifest.classifiers if not is_ensemble(one)}
    members = [summary for summary in found if summary.classifier in alone]
    if not members:
        return None
    return max(members, key=lambda s: float(np.maximum(s.certified, 0).mean())).classifier


def comparisons(
    store: RunStore, found: Sequence[Summary], radii: Sequence[float]
) -> list[Comparison]:
    """Every ensemble of the run minus its best member; empty without either."""
    member = best_member(store, found)
    ensembles = {one.name for one in store.manifest.classifiers if is_ensemble(one)}
    if member is None:
        return []
    other = Side.of(store, member, member)
    return [
        compare(Side.of(store, summary.classifier, summary.classifier), other, radii)
        for summary in found
        if summary.classifier in ensembles
    ]


def paired_table(pairs: Sequence[Comparison]) -> Table:
    """Differences a minus b in percentage points and in ACR, one row a comparison.

    All comparisons have the same second side and the same radii.
    """
    if not pairs:
        return Table("Ensemble minus best member", (), ())
    radii = [row.radius for row in pairs[0].rows]
    labelled = pairs[0].measure == "certified_accuracy"
    return Table(
        title=f"Minus {pairs[0].b}, the best member, paired on {count(pairs[0].images)} images",
        columns=("ensemble", *(_at(radius, labelled) for radius in radii), "ACR"),
        rows=tuple(_paired_row(pair) for pair in pairs),
        primary=0,
        note=(
            "Differences in percentage points (ACR: in input units) with 95% paired bootstrap "
            "intervals over images. An interval that contains 0 decides nothing. The member was "
            "picked as the best on these images."
        ),
    )


def _paired_row(pair: Comparison) -> tuple[Cell, ...]:
    _, _, difference, limits = pair.average_certified_radius
    return (
        Cell(pair.a),
        *(
            Cell(signed(row.difference, 1, scale=100), signed_interval(*row.interval, 1, scale=100))
            for row in pair.rows
        ),
        Cell(signed(difference), signed_interval(*limits)),
    )


def published_table(
    ours: Summary, curves: Sequence[PublishedCurve], radii: Sequence[float]
) -> tuple[Table, list[str]]:
    """Our primary classifier in bold above the published figures at the same radii.

    Args:
        ours: summary of labelled images.
        curves: rows of the literature.
        radii: in input units.

    Returns:
        The table, and the numbered sources that its rows point to as ``[1]``, ``[2]``, ...
    """
    sources = list(dict.fromkeys(_source(curve) for curve in curves))
    name, *rates, acr, _, _ = _summary_row(ours, radii)
    mine = (Cell(name.text, "this run"), Cell(count(ours.images)), acr, *rates)
    others = (_published_row(c, radii, sources.index(_source(c)) + 1) for c in curves)
    table = Table(
        title="Published figures beside ours",
        columns=("classifier", "images", "ACR", *(f"r = {radius_key(r)}" for r in radii)),
        rows=(mine, *others),
        primary=0,
    )
    return table, sources


def _source(curve: PublishedCurve) -> str:
    return ". ".join(filter(None, (curve.source, curve.caution))) + "."


def _published_row(curve: PublishedCurve, radii: Sequence[float], source: int) -> tuple[Cell, ...]:
    rates = [curve.certified.get(radius) for radius in radii]
    return (
        Cell(f"{curve.training} [{source}]", curve.network),
        Cell(count(curve.images)),
        Cell(ABSENT if curve.acr is None else f"{curve.acr:.3f}"),
        *(Cell(percent(rate)) for rate in rates),
    )
