"""A grid's tables: ways to certify by networks, the published figure below ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from phalanx.reporting.formatting import cut
from phalanx.reporting.published.deterministic import SOURCE, PublishedCell
from phalanx.reporting.table import Cell, Table
from phalanx.studies.grids.results import Best, Figure, best_of_kinds, published
from phalanx.studies.grids.steps import GridSetting

ABSENT = "-"
UPPER = "PGD Upper Bound"
"""What the published figures call the accuracy that an attack leaves."""


def grid_tables(setting: GridSetting, found: Sequence[Figure]) -> list[Table]:
    """For every training and radius a table of accuracies, then radii, times, and the best."""
    tables = []
    for training in setting.grid.trainings:
        mine = [one for one in found if one.entry.training == training]
        for norm in dict.fromkeys(one.entry.norm for one in mine):
            here = [one for one in mine if one.entry.norm == norm]
            for eps in dict.fromkeys(one.entry.eps for one in here if one.entry.eps is not None):
                same = [one for one in here if one.entry.eps == eps]
                where = f"{training}, {norm} {eps:.4g}"
                tables.append(_accuracies(setting, training, where, same))
            if searched := [one for one in here if one.entry.eps is None]:
                tables.append(_radii(setting, f"{training}, {norm}", searched))
    if best := best_of_kinds(setting, found):
        tables.append(_best(setting, best))
    return tables


def sources(found: Sequence[Figure]) -> str:
    """Where the published figures were read."""
    return f"Published: {SOURCE}." if any(one.published for one in found) else ""


Shown = Callable[[Figure], str]
Known = Callable[[PublishedCell], float | None]


def _rows(
    found: Sequence[Figure], columns: Sequence[tuple[str, Shown, Known]]
) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    """Titles and rows: a method a row, for every network each of the columns."""
    networks = list(dict.fromkeys(one.entry.network for one in found))
    there = {(one.entry.method, one.entry.network): one for one in found}
    titles = [f"{network} {title}".strip() for network in networks for title, _, _ in columns]
    rows = []
    for method in dict.fromkeys(one.entry.method for one in found):
        cells, quoted = [], False
        for network in networks:
            one = there.get((method, network))
            for _, shown, known in columns:
                figure = None if one is None or one.published is None else known(one.published)
                quoted = quoted or figure is not None
                text = ABSENT if one is None else shown(one)
                cells.append(Cell(text, "" if figure is None else f"{figure:g}"))
        rows.append((Cell(method, "published" if quoted else ""), *cells))
    return ("method", *titles), tuple(rows)


def _accuracies(setting: GridSetting, training: str, where: str, found: Sequence[Figure]) -> Table:
    columns, rows = _rows(
        found,
        (
            ("", lambda one: _percent(one.certified), lambda p: _times(p.certified)),
            ("s", lambda one: f"{one.seconds:.3g}", lambda p: p.seconds),
        ),
    )
    if attacked := [one for one in found if one.falsified is not None]:
        rows = (*rows, _unbroken(setting, attacked))
    clean = {one.entry.network: one.clean for one in found}
    said = ", ".join(f"{name} {_percent(value)}" for name, value in clean.items())
    quoted = setting.grid.trainings[training].quoted
    return Table(
        title=f"{setting.grid.name}, {where}: certified accuracy of {found[0].images} images",
        columns=columns,
        rows=rows,
        note=f"Percent, and seconds an image. Clean accuracy: {said}. {quoted}".strip(),
    )


def _unbroken(setting: GridSetting, found: Sequence[Figure]) -> tuple[Cell, ...]:
    """What is left of clean accuracy where any method's search for a counterexample ended well."""
    cells, quoted = [], False
    for network in dict.fromkeys(one.entry.network for one in found):
        same = [one for one in found if one.entry.network == network]
        left = same[0].clean - max(one.falsified or 0.0 for one in same)
        known = published(setting, same[0].entry, (UPPER,))
        quoted = quoted or known is not None
        detail = "" if known is None else f"{_times(known.certified):g}"
        cells += [Cell(_percent(left), detail), Cell("")]
    return (Cell("not broken by an attack", "published" if quoted else ""), *cells)


def _radii(setting: GridSetting, where: str, found: Sequence[Figure]) -> Table:
    columns, rows = _rows(
        found,
        (
            ("", lambda one: cut(one.radius or 0.0, 4), lambda p: p.radius),
            ("s", lambda one: f"{one.seconds:.3g}", lambda p: None),
        ),
    )
    return Table(
        title=f"{setting.grid.name}, {where}: average certified radius",
        columns=columns,
        rows=rows,
        note="Input units, wrong answers count as 0; found by bisection, every one proven itself.",
    )


def _best(setting: GridSetting, found: Sequence[Best]) -> Table:
    rows = []
    for one in found:
        entry, figure = one.figure.entry, one.figure
        rows.append(
            (
                Cell(f"{one.norm} {one.eps:.4g}"),
                Cell(one.kind),
                Cell(_percent(figure.certified)),
                Cell(_percent(figure.clean)),
                Cell(f"{entry.network}, {entry.training}, {entry.method}"),
                Cell(f"{figure.seconds:.3g}"),
            )
        )
    return Table(
        title="Which approach is better: the most each kind certifies",
        columns=("radius", "kind", "certified", "clean", "network, training, method", "s"),
        rows=tuple(rows),
        note=(
            "The best of all networks and trainings here, chosen with the very images. Smoothing"
            " speaks of the smoothed classifier, with a probability of failure, and of an l_inf"
            " ball only by the l2 ball around it."
        ),
    )


def _percent(value: float | None) -> str:
    return "" if value is None else cut(100 * value, 1)


def _times(value: float | None) -> float | None:
    return None if value is None else 100 * value
