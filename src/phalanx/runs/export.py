"""Certificates for other tools: the field's TSV, JSON lines, Parquet."""

from __future__ import annotations

import json
from decimal import ROUND_DOWN, Decimal
from pathlib import Path

from phalanx.errors import MissingDependencyError, ParameterError, RunError
from phalanx.runs.files import replacing, write_atomically
from phalanx.runs.provenance import canonical_json
from phalanx.runs.query import require_classifier
from phalanx.runs.rows import certificate_json
from phalanx.runs.schema import CertificateRecord
from phalanx.runs.store import RunStore
from phalanx.runs.tsv import LogRow, log_lines
from phalanx.verdicts import Verdict

FORMATS = ("tsv", "jsonl", "parquet")


def export(
    run: RunStore,
    path: Path,
    form: str,
    *,
    classifier: str | None = None,
    digits: int = 6,
    counts: bool = False,
) -> Path:
    """Write certificates to a file.

    Args:
        run: a store.
        path: the file; replaced whole.
        form: ``tsv`` (one classifier, for the field's scripts), ``jsonl`` or ``parquet``
            (every classifier unless one is named; nothing is lost or rounded).
        classifier: a name in the run; for ``tsv`` the primary one by default.
        digits: of TSV radii after the point; cut, never rounded up.
        counts: add the columns nA and n to the TSV.

    Raises:
        ParameterError: an unknown form, or digits outside 0 .. 17.
        RunError: no such classifier, or a TSV of images without labels.
        MissingDependencyError: Parquet without pyarrow.
        StorageError: the disk refused it.
    """
    if form not in FORMATS:
        raise ParameterError(f"there is no format {form!r}", repair=f"one of {', '.join(FORMATS)}")
    path = Path(path)
    if form == "tsv":
        name = require_classifier(run, classifier)
        lines = log_lines(log_rows(run, name, digits), counts=counts)
        write_atomically(path, ("\n".join(lines) + "\n").encode())
        return path
    if classifier is not None:
        require_classifier(run, classifier)
    records = run.certificates(classifier)
    if form == "jsonl":
        text = "".join(json.dumps(certificate_json(r), allow_nan=False) + "\n" for r in records)
        write_atomically(path, text.encode())
    else:
        _write_parquet(records, path)
    return path


def log_rows(run: RunStore, classifier: str, digits: int = 6) -> list[LogRow]:
    """The rows of a TSV. It knows no errors: an errored image is written as an abstention.

    Raises:
        RunError: an image has no label, which the format cannot say of ``correct``.
    """
    labels = run.labels()
    rows = []
    for line, record in enumerate(run.certificates(classifier), 2):
        label = labels.get(record.image)
        if label is None:
            raise RunError(
                f"image {record.image} has no label",
                why="the TSV's column 'correct' would be wrong, not absent",
                repair="--format jsonl",
            )
        verified = record.verdict is Verdict.VERIFIED
        rows.append(
            LogRow(
                line=line,
                image=record.image,
                label=label,
                predicted=record.predicted if verified else None,
                radius_text=_radius_text(record, digits) if verified else "0.0",
                correct=bool(record.correct),
                seconds=record.seconds,
                n_a=record.n_a,
                n=record.n,
            )
        )
    return rows


def _radius_text(record: CertificateRecord, digits: int) -> str:
    if record.radius_text is not None:
        return record.radius_text
    return truncated(record.radius or 0.0, digits)


def truncated(value: float, digits: int) -> str:
    """The number with ``digits`` after the point, cut: a printed radius claims no more.

    Raises:
        ParameterError: a number of digits outside 0 .. 17.

    >>> truncated(0.99999, 3), truncated(0.25, 3)
    ('0.999', '0.250')
    """
    if not 0 <= digits <= 17:
        raise ParameterError(f"{digits} digits", why="0 to 17 digits follow the point")
    return format(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_DOWN), "f")


def _write_parquet(records: list[CertificateRecord], path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingDependencyError(
            "Parquet needs pyarrow", repair="pip install 'phalanx[frames]', or --format jsonl"
        ) from None
    texts, wholes = ("classifier", "verdict", "reason", "radius_text"), ("image", "predicted")
    kinds = {name: pa.string() for name in texts} | {name: pa.int64() for name in wholes}
    kinds |= {"n_a": pa.int64(), "n": pa.int64(), "correct": pa.bool_()}
    kinds |= {name: pa.float64() for name in ("radius", "p_lower", "seconds")}
    kinds |= {"details": pa.string()}
    rows = [certificate_json(r) | {"details": canonical_json(r.details)} for r in records]
    table = pa.Table.from_pylist(rows, schema=pa.schema(kinds))
    with replacing(path) as stream:
        pq.write_table(table, stream)
