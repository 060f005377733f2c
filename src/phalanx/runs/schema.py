"""The records of a run: plain values, no torch, no SQL.

A *run* is a folder. `Manifest` is its ``run.json``; the other records are rows of
``records.sqlite``. Votes are stored, not only radii, so that every certificate can be
recomputed by anybody who has the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from phalanx.verdicts import Verdict

SCHEMA_VERSION = 1
SELECTION = "selection"
ESTIMATION = "estimation"
SECOND_LAW = "second-law"
"""Phase of the samples under the second law of double sampling."""
INVALID = -1
"""Key under which votes with NaN or infinite logits are counted: a miss, never a class."""

Counts = Mapping[int, int]
"""Votes by class index (absent = 0), plus `INVALID` where logits were not finite."""


@dataclass(frozen=True)
class ClassifierRecord:
    """One base classifier of the run: a member alone, or members under a reducer.

    Attributes:
        name: unique in the run and shown in tables: ``"member-0"``, ``"mean"``, ...
        identity: everything that makes it this classifier and no other: member digests in
            order, reducer and its options, dtype, folding, fusing, source names. JSON values only.
        digest: SHA-256 hex of the canonical JSON of ``identity``.
        primary: the classifier a one-line summary of the run speaks of.
    """

    name: str
    identity: Mapping[str, Any]
    digest: str
    primary: bool = False


@dataclass(frozen=True)
class Manifest:
    """``run.json``: what was asked, of what, on what.

    ``config`` decides every count and radius (sigma, n, n0, alpha, seed, chunk, batch,
    noise, precision, ...); a run is joined or resumed only under an equal ``config``,
    equal classifier digests and equal data. The rest is provenance.
    """

    kind: str
    command: str
    config: Mapping[str, Any]
    classifiers: tuple[ClassifierRecord, ...]
    data: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    schema: int = SCHEMA_VERSION


@dataclass(frozen=True)
class SampleRecord:
    """One image of the sweep.

    Attributes:
        thumbnail: a PNG small enough to store, or None.
        digest: SHA-256 hex of the input's float32 values in row-major order, or None where it
            is not known: what ties the counts to this image and no other.
    """

    image: int
    label: int | None = None
    thumbnail: bytes | None = None
    digest: str | None = None


@dataclass(frozen=True)
class ChunkRecord:
    """Votes of one classifier on one chunk of noise; the unit of work and of commit."""

    classifier: str
    image: int
    phase: str
    chunk: int
    rows: int
    counts: Counts


@dataclass(frozen=True)
class BallotRecord:
    """Which row of a chunk cast which vote: what a statistic of the noise is made from.

    Attributes:
        ballots: little-endian int32, one a row, compressed by zlib.
    """

    classifier: str
    image: int
    phase: str
    chunk: int
    ballots: bytes


@dataclass(frozen=True)
class SlopeRecord:
    """Two halves of the noise behind the votes that were not for the class of a certificate.

    Attributes:
        n1, n2: all rows of each half.
        norm1, norm2, product: squared norms and inner product of the sums of standard normals.
    """

    classifier: str
    image: int
    n1: int
    n2: int
    norm1: float
    norm2: float
    product: float


@dataclass(frozen=True)
class CertificateRecord:
    """What is proven for one image and one classifier.

    ``radius`` is float64, rounded towards zero, 0.0 when abstained and None on an error.
    ``radius_text`` is the published string of an imported row. ``n_a`` is None where the
    counts are unknown (imported): such a row cannot be rechecked. ``correct`` is None
    without a label; with one it is False on an error, because an errored sample is not certified.
    ``details`` holds, as JSON values, what else the claim rests on and no count tells: the number
    that a randomised bound drew, or the proof of double sampling (`phalanx.runs.double_sampling`).
    """

    classifier: str
    image: int
    verdict: Verdict
    predicted: int | None
    correct: bool | None
    radius: float | None
    n_a: int | None = None
    n: int | None = None
    p_lower: float | None = None
    seconds: float | None = None
    reason: str = ""
    radius_text: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
