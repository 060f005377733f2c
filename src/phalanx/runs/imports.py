"""A published log becomes a run, so that every question to a run can be put to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from phalanx.errors import ParameterError
from phalanx.runs.arithmetic import largest_radius
from phalanx.runs.provenance import digest_of, environment, file_digest, utc_now
from phalanx.runs.schema import CertificateRecord, ClassifierRecord, Manifest, SampleRecord
from phalanx.runs.store import RunStore
from phalanx.runs.tsv import LogRow, read_log
from phalanx.verdicts import Verdict

KIND = "import"


def import_log(
    path: Path,
    out: Path | None,
    sigma: float,
    n: int,
    alpha: float,
    *,
    n0: int = 100,
    name: str | None = None,
    data: str | None = None,
) -> RunStore:
    """Import the field's TSV as a run of Cohen et al.'s certificate.

    The published radius string is kept. Rows without counts cannot be rechecked; where the log
    gives a range of counts, the smallest is kept, which claims least.

    Args:
        path: the log.
        out: run folder to make (or to join, with the same log); None for a run in memory.
        sigma, n, alpha, n0: what the log was made with; the log does not say.
        name: of the classifier; default the file's stem.
        data: name of the data set, if known.

    Raises:
        RunError: the log contradicts itself; the message names the line.
        ParameterError: sigma, n, n0 or alpha outside their ranges.
    """
    _check(sigma, n, alpha, n0)
    path = Path(path)
    rows = read_log(path)
    identity = {"source": path.name, "sha256": file_digest(path)}
    record = ClassifierRecord(name or path.stem, identity, digest_of(identity), primary=True)
    config = {
        "sigma": sigma,
        "n": n,
        "n0": n0,
        "alpha": alpha,
        "certificate": "neyman-pearson",
        "bound": "clopper-pearson",
        "norm": "l2",
        "arithmetic": "real",
    }
    manifest = Manifest(
        kind=KIND,
        command=f"phalanx runs import {path.name}",
        config=config,
        classifiers=(record,),
        data={} if data is None else {"name": data},
        environment=environment(),
        created=utc_now(),
    )
    store = RunStore.create(out, manifest)
    store.add_samples([SampleRecord(row.image, row.label) for row in rows])
    store.commit_certificates([_certificate(record.name, row, n) for row in rows])
    return store


def beyond_cap(rows: Sequence[LogRow] | Sequence[CertificateRecord], cap: float) -> list[int]:
    """Images whose published radius exceeds what n and alpha can give, even rounded up.

    Such a log was not made with these parameters.
    """
    return [
        row.image
        for row in rows
        if row.radius_text is not None and float(row.radius_text) > _rounded_up(cap)
    ]


def _rounded_up(cap: float) -> float:
    """The cap as three published digits could show it."""
    return max(cap, float(f"{cap:.3}"))


def _certificate(name: str, row: LogRow, n: int) -> CertificateRecord:
    return CertificateRecord(
        classifier=name,
        image=row.image,
        verdict=Verdict.ABSTAINED if row.predicted is None else Verdict.VERIFIED,
        predicted=row.predicted,
        correct=row.correct,
        radius=row.radius,
        n_a=row.n_a,
        n=None if row.n_a is None else row.n or n,
        seconds=row.seconds,
        radius_text=row.radius_text,
    )


def _check(sigma: float, n: int, alpha: float, n0: int) -> None:
    if not (math.isfinite(sigma) and sigma > 0):
        raise ParameterError(f"sigma {sigma} is no noise level", why="it is finite and above 0")
    if n < 1 or n0 < 1 or n < n0:
        raise ParameterError(f"n {n} and n0 {n0}", why="1 <= n0 <= n")
    largest_radius(n, alpha, sigma)  # refuses alpha outside (0, 1)
