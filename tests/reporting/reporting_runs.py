"""Synthetic runs: random vote counts, certified by the textbook rule, without any network."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import betaincinv, ndtri

from phalanx.runs.provenance import digest_of
from phalanx.runs.schema import (
    ESTIMATION,
    SELECTION,
    CertificateRecord,
    ChunkRecord,
    ClassifierRecord,
    Manifest,
    SampleRecord,
)
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict

SIGMA, N, N0, ALPHA = 0.5, 10_000, 100, 0.001


def png(pixels: np.ndarray) -> bytes:
    """A grey PNG of a uint8 array (H, W)."""
    height, width = pixels.shape
    raw = b"".join(b"\x00" + row.tobytes() for row in pixels)

    def part(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    head = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", zlib.compress(raw)) + part(b"IEND", b"")


def classifier(name: str, members: int, *, primary: bool = False) -> ClassifierRecord:
    identity: dict[str, Any] = {
        "members": [digest_of(f"{name}-{i}") for i in range(members)],
        "reducer": "mean" if members > 1 else None,
    }
    return ClassifierRecord(name, identity, digest_of(identity), primary)


def manifest(
    classifiers: Sequence[ClassifierRecord], data: str = "mnist", **config: object
) -> Manifest:
    return Manifest(
        kind="certify",
        command="phalanx certify runs/three --data mnist --every 20",
        config={
            "sigma": SIGMA,
            "n": N,
            "n0": N0,
            "alpha": ALPHA,
            "seed": 0,
            "certificate": "neyman-pearson",
            "bound": "clopper-pearson",
            **config,
        },
        classifiers=tuple(classifiers),
        data={"name": data, "split": "test", "checksums": {"t10k-images": digest_of(data)}},
        environment={"python": "3.11.2", "packages": {"torch": "2.13.0"}, "device": "cpu"},
        created="2025-01-01T00:00:00+00:00",
    )


def certificate(name: str, image: int, label: int | None, said: int, n_a: int) -> CertificateRecord:
    lower = float(betaincinv(n_a, N - n_a + 1, ALPHA)) if n_a else 0.0
    if lower <= 0.5:
        correct = None if label is None else False
        return CertificateRecord(
            name, image, Verdict.ABSTAINED, None, correct, 0.0, n_a, N, lower, 0.1
        )
    radius = float(SIGMA * ndtri(lower))
    correct = None if label is None else said == label
    return CertificateRecord(
        name, image, Verdict.VERIFIED, said, correct, radius, n_a, N, lower, 0.1
    )


def fill(
    store: RunStore, images: int, *, labelled: bool = True, errors: int = 0, seed: int = 0
) -> None:
    """Random votes: every classifier sees the same difficulty, larger ensembles do better."""
    rng = np.random.default_rng(seed)
    ease = rng.gamma(2.2, 0.62, images) - 0.15
    labels = rng.integers(0, 10, images)
    shapes = [rng.integers(0, 255, (8, 8), dtype=np.uint8) for _ in range(images)]
    store.add_samples(
        SampleRecord(i, int(labels[i]) if labelled else None, png(shapes[i])) for i in range(images)
    )
    for order, record in enumerate(store.manifest.classifiers):
        gain = 0.14 if len(record.identity["members"]) > 1 else -0.03 * order
        margin = ease + gain + rng.normal(0, 0.12, images)
        chunks, rows = [], []
        for i in range(images):
            label = int(labels[i])
            said = (label + 1) % 10 if rng.random() < 0.03 else label
            share = 1 - 0.5 * float(np.exp(-1.2 * max(margin[i], -0.2)))
            n_a = int(rng.binomial(N, min(max(share, 0.0), 0.99999)))
            rest = (said + 3) % 10
            selection, votes = {said: N0}, {said: n_a, rest: N - n_a}
            chunks.append(ChunkRecord(record.name, i, SELECTION, 0, N0, selection))
            chunks.append(ChunkRecord(record.name, i, ESTIMATION, 0, N, votes))
            rows.append(certificate(record.name, i, label if labelled else None, said, n_a))
        for i in range(images - errors, images):
            rows[i] = CertificateRecord(
                record.name,
                i,
                Verdict.ERROR,
                None,
                False if labelled else None,
                None,
                reason="pixels outside 0 .. 1",
            )
        store.commit_chunks(chunks)
        store.commit_certificates(rows)


MakeRun = Callable[..., RunStore]
