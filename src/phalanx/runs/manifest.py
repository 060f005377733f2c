"""``run.json``: reading, writing and comparing manifests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from phalanx.errors import ConfigurationError, RunError
from phalanx.runs.files import write_atomically
from phalanx.runs.provenance import canonical_json, digest_of
from phalanx.runs.schema import SCHEMA_VERSION, ClassifierRecord, Manifest

FILE_NAME = "run.json"
TEMPORARY_PREFIX = f".{FILE_NAME}."
ATTACK = "attack"
"""Kind of a run whose records say what an attack found (`phalanx.runs.attacked`)."""

BOUNDS = "bounds"
"""Kind of a run whose certificates are deterministic (`phalanx.runs.bounded`)."""


def manifest_json(manifest: Manifest) -> dict[str, Any]:
    """The manifest as JSON values (tuples become lists, as they will be read back)."""
    value: dict[str, Any] = json.loads(canonical_json(asdict(manifest)))
    return value


def manifest_from_json(value: Any, source: Path | str) -> Manifest:
    """The manifest of JSON values.

    Raises:
        RunError: something is missing, misspelt, or newer than this version of phalanx.
    """
    if not isinstance(value, dict) or not isinstance(value.get("schema"), int):
        raise RunError(f"{source} is not a run's manifest", why="it has no schema version")
    if value["schema"] > SCHEMA_VERSION:
        raise RunError(
            f"{source} was written by a newer phalanx (schema {value['schema']})",
            why=f"this version reads schemas up to {SCHEMA_VERSION}",
            repair="upgrade phalanx",
        )
    known = {field.name for field in fields(Manifest)}
    try:
        classifiers = tuple(ClassifierRecord(**record) for record in value["classifiers"])
        kept = {key: item for key, item in value.items() if key in known}
        return Manifest(**kept | {"classifiers": classifiers})
    except (TypeError, KeyError) as error:
        raise RunError(f"{source} is not a run's manifest", why=str(error)) from error


def read_manifest(folder: Path) -> Manifest:
    """Read ``folder/run.json``.

    Raises:
        RunError: there is none, or it is not one.
    """
    path = folder / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
        return manifest_from_json(json.loads(text), path)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{folder} is not a run", why=f"there is no {FILE_NAME} in it", repair="name a run"
        ) from None
    except ValueError as error:
        raise RunError(f"{path} is damaged", why=str(error)) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``folder/run.json`` whole or not at all."""
    text = json.dumps(manifest_json(manifest), indent=1, allow_nan=False) + "\n"
    write_atomically(folder / FILE_NAME, text.encode("utf-8"))


def identity(manifest: Manifest) -> dict[str, Any]:
    """What must agree before two commands may share a run."""
    return {
        "kind": manifest.kind,
        "config": manifest.config,
        "classifiers": {record.name: record.digest for record in manifest.classifiers},
        # A one-line summary speaks of the primary one, and a notebook takes results in order.
        "order": [record.name for record in manifest.classifiers],
        "primary": [record.name for record in manifest.classifiers if record.primary],
        "data": manifest.data,
    }


def identity_digest(manifest: Manifest) -> str:
    """SHA-256 of `identity`."""
    return digest_of(identity(manifest))


def differences(stored: Manifest, asked: Manifest) -> list[str]:
    """Every field of the identities that differs, as ``field: stored -> asked``.

    >>> one = Manifest("certify", "", {"sigma": 0.25, "n": 1000}, ())
    >>> two = Manifest("certify", "", {"sigma": 0.5, "n": 1000}, ())
    >>> differences(one, two)
    ['config.sigma: 0.25 -> 0.5']
    """
    old, new = (dict(_flat(json.loads(canonical_json(identity(m))))) for m in (stored, asked))
    absent = "(absent)"
    return [
        f"{key}: {old.get(key, absent)} -> {new.get(key, absent)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, absent) != new.get(key, absent)
    ]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, json.dumps(value)


def require_same(stored: Manifest, asked: Manifest, where: Path | str) -> None:
    """Refuse to join a run that was made of something else.

    Raises:
        ConfigurationError: with every difference.
    """
    found = differences(stored, asked)
    if found:
        raise ConfigurationError(
            f"the run in {where} was made with another configuration",
            why="stored -> asked: " + "; ".join(found),
            repair="ask for the stored values, or give another --out",
        )


def require_certifying(manifest: Manifest, where: Path | str | None) -> None:
    """Refuse the run of an attack where certificates are asked for.

    Raises:
        RunError: it is one.
    """
    if manifest.kind == ATTACK:
        raise RunError(
            f"{where or 'the run'} is a run of attacks, which certifies nothing",
            repair=f"phalanx runs show {where or 'RUN'}",
        )
