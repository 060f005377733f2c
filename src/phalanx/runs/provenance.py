"""Where numbers come from: canonical JSON, digests, versions, times and folder names."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from phalanx.errors import ParameterError

PACKAGES = ("phalanx", "torch", "numpy", "scipy")
_BLOCK = 1 << 20


def canonical_json(value: Any) -> str:
    """The one JSON text of ``value``: sorted keys, no spaces, ASCII, tuples as lists.

    Raises:
        ParameterError: the value holds NaN, infinity or something that is not JSON.

    >>> canonical_json({"b": (1, 2), "a": 0.5})
    '{"a":0.5,"b":[1,2]}'
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"a value cannot be written as JSON: {error}",
            why="identities and configurations hold finite numbers, text, lists and mappings only",
        ) from error


def digest_of(value: Any) -> str:
    """SHA-256 hex of the canonical JSON of ``value``; the digest of every identity.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 hex of a file's bytes, read in blocks."""
    state = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def environment() -> dict[str, Any]:
    """Versions and machine, read from installed metadata: no package is imported for it.

    A package that is not installed is absent from ``packages``.
    """
    found = {name: installed_version(name) for name in PACKAGES}
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "processor": cpu_model(),
        "cores": os.cpu_count(),
        "packages": {name: text for name, text in found.items() if text is not None},
    }


def installed_version(package: str) -> str | None:
    """The version that a package's metadata states; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cpu_model() -> str:
    """The processor's name as the system states it, or the machine type where it does not."""
    info = Path("/proc/cpuinfo")
    if sys.platform == "linux" and info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def utc_now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def new_run_folder(name: str, root: Path = Path("runs")) -> Path:
    """A folder name that no earlier run has: ``runs/<name>-<UTC time>-<random>``.

    Nothing is created. Characters of ``name`` that would need quoting become ``-``.
    """
    plain = "".join(c if c.isalnum() or c in "._-" else "-" for c in name).strip("-.") or "run"
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return root / f"{plain}-{moment}-{secrets.token_hex(2)}"
