"""A run for a reviewer: one zip of counts, hashes and report, rechecked from the zip alone.

Nothing is unpacked to disk: known names are read from the archive, within size limits, and
become a run in memory. So no path in an archive can lead anywhere.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from phalanx.errors import RunError
from phalanx.runs.files import replacing
from phalanx.runs.folder import ASKED, REPORT
from phalanx.runs.manifest import FILE_NAME, manifest_from_json, manifest_json
from phalanx.runs.rows import (
    certificate_from_json,
    certificate_json,
    chunk_from_json,
    chunk_json,
    sample_from_json,
    sample_json,
)
from phalanx.runs.slopes import slope_from_json, slope_json
from phalanx.runs.store import RunStore

SUMS = "SHA256SUMS"
SAMPLES, COUNTS, CERTIFICATES = "samples.jsonl", "counts.jsonl", "certificates.jsonl"
SLOPES = "slopes.jsonl"
NOTES = "notes.json"
README = "README.txt"
MOST_BYTES = 2 << 30
_MOST_LINE = 1 << 22
_BLOCK = 1 << 20
_BATCH = 1000
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # equal runs make equal archives

_README = """A Phalanx run: what was certified, from which votes.

run.json            what was asked, of which classifiers, on which machine
samples.jsonl       the images and their labels
counts.jsonl        votes by classifier, image, phase and chunk of noise
certificates.jsonl  what is proven from them
report.html         the report
notes.json          how many images were asked for, where time was up before the last of them
SHA256SUMS          SHA-256 of every other file (sha256sum -c SHA256SUMS)

Recheck every certificate from the votes, without weights, data or torch:
    phalanx runs recheck FILE.zip
By hand: the class c with most selection votes (lowest index on a tie); n_A = its estimation
votes of n; p = the one-sided Clopper-Pearson bound, BetaInv(alpha; n_A, n-n_A+1);
radius = sigma * Phi^-1(p), none where p <= 1/2 (Cohen, Rosenfeld and Kolter 2019), with sigma
as float32 where that is smaller, as noise is added in float32. Where run.json has "top": k, the
class is the image's label if it has one, and of k + 1 equal shares it needs more than one.
"""

T = TypeVar("T")


def open_run(path: Path) -> RunStore:
    """Open a run folder, or a bundle as a run in memory.

    Raises:
        RunError: neither of the two, or damaged.
    """
    path = Path(path)
    if path.is_dir():
        return RunStore.open(path)
    if path.is_file() and zipfile.is_zipfile(path):
        return open_bundle(path)
    raise RunError(
        f"{path} is not a run",
        why="it is no folder and no bundle" if path.exists() else "there is nothing of that name",
        repair="phalanx runs list",
    )


def export_bundle(run: RunStore, path: Path, report: str | None = None) -> Path:
    """Write the bundle of a run. Equal runs make equal bytes.

    Args:
        run: a store.
        path: the zip; replaced whole.
        report: the run's report as HTML, None for a bundle without one.

    Raises:
        StorageError: the disk refused it; an earlier file is unchanged.
    """
    path = Path(path)
    sums: list[str] = []
    manifest = json.dumps(manifest_json(run.manifest), indent=1, allow_nan=False) + "\n"
    samples, certificates = run.samples(), run.certificates()
    images = sorted(samples.keys() | {record.image for record in certificates})
    parts: dict[str, Iterable[str]] = {
        README: [_README],
        FILE_NAME: [manifest],
        SAMPLES: (_line(sample_json(sample)) for sample in samples.values()),
        COUNTS: (_line(chunk_json(chunk)) for image in images for chunk in run.chunks(image)),
        CERTIFICATES: (_line(certificate_json(record)) for record in certificates),
    }
    if run.keeps_ballots:
        parts[SLOPES] = (_line(slope_json(record)) for record in run.slopes().values())
    if (asked := run.get_meta(ASKED)) is not None:
        parts[NOTES] = [_line({ASKED: asked})]
    if report is not None:
        parts[REPORT] = [report]
    with replacing(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        for name, texts in parts.items():
            sums.append(f"{_add(archive, name, texts)}  {name}\n")
        _add(archive, SUMS, sums)
    return path


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, allow_nan=False) + "\n"


def _add(archive: zipfile.ZipFile, name: str, texts: Iterable[str]) -> str:
    state = hashlib.sha256()
    entry = zipfile.ZipInfo(name, _LONG_AGO)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    with archive.open(entry, "w", force_zip64=True) as stream:
        for text in texts:
            content = text.encode("utf-8")
            state.update(content)
            stream.write(content)
    return state.hexdigest()


def open_bundle(path: Path, most_bytes: int = MOST_BYTES) -> RunStore:
    """Read a bundle into a run in memory, after checking every hash.

    Args:
        path: the zip.
        most_bytes: unpacked size above which it is refused (an archive can pretend).

    Raises:
        RunError: not a bundle, too large, damaged, or a file that is not the one that was hashed.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path, most_bytes)
    except FileNotFoundError:
        raise RunError(f"there is no bundle {path}") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise RunError(f"{path} is not a bundle, or damaged", why=str(error)) from error


