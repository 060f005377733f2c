"""Keeping what was diagnosed: as a note of the run it belongs to, or as a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phalanx.diagnostics.report import CorrelationReport
from phalanx.diagnostics.theory_report import ConditionsReport
from phalanx.errors import ConfigurationError, StorageError
from phalanx.models.digest import model_identity
from phalanx.models.model import Model
from phalanx.runs.provenance import canonical_json
from phalanx.runs.store import RunStore

NOTE = "correlation"
FILE_NAME = "correlation.json"


def as_note(report: CorrelationReport, conditions: ConditionsReport | None) -> dict[str, Any]:
    """What a run keeps: the correlation report, with DRT's conditions under ``"conditions"``."""
    values = report.as_dict()
    return values if conditions is None else {**values, "conditions": conditions.as_dict()}


def keep(
    report: CorrelationReport,
    models: Sequence[Model],
    data: str,
    folder: Path,
    conditions: ConditionsReport | None = None,
) -> Path:
    """Attach the report to the run in ``folder``, or write `FILE_NAME` where there is none.

    Args:
        report: what was found.
        models: the members it speaks of, in order.
        data: name of the data set.
        folder: a run folder, or any folder, which is made.
        conditions: DRT's conditions of the same members, where they were evaluated.

    Returns:
        The run folder or the file.

    Raises:
        ConfigurationError: the run is about other members, another sigma or other data.
        StorageError: the disk refused.
    """
    if (folder / "run.json").is_file():
        with RunStore.open(folder) as store:
            attach(store, report, models, data, conditions)
        return folder
    path = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        note = as_note(report, conditions)
        path.write_text(json.dumps(note, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error}") from error
    return path


def attach(
    store: RunStore,
    report: CorrelationReport,
    models: Sequence[Model],
    data: str,
    conditions: ConditionsReport | None = None,
) -> None:
    """Store the report with a run that certifies these members, so that its HTML shows it.

    Raises:
        ConfigurationError: the run is about other members, another sigma or other data.
    """
    manifest = store.manifest
    members = canonical_json([model_identity(model) for model in models])
    known = {canonical_json(c.identity.get("members")) for c in manifest.classifiers}
    differences = [
        what
        for what, differs in (
            ("other members", members not in known),
            ("another sigma", manifest.config.get("sigma") != report.sigma),
            ("other data", manifest.data.get("name") != data),
        )
        if differs
    ]
    if differences:
        raise ConfigurationError(
            f"the run in {store.folder} is about {', '.join(differences)}",
            why="a correlation report belongs to the run of the ensemble it describes",
            repair="name the run's own models and data, or another --out",
        )
    store.set_meta(NOTE, as_note(report, conditions))
