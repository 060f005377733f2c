"""A grid's tables: ways to certify by networks, the published figure below ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from phalanx.reporting.formatting import cut, percent
from phalanx.reporting.published.deterministic import SOURCE, PublishedCell
from phalanx.reporting.table import Cell, Table
from phalanx.studies.grids.results import Best, Figure, best_of_kinds, published
from phalanx.studies.grids.steps import Entry, GridSetting

ABSENT = "-"
NOT_RUN = "not run"
LARGER = "left out"
"""What a grid leaves for a larger machine, or is no method of a network; the note says so."""
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
    setting: GridSetting, found: Sequence[Figure], columns: Sequence[tuple[str, Shown, Known]]
) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    """Titles and rows: a method a row, for every network each of the columns; none is empty."""
    grid, like = setting.grid, found[0].entry
    there = {(one.entry.method, one.entry.network): one for one in found}
    titles = [f"{network} {title}".strip() for network in grid.networks for title, _, _ in columns]
    rows = []
    for method in _methods(setting, like):
        cells, quoted = [], False
        for network in grid.networks:
            entry = replace(like, method=method, network=network)
            one = there.get((method, network))
            source = published(setting, entry, grid.methods[method].published)
            for at, (_, shown, known) in enumerate(columns):
                figure = None if source is None else known(source)
                quoted = quoted or figure is not None
                text = shown(one) if one is not None else _why_not(setting, entry, at)
                cells.append(Cell(text, "" if figure is None else f"{figure:g}"))
        rows.append((Cell(method, "published" if quoted else ""), *cells))
    return ("method", *titles), tuple(rows)


def _methods(setting: GridSetting, like: Entry) -> list[str]:
    """Those that are asked in such a table, of some network."""
    grid = setting.grid
    return [
        name
        for name in grid.methods
        if any(
            grid.goes(name, network, like.training, like.norm, search=like.eps is None)
            for network in grid.networks
        )
    ]


def _why_not(setting: GridSetting, entry: Entry, column: int) -> str:
    """Why there is no figure; said once for each network."""
    grid = setting.grid
    if column:
        return ABSENT
    asked = grid.goes(
        entry.method, entry.network, entry.training, entry.norm, search=entry.eps is None
    )
    return NOT_RUN if asked else LARGER


def _accuracies(setting: GridSetting, training: str, where: str, found: Sequence[Figure]) -> Table:
    columns, rows = _rows(
        setting,
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
        note=f"Percent, seconds an image. Clean accuracy: {said}. {_left(setting)}{quoted}".strip(),
    )


def _left(setting: GridSetting) -> str:
    """What is left out."""
    said = ""
    if setting.scale.networks:
        said = f"At this scale only {', '.join(setting.grid.networks)}. "
    every = set(setting.grid.networks)
    if any(
        m.left_out or (m.networks and every - set(m.networks)) or not isinstance(m.radii, bool)
        for m in setting.grid.methods.values()
    ):
        said += f"{LARGER.capitalize()}: for a larger machine, or networks of another kind. "
    return said


def _unbroken(setting: GridSetting, found: Sequence[Figure]) -> tuple[Cell, ...]:
    """What is left of clean accuracy where any method's search for a counterexample ended well."""
    cells, quoted = [], False
    for network in setting.grid.networks:
        same = [one for one in found if one.entry.network == network]
        if not same:
            cells += [Cell(ABSENT), Cell("")]
            continue
        left = same[0].clean - max(one.falsified or 0.0 for one in same)
        known = published(setting, same[0].entry, (UPPER,))
        quoted = quoted or known is not None
        detail = "" if known is None else f"{_times(known.certified):g}"
        cells += [Cell(_percent(left), detail), Cell("")]
    return (Cell("not broken by an attack", "published" if quoted else ""), *cells)


def _radii(setting: GridSetting, where: str, found: Sequence[Figure]) -> Table:
    columns, rows = _rows(
        setting,
        found,
        (
            ("", lambda one: cut(one.radius or 0.0, 4), lambda p: p.radius),
            ("s", lambda one: f"{one.seconds:.3g}", lambda p: p.radius_seconds),
        ),
    )
    return Table(
        title=f"{setting.grid.name}, {where}: average certified radius",
        columns=columns,
        rows=rows,
        note="Input units, wrong answers count as 0; found by search, every one proven itself. "
        f"{_left(setting)}".strip(),
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
    return "" if value is None else percent(value)


def _times(value: float | None) -> float | None:
    return None if value is None else 100 * value
