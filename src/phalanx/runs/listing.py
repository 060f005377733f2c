"""The runs in a folder, also those that cannot be read: a listing never hides one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phalanx.errors import PhalanxError, RunError
from phalanx.runs.export import truncated
from phalanx.runs.folder import RECORDS
from phalanx.runs.manifest import ATTACK, FILE_NAME, read_manifest
from phalanx.runs.query import primary, summarise
from phalanx.runs.schema import Manifest
from phalanx.runs.store import RunStore

ABSENT = "–"


@dataclass(frozen=True)
class Entry:
    """One run folder.

    Attributes:
        folder: its path.
        manifest: None where it cannot be read.
        images: certified (or attacked) images of the primary classifier.
        average_certified_radius: None without certificates or labels.
        problem: why the run cannot be read, or nothing.
    """

    folder: Path
    manifest: Manifest | None
    images: int = 0
    average_certified_radius: float | None = None
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        config = self.manifest.config if self.manifest else {}
        return {
            "run": str(self.folder),
            "kind": self.manifest.kind if self.manifest else None,
            "created": self.manifest.created if self.manifest else None,
            "sigma": config.get("sigma"),
            "n": config.get("n"),
            "images": self.images,
            "average_certified_radius": self.average_certified_radius,
            "problem": self.problem or None,
        }

    def cells(self) -> tuple[str, ...]:
        """The row of a table: run, kind, sigma, n, images, ACR, created, problem."""
        values = self.as_json()
        acr = self.average_certified_radius
        figures = (values["sigma"], values["n"], self.images or None)
        return (
            self.folder.name,
            values["kind"] or ABSENT,
            *(ABSENT if value is None else str(value) for value in figures),
            ABSENT if acr is None else truncated(acr, 3),
            values["created"] or ABSENT,
            self.problem,
        )


def list_runs(root: Path) -> list[Entry]:
    """Every folder in ``root`` (or ``root`` itself) that has a manifest, the newest first.

    Raises:
        RunError: there is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise RunError(f"there is no folder {root}", repair="--root FOLDER")
    folders = [root, *(entry for entry in root.iterdir() if entry.is_dir())]
    found = [_entry(folder) for folder in folders if (folder / FILE_NAME).is_file()]
    by_age = sorted(found, key=lambda entry: entry.folder.name)
    return sorted(by_age, key=lambda e: e.manifest.created if e.manifest else "", reverse=True)


def _entry(folder: Path) -> Entry:
    manifest = None
    try:
        manifest = read_manifest(folder)
        if not manifest.classifiers or not (folder / RECORDS).is_file():
            return Entry(folder, manifest)
        with RunStore.open(folder) as store:
            name = primary(manifest).name
            records = store.certificates(name)
            if not records or manifest.kind == ATTACK:
                return Entry(folder, manifest, len(records))
            summary = summarise(store, name, radii=[0.0])
            return Entry(folder, manifest, summary.images, summary.average_certified_radius)
    except PhalanxError as error:
        return Entry(folder, manifest, problem=error.what)
