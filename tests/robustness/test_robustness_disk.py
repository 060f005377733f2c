"""A disk that fills up while a run is written: a typed error, and the run can be resumed."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import phalanx
from phalanx.data.locate import load
from phalanx.errors import StorageError
from phalanx.models.build import build

IMAGES = 20
LEAST, MOST = 8, 6000
"""KiB: only an empty database fits in the one, the whole run and its log in the other."""


@contextlib.contextmanager
def disk_of(kib: int) -> Iterator[None]:
    """No file can grow beyond ``kib`` KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kib << 10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def certify():
    """Certifies some digits into a folder, in many small commits."""
    model = phalanx.Model(build("mlp", 10, (1, 8, 8), hidden=[8]).eval(), phalanx.InputSpec(), 10)
    digits = load("digits")
    x, y = digits.images(range(IMAGES)), digits.labels(range(IMAGES))

    def certify(out=None):
        options = {"sigma": 0.25, "n": 200, "n0": 20, "chunk": 20, "batch": 64}
        return phalanx.certify(model, x, y, out=out, **options)

    return certify


@pytest.mark.parametrize("points", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_a_full_disk_stops_a_run_and_loses_nothing(certify, tmp_path, points):
    expected, stopped = certify().store.digest(), 0
    for point, kib in enumerate(np.linspace(LEAST, MOST, points).astype(int).tolist()):
        out = tmp_path / str(point)
        error = refused(certify, out, kib)
        stopped += error is not None
        before = acknowledged(out)
        assert certify(out).store.digest() == expected
        assert before <= acknowledged(out)
    assert 0 < stopped < points


def refused(certify, out, kib) -> StorageError | None:
    """What stops a run on a disk of ``kib``, if anything does."""
    try:
        with disk_of(kib):
            certify(out)
    except StorageError as error:
        return error
    return None


def test_the_message_says_what_to_do(certify, tmp_path):
    error = refused(certify, tmp_path / "run", LEAST)
    assert error is not None
    assert "the disk refused a write" in error.what
    assert "run the same command again" in error.repair


def acknowledged(out) -> set:
    """The chunks on record, if it came that far."""
    if not (out / "run.json").exists():
        return set()
    with phalanx.RunStore.open(out) as store:
        return {
            (c.image, c.phase, c.chunk, tuple(sorted(c.counts.items()))) for c in store.chunks()
        }


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
