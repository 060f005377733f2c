"""Work through the points of a data set into a run: claimed some at a time, resumable, shared."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from phalanx.data.dataset import Dataset
from phalanx.data.thumbnails import thumbnail
from phalanx.evaluation.certify import HEARTBEAT_SECONDS, WAIT_SECONDS
from phalanx.runs.claims import owner_id
from phalanx.runs.provenance import environment, utc_now
from phalanx.runs.schema import CertificateRecord, ClassifierRecord, Manifest, SampleRecord
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict

Progress = Callable[[int, int], None]
"""Called with (points finished, points in all)."""


class PointRequest(Protocol):
    """What a sweep over points reads of what is asked."""

    @property
    def dataset(self) -> Dataset:
        """The points."""

    @property
    def indices(self) -> Sequence[int]:
        """Which of them."""

    @property
    def batch(self) -> int:
        """Points taken at a time."""

    @property
    def classifier(self) -> ClassifierRecord:
        """Whose records are written."""

    @property
    def config(self) -> Mapping[str, Any]:
        """What decides every record."""


def open_points(
    request: PointRequest, kind: str, out: Path | None, *, command: str, device: str
) -> RunStore:
    """Make the run of a request, or join it.

    Raises:
        ConfigurationError: ``out`` holds a run of something else; says what differs.
    """
    manifest = Manifest(
        kind=kind,
        command=command,
        config=request.config,
        classifiers=(request.classifier,),
        data=request.dataset.card.as_dict(),
        environment={**environment(), "device": device},
        created=utc_now(),
    )
    return RunStore.create(out, manifest)


class PointSweep:
    """Works through points into a store, beside any other process that does."""

    def __init__(
        self, request: PointRequest, store: RunStore, progress: Progress | None = None
    ) -> None:
        self.points, self.store, self.owner = request, store, owner_id()
        self.progress = progress or (lambda done, points: None)

    def run(self) -> None:
        """Work until every point of the request has a record, here or from another process."""
        wanted = set(self.points.indices)
        self._recognise(wanted & self.store.finished())
        try:
            with self._beating():
                self._work(wanted)
        finally:
            self.store.release(self.owner)

    def _work(self, wanted: set[int]) -> None:
        while True:
            taken = self.store.claim(self.points.indices, self.owner, self.points.batch)
            if taken:
                self.answer(taken)
            done = len(wanted & self.store.finished())
            self.progress(done, len(wanted))
            if done == len(wanted):
                return
            if not taken:
                time.sleep(WAIT_SECONDS)  # another process holds the last ones; it may die

    def _recognise(self, known: set[int]) -> None:
        """See that the points a run has finished are those asked for.

        Raises:
            RunError: one is another point.
        """
        for index in sorted(known):
            self.store.add_samples([self._sample(index, self.points.dataset.images([index])[0])])

    def _sample(self, index: int, x: Tensor) -> SampleRecord:
        dataset = self.points.dataset
        seen = sha256(x.contiguous().numpy().tobytes()).hexdigest()
        small = thumbnail(x, dataset.card.value_range)
        return SampleRecord(index, dataset.label(index), small, seen)

    def answer(self, points: Sequence[int]) -> None:
        """Commit a record for each of the claimed points."""
        raise NotImplementedError

    @contextmanager
    def _beating(self) -> Iterator[None]:
        """Say now and then that the claimed points are worked on: a batch may take minutes."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_SECONDS):
                self.store.heartbeat(self.owner)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _error(self, index: int, reason: str) -> CertificateRecord:
        return CertificateRecord(
            classifier=self.points.classifier.name,
            image=index,
            verdict=Verdict.ERROR,
            predicted=None,
            correct=False,
            radius=None,
            reason=reason,
        )
