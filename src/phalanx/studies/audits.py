"""What a study's audits found: a row a method, beside what the papers claim of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from phalanx.reporting.audit import NOTE
from phalanx.reporting.formatting import count, percent_of_runs
from phalanx.reporting.table import Cell, Table
from phalanx.runs.manifest import FILE_NAME
from phalanx.runs.store import RunStore
from phalanx.studies.results import trained_how
from phalanx.studies.steps import Setting

FIGURES = (
    "clean, expected",
    "published style",
    "worst case, expected",
    "worst case, every member right",
    "worst case, averaged",
    "worst case, best member alone",
)


@dataclass(frozen=True)
class AuditRow:
    """A method, by seed.

    Attributes:
        method: its name.
        found: what `phalanx audit` found, for each finished seed.
        trained: how the members were trained.
    """

    method: str
    found: Mapping[int, Mapping[str, Any]]
    trained: Mapping[str, Any]

    def values(self, figure: str) -> list[float]:
        """A figure, seed by seed."""
        return [
            one["value"]
            for found in self.found.values()
            for one in found["figures"]
            if one["name"] == figure
        ]

    @property
    def transfer(self) -> list[float]:
        """Mean transfer of attacks between two members, seed by seed, where there were any."""
        means = []
        for found in self.found.values():
            rates = [
                rate
                for i, row in enumerate(found["transfer"])
                for j, rate in enumerate(row)
                if i != j and rate is not None
            ]
            means += [fmean(rates)] if rates else []
        return means

    @property
    def alarms(self) -> list[str]:
        """Signs that gradients mislead, found under any seed."""
        found = (check for one in self.found.values() for check in one["checks"])
        return list(dict.fromkeys(check["name"] for check in found if check["alarm"]))

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "method": self.method,
            "trained": dict(self.trained),
            "by_seed": {str(seed): dict(found) for seed, found in self.found.items()},
        }


def audit_rows(setting: Setting) -> list[AuditRow]:
    """Every method with a finished audit."""
    study, rows = setting.study, []
    for name, method in study.methods.items():
        for sigma in study.levels_of(name):
            found = {}
            for seed in setting.seeds:
                folder = setting.run(name, sigma, seed)
                if not (folder / FILE_NAME).exists():
                    continue
                with RunStore.open(folder) as run:
                    if (kept := run.get_meta(NOTE)) is not None:
                        found[seed] = kept
            if found:
                models = setting.models(method.training, sigma, next(iter(found)))
                rows.append(AuditRow(name, found, trained_how(models, method)))
    return rows


def audit_table(setting: Setting, rows: list[AuditRow]) -> Table:
    """Accuracy under the study's threat: published style beside the worst that was found."""
    audit = setting.study.audit
    threat = "" if audit is None else f", {audit.norm} {audit.eps:g}"
    seeds = max((len(row.found) for row in rows), default=0)
    spread = f", mean and standard deviation over {seeds} seeds" if seeds > 1 else ""
    images = count(next(iter(rows[0].found.values()))["images"]) if rows else "0"
    return Table(
        title=f"{setting.study.name}{threat}: {images} images{spread}",
        columns=("method", "epochs", *FIGURES, "transfer", "alarms"),
        rows=tuple(
            (
                Cell(row.method),
                Cell(str(row.trained.get("epochs", ""))),
                *(Cell(percent_of_runs(row.values(figure))) for figure in FIGURES),
                Cell(percent_of_runs(row.transfer)),
                Cell(str(len(row.alarms))),
            )
            for row in rows
        ),
        note=(
            "Percent. Expected: one member at random, the exact mean over members. Worst case:"
            " the worst input that any attack found, image by image. Transfer: share of the"
            " attacks on one member that mislead another. Alarms: signs that gradients mislead."
        ),
    )