def _read(archive: zipfile.ZipFile, path: Path, most_bytes: int) -> RunStore:
    entries = _checked_entries(archive, path, most_bytes)
    _check_sums(archive, path, entries)
    with archive.open(FILE_NAME) as stream:
        manifest = manifest_from_json(_json(stream.read(_MOST_LINE), path, FILE_NAME), path)
    run = RunStore.create(None, manifest)
    run.add_samples(_records(archive, path, SAMPLES, sample_from_json))
    for chunks in _blocks(_records(archive, path, COUNTS, chunk_from_json)):
        run.commit_chunks(chunks)
    for certificates in _blocks(_records(archive, path, CERTIFICATES, certificate_from_json)):
        run.commit_certificates(certificates)
    if SLOPES in entries:
        for noise in _blocks(_records(archive, path, SLOPES, slope_from_json)):
            run.commit_certificates([], noise)
    if NOTES in entries:
        with archive.open(NOTES) as stream:
            notes = _json(stream.read(_MOST_LINE), path, NOTES)
        if isinstance(notes, dict) and ASKED in notes:
            run.set_meta(ASKED, notes[ASKED])
    return run


def _checked_entries(archive: zipfile.ZipFile, path: Path, most_bytes: int) -> set[str]:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    known = {README, FILE_NAME, SAMPLES, COUNTS, CERTIFICATES, SLOPES, NOTES, REPORT, SUMS}
    foreign = [name for name in names if name not in known]
    missing = known - {README, SLOPES, NOTES, REPORT} - set(names)
    if foreign or missing or len(names) != len(set(names)):
        raise RunError(
            f"{path} is not a bundle of a run",
            why=f"missing: {sorted(missing)}; not expected: {foreign[:3]}",
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise RunError(f"{path} is encrypted", repair="ask for the plain bundle")
    size = sum(entry.file_size for entry in entries)
    if size > most_bytes:
        raise RunError(f"{path} unpacks to {size} bytes", why=f"more than {most_bytes} are refused")
    return set(names)


def _check_sums(archive: zipfile.ZipFile, path: Path, entries: set[str]) -> None:
    with archive.open(SUMS) as stream:
        lines = stream.read(_MOST_LINE).decode("utf-8", errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in sorted(entries - {SUMS}):
        state = hashlib.sha256()
        with archive.open(name) as stream:
            while block := stream.read(_BLOCK):
                state.update(block)
        if sums.get(name) != state.hexdigest():
            raise RunError(
                f"{name} in {path} is not the file that was bundled",
                why=f"its SHA-256 is not the one in {SUMS}",
            )


def _records(
    archive: zipfile.ZipFile, path: Path, name: str, convert: Callable[[Any], T]
) -> Iterator[T]:
    with archive.open(name) as stream:
        for number, line in enumerate(_lines(stream, path, name), 1):
            try:
                yield convert(_json(line, path, f"{name} line {number}"))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise RunError(
                    f"{name} line {number} in {path} is no record", why=str(error)
                ) from error


def _lines(stream: IO[bytes], path: Path, name: str) -> Iterator[bytes]:
    while line := stream.readline(_MOST_LINE):
        if not line.endswith(b"\n"):
            raise RunError(f"{name} in {path} has a line that does not end")
        yield line


def _json(content: bytes, path: Path, name: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{name} in {path} is not JSON", why=str(error)) from error


def _blocks(records: Iterator[T]) -> Iterator[list[T]]:
    block: list[T] = []
    for record in records:
        block.append(record)
        if len(block) == _BATCH:
            yield block
            block = []
    if block:
        yield block
