"""Studies and grids by name, ready to be carried out."""

from __future__ import annotations

from functools import partial

from phalanx.studies.audits import audit_rows, audit_table
from phalanx.studies.carry_out import Told, Undertaking
from phalanx.studies.grids.results import grid_figures
from phalanx.studies.grids.steps import GridSetting, grid_steps
from phalanx.studies.grids.tables import grid_tables
from phalanx.studies.grids.tables import sources as grid_sources
from phalanx.studies.results import envelopes, rows
from phalanx.studies.steps import Setting, steps
from phalanx.studies.tables import sources, tables


def of_study(setting: Setting) -> Undertaking:
    """A study, certified or audited."""
    tell = _audited if setting.study.audit else _certified
    return Undertaking(
        setting.study.name, setting.scale, setting.seeds, setting.out,
        partial(steps, setting), partial(tell, setting),
    )  # fmt: skip


def of_grid(setting: GridSetting) -> Undertaking:
    """A grid."""
    return Undertaking(
        setting.grid.name, setting.scale, (setting.seed,), setting.out,
        partial(grid_steps, setting), partial(_compared, setting),
    )  # fmt: skip


def _certified(setting: Setting) -> Told:
    found = rows(setting)
    best = envelopes(setting, found)
    texts = [table.text() for table in tables(setting, found, best)]
    texts += ["\n".join(sources(found))] if sources(found) else []
    values = {"rows": [row.as_json(setting.study.radii) for row in found]}
    return values | {"envelopes": [one.as_json() for one in best]}, texts


def _audited(setting: Setting) -> Told:
    found = audit_rows(setting)
    texts = [audit_table(setting, found).text()] if found else []
    return {"rows": [row.as_json() for row in found]}, texts


def _compared(setting: GridSetting) -> Told:
    found = grid_figures(setting)
    texts = [table.text() for table in grid_tables(setting, found)]
    texts += [grid_sources(found)] if grid_sources(found) else []
    return {"figures": [one.as_json() for one in found]}, texts
