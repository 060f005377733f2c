"""Records as rows of SQLite and as JSON objects, and back, without losing a bit."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from operator import index
from typing import Any

from phalanx.errors import RunError
from phalanx.runs.provenance import canonical_json
from phalanx.runs.schema import CertificateRecord, ChunkRecord, Counts, SampleRecord
from phalanx.verdicts import Verdict

CHUNK_COLUMNS = "classifier, image, phase, chunk, rows, counts"
CERTIFICATE_COLUMNS = ", ".join(field.name for field in fields(CertificateRecord))

_VERDICTS = frozenset(Verdict)


def counts_text(counts: Counts) -> str:
    """The one compact JSON text of votes: by class, zeros dropped.

    >>> counts_text({7: 2, 3: 98, 5: 0})
    '{"3":98,"7":2}'
    """
    kept = {str(index(key)): index(counts[key]) for key in sorted(counts) if counts[key]}
    return json.dumps(kept, separators=(",", ":"))


def counts_from_text(text: str) -> dict[int, int]:
    """Votes by class.

    Raises:
        RunError: the stored text is damaged.

    >>> counts_from_text('{"3":98,"7":2}')
    {3: 98, 7: 2}
    """
    try:
        return {int(key): int(value) for key, value in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise RunError(f"stored votes are damaged: {text[:40]!r}", why=str(error)) from error


def chunk_row(record: ChunkRecord) -> tuple[Any, ...]:
    """The row of a chunk, in the order of `CHUNK_COLUMNS`.

    Raises:
        RunError: a negative count, or votes that do not add up to the chunk's rows.
    """
    votes = [index(value) for value in record.counts.values()]
    if any(value < 0 for value in votes) or sum(votes) != record.rows:
        raise RunError(
            f"{describe_chunk(record)}: {sum(votes)} votes for {record.rows} rows of noise",
            why="every row of noise is one vote (non-finite logits vote for INVALID)",
        )
    return (
        record.classifier,
        index(record.image),
        record.phase,
        index(record.chunk),
        index(record.rows),
        counts_text(record.counts),
    )


def chunk_from_row(row: tuple[Any, ...]) -> ChunkRecord:
    """The chunk of a row in the order of `CHUNK_COLUMNS`."""
    classifier, image, phase, chunk, rows, counts = row
    return ChunkRecord(classifier, image, phase, chunk, rows, counts_from_text(counts))


def describe_chunk(record: ChunkRecord) -> str:
    """The chunk's key in words."""
    return (
        f"chunk {record.chunk} of the {record.phase} of image {record.image} "
        f"by {record.classifier!r}"
    )


def certificate_row(record: CertificateRecord) -> tuple[Any, ...]:
    """The row of a certificate, in the order of `CERTIFICATE_COLUMNS`.

    Raises:
        RunError: a radius or bound that is not a finite, non-negative number.
    """
    for name in ("radius", "p_lower"):
        value = getattr(record, name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise RunError(
                f"image {record.image} of {record.classifier!r}: {name} {value} is no {name}",
                why="a certificate holds finite, non-negative numbers",
            )
    return (
        record.classifier,
        index(record.image),
        Verdict(record.verdict).value,
        _optional(index, record.predicted),
        _optional(int, record.correct),
        _optional(float, record.radius),
        _optional(index, record.n_a),
        _optional(index, record.n),
        _optional(float, record.p_lower),
        _optional(float, record.seconds),
        record.reason,
        record.radius_text,
        canonical_json(record.details),
    )


def certificate_from_row(row: tuple[Any, ...]) -> CertificateRecord:
    """The certificate of a row in the order of `CERTIFICATE_COLUMNS`.

    Raises:
        RunError: the stored verdict is none, or its details are damaged.
    """
    values = dict(zip((field.name for field in fields(CertificateRecord)), row, strict=True))
    if values["verdict"] not in _VERDICTS:
        raise RunError(f"the stored verdict of image {values['image']} is {values['verdict']!r}")
    values["verdict"] = Verdict(values["verdict"])
    values["correct"] = _optional(bool, values["correct"])
    values["details"] = _details(values["details"])
    return CertificateRecord(**values)


def _details(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RunError(f"stored details are damaged: {text[:40]!r}", why=str(error)) from error
    if not isinstance(found, dict):
        raise RunError(f"stored details are damaged: {text[:40]!r}")
    return found


def sample_json(record: SampleRecord) -> dict[str, Any]:
    """A sample as a JSON object, without its picture."""
    return {"image": record.image, "label": record.label, "digest": record.digest}


def sample_from_json(value: Mapping[str, Any]) -> SampleRecord:
    """The sample of a JSON object of `sample_json`."""
    return SampleRecord(
        index(value["image"]),
        _optional(index, value["label"]),
        digest=_optional(str, value["digest"]),
    )


def chunk_json(record: ChunkRecord) -> dict[str, Any]:
    """A chunk as a JSON object."""
    return asdict(record) | {"counts": {str(key): n for key, n in sorted(record.counts.items())}}


def chunk_from_json(value: Mapping[str, Any]) -> ChunkRecord:
    """The chunk of a JSON object of `chunk_json`."""
    counts = {int(key): index(n) for key, n in value["counts"].items()}
    return ChunkRecord(**dict(value) | {"counts": counts})


def certificate_json(record: CertificateRecord) -> dict[str, Any]:
    """A certificate as a JSON object; absent numbers are null, floats keep every bit."""
    return asdict(record) | {"verdict": record.verdict.value}


def certificate_from_json(value: Mapping[str, Any]) -> CertificateRecord:
    """The certificate of a JSON object of `certificate_json`."""
    return CertificateRecord(**dict(value) | {"verdict": Verdict(value["verdict"])})


def _optional(convert: Any, value: Any) -> Any:
    return None if value is None else convert(value)
