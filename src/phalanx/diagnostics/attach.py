"""Keeping what was diagnosed: as a note of the run it belongs to, or as a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phalanx.diagnostics.report import CorrelationReport
from phalanx.diagnostics.theory_report import ConditionsReport
from phalanx.diagnostics.transfer import TransferReport
from phalanx.errors import ConfigurationError, StorageError
from phalanx.models.digest import model_identity
from phalanx.models.model import Model
from phalanx.runs.provenance import canonical_json
from phalanx.runs.store import RunStore

NOTE = "correlation"
FILE_NAME = "correlation.json"


@dataclass(frozen=True)
class Diagnosis:
    """What was diagnosed of an ensemble.

    Attributes:
        correlation: always.
        conditions: DRT's, where they were evaluated.
        transfer: of attacks, where they were made.
    """

    correlation: CorrelationReport
    conditions: ConditionsReport | None = None
    transfer: TransferReport | None = None

    def as_note(self) -> dict[str, Any]:
        """What a run keeps: the correlation report, and the others under their names."""
        others = {"conditions": self.conditions, "transfer": self.transfer}
        there = {name: one.as_dict() for name, one in others.items() if one is not None}
        return {**self.correlation.as_dict(), **there}

    def table(self) -> str:
        """All of it as plain text."""
        parts = (self.correlation, self.conditions, self.transfer)
        return "\n\n".join(part.table() for part in parts if part is not None)


def keep(
    found: Diagnosis,
    models: Sequence[Model],
    data: str,
    folder: Path,
) -> Path:
    """Attach the report to the run in ``folder``, or write `FILE_NAME` where there is none.

    Args:
        found: what was found.
        models: the members it speaks of, in order.
        data: name of the data set.
        folder: a run folder, or any folder, which is made.

    Returns:
        The run folder or the file.

    Raises:
        ConfigurationError: the run is about other members, another sigma or other data.
        StorageError: the disk refused.
    """
    if (folder / "run.json").is_file():
        with RunStore.open(folder) as store:
            attach(store, found, models, data)
        return folder
    path = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found.as_note(), indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error}") from error
    return path


def attach(
    store: RunStore,
    found: Diagnosis,
    models: Sequence[Model],
    data: str,
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
            ("another sigma", manifest.config.get("sigma") != found.correlation.sigma),
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
    store.set_meta(NOTE, found.as_note())
