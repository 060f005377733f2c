"""An attack run as a table."""

from __future__ import annotations

from phalanx.reporting.table import Cell, Table
from phalanx.runs.attacked import AttackSummary, summarise_attack
from phalanx.runs.statistics import Interval
from phalanx.runs.store import RunStore

NOTE = (
    "Accuracy in %, with 95% intervals over points (Clopper-Pearson; bootstrap where the classifier"
    " is random). An attack that finds nothing proves nothing."
)


def attack_table(store: RunStore) -> Table:
    """One row: who was attacked, how, and what is left."""
    config, found = store.manifest.config, summarise_attack(store)
    threat = f"{config['norm']} {config['eps']:.4g}"
    columns = ("classifier", "points", "clean", "robust", "median queries", "median distance")
    row = (
        Cell(found.classifier),
        Cell(str(found.points)),
        _rate(found.clean, found.intervals["clean_accuracy"]),
        _rate(found.robust, found.intervals["robust_accuracy"]),
        _number(found.queries),
        _number(found.distance),
    )
    title = f"{config['attack']} within {threat}"
    return Table(title, columns, (row,), note=" ".join(filter(None, [*_remarks(found), NOTE])))


def _rate(value: float, around: Interval) -> Cell:
    low, high = around
    return Cell(f"{100 * value:.2f}", f"[{100 * low:.1f}, {100 * high:.1f}]")


def _number(value: float | None) -> Cell:
    return Cell("–" if value is None else f"{value:.4g}")


def _remarks(found: AttackSummary) -> list[str]:
    said = []
    parts = {name: count for name, count in found.by.items() if name}
    if parts:
        said.append("Broken by " + ", ".join(f"{n} {count}" for n, count in parts.items()) + ".")
    if found.judged is not None:
        said.append(f"Every answer is estimated from {found.judged} draws.")
    if found.flat:
        said.append(
            f"{100 * found.flat:.1f}% of the points had a gradient that was zero throughout."
        )
    if found.errors:
        said.append(f"{found.errors} points ended in an error and count as not robust.")
    return said
