"""Certify every image of a data set: joins models, data, the engine and the run store.

The only writer of certify rows. A sweep is made of keyed chunks: it can be killed, resumed,
shared by several processes and recomputed, always with the same counts.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phalanx.data.thumbnails import thumbnail
from phalanx.errors import DataError
from phalanx.evaluation.decisions import Decisions
from phalanx.evaluation.request import Request, bank_of, engine_of
from phalanx.runs.claims import owner_id
from phalanx.runs.schema import (
    ESTIMATION,
    BallotRecord,
    CertificateRecord,
    ChunkRecord,
    Counts,
    SampleRecord,
    SlopeRecord,
)
from phalanx.runs.slopes import packed, unpacked
from phalanx.runs.store import RunStore
from phalanx.runtime.device import full_precision
from phalanx.smoothing.certificate import Certificate, certify_rule, failed
from phalanx.smoothing.engine import Counted, Work
from phalanx.smoothing.higher_order.certificate import certify_slope
from phalanx.smoothing.higher_order.replay import halves_of_ballots
from phalanx.smoothing.higher_order.slope import Halves
from phalanx.smoothing.stopping import Chunk, Evidence, Votes, cut
from phalanx.smoothing.threads import ThreadTrials
from phalanx.smoothing.tuning import halved

BATCH = "batch"
"""Note of a run that ran out of memory: the rows of its passes from then on."""
HEARTBEAT_SECONDS = 15.0
WAIT_SECONDS = 0.5

Progress = Callable[[int, int], None]
"""Called with (rows counted since the last call, images finished since the last call)."""


@dataclass
class _Image:
    """An image being counted: the votes of every classifier by chunk, and what it still needs."""

    x: Tensor
    counted: dict[tuple[str, int], Sequence[Counts]]
    missing: set[tuple[str, int]] = field(default_factory=set)
    started: float = field(default_factory=time.perf_counter)

    def votes(self, classifier: int) -> Votes:
        """What one classifier said in the chunks of each phase, up to the first that is missing."""
        found: dict[str, list[Counts]] = {}
        for (phase, chunk), counts in sorted(self.counted.items()):
            parts = found.setdefault(phase, [])
            if chunk == len(parts):
                parts.append(counts[classifier])
        return found


class Sweep:
    """Certifies the images of a request into a store, beside any other process that does.

    Args:
        request: settled, and the run's store (see `phalanx.evaluation.request.open_run`).
        progress: told of every forward pass and of every image.
        deadline: ``time.monotonic()`` after which no further image is started, or None; one is
            answered however short the time.
    """

    def __init__(
        self,
        request: Request,
        store: RunStore,
        progress: Progress | None = None,
        deadline: float | None = None,
    ) -> None:
        config = request.config
        self.request, self.store, self.config = request, store, config
        self.progress = progress or (lambda rows, images: None)
        self.deadline = deadline
        self.arithmetic = request.arithmetic
        self.decisions = Decisions(config, request.classifiers, self.arithmetic.charge)
        self.owner = owner_id()
        self._active: dict[int, _Image] = {}
        self._queue: deque[Work] = deque()
        self._beat = time.monotonic()
        self._answered = 0

    def run(self) -> None:
        """Work until every image of the request is certified, here or by another process.

        Raises:
            RunError: the run counted another image, or another machine works on it.
        """
        self._recognise()
        bank = bank_of(self.request)
        self._engine = engine_of(self.request, bank, self.store.get_meta(BATCH))
        try:
            with full_precision(bank.device), ThreadTrials(bank.device) as self._threads:
                self._work()
        finally:
            self.store.release(self.owner)

    def _work(self) -> None:
        while True:
            try:
                for counted in self._engine.run(self._next_work, self._passed):
                    self._commit(counted)
            except torch.OutOfMemoryError:
                self._shrink()
                continue
            if self._all_done() or self._late():
                return
            time.sleep(WAIT_SECONDS)  # another process holds the last images; it may die

    def _shrink(self) -> None:
        """Go on in smaller batches, with new counts of every image that was begun.

        All counts of an image come from passes of one shape. The noise stays what it was.
        """
        bank, before = self._engine.bank, self._engine.batch
        batch = halved(bank, self.request.dataset.card.shape, before)
        self.store.set_meta(BATCH, batch)
        self._engine = engine_of(self.request, bank, batch)
        self._queue.clear()
        for index, image in list(self._active.items()):
            if not self.store.forget_counts(index, self.owner):
                del self._active[index]
                continue
            image.counted.clear()
            self._advance(index)

    def _passed(self, rows: int) -> None:
        self._threads.passed()
        self.progress(rows, 0)
        if time.monotonic() - self._beat > HEARTBEAT_SECONDS:
            self.store.heartbeat(self.owner)
            self._beat = time.monotonic()

    def _all_done(self) -> bool:
        return set(self.request.indices) <= self.store.finished()

    def _late(self) -> bool:
        over = self.deadline is not None and time.monotonic() > self.deadline
        return over and self._answered > 0

    def _next_work(self) -> Work | None:
        while not self._queue:
            if self._late():
                return None
            claimed = self.store.claim(self.request.indices, self.owner)
            if not claimed:
                return None
            self._start(claimed[0])
        return self._queue.popleft()

    def _start(self, index: int) -> None:
        try:
            x = self._load(index)
        except DataError as error:
            self._store_certificates(index, [self._failed(str(error))] * len(self._names()))
            return
        self._active[index] = _Image(x, self._stored(index))
        self._advance(index)

    def _load(self, index: int) -> Tensor:
        dataset = self.request.dataset
        x = dataset.images([index])[0]
        low, high = dataset.card.value_range
        if not bool(torch.isfinite(x).all()):
            raise DataError(f"image {index} holds NaN or infinite values")
        inside = x.min() >= x.new_tensor(low) and x.max() <= x.new_tensor(high)
        if not inside:
            raise DataError(f"image {index} has values outside {low} .. {high}")
        if self.arithmetic.lattice is not None and self.arithmetic.on_grid:
            self.arithmetic.lattice.require(x)
        small = thumbnail(x, dataset.card.value_range)
        sample = SampleRecord(index, self.request.label(index), small, _digest(x))
        self.store.add_samples([sample])
        return x

    def _recognise(self) -> None:
        """See that the images a run has finished are those asked for, which nobody loads again.

        Raises:
            RunError: one is another image.
        """
        dataset, known = self.request.dataset, self.store.digests().keys() & self.store.finished()
        asked = [
            SampleRecord(
                index, self.request.label(index), digest=_digest(dataset.images([index])[0])
            )
            for index in sorted(known.intersection(self.request.indices))
        ]
        self.store.add_samples(asked)

    def _stored(self, index: int) -> dict[tuple[str, int], Sequence[Counts]]:
        """Chunks of an image that every classifier has counted, in an earlier sitting.

        None in a run whose batch has changed: they may be of the shape before.
        """
        if self.store.get_meta(BATCH) is not None:
            self.store.forget_counts(index, self.owner)
            return {}
        found: defaultdict[tuple[str, int], dict[str, Counts]] = defaultdict(dict)
        for record in self.store.chunks(index):
            found[record.phase, record.chunk][record.classifier] = record.counts
        names = [classifier.name for classifier in self.decisions.voters]
        return {
            key: [counts[name] for name in names]
            for key, counts in found.items()
            if len(counts) == len(names)
        }

    def _advance(self, index: int) -> None:
        """Queue the chunks an image still needs; certify it when every classifier has enough."""
        image = self._active[index]
        votes = [image.votes(place) for place in range(len(self.decisions.voters))]
        decisions = self.decisions.decide(index, votes, self.request.label(index))
        conclusions = [found for found in decisions if isinstance(found, Evidence)]
        if len(conclusions) == len(decisions):
            self._certify(index, conclusions)
            return
        wanted = {chunk for found in decisions if isinstance(found, list) for chunk in found}
        queued = [c for c in sorted(wanted) if (c.phase, c.index) not in image.counted]
        image.missing = {(chunk.phase, chunk.index) for chunk in queued}
        self._queue.extend(Work(index, chunk, image.x) for chunk in queued)

    def _commit(self, counted: Counted) -> None:
        index, chunk = counted.image, counted.chunk
        ballots = self._ballot_records(counted)
        self.store.commit_chunks(self._chunk_records(index, chunk, counted.counts), ballots)
        image = self._active[index]
        image.counted[chunk.phase, chunk.index] = counted.counts
        image.missing.discard((chunk.phase, chunk.index))
        if not image.missing:
            self._advance(index)

    def _chunk_records(self, index: int, chunk: Chunk, counts: Sequence[Any]) -> list[ChunkRecord]:
        return [
            ChunkRecord(classifier.name, index, chunk.phase, chunk.index, chunk.rows, votes)
            for classifier, votes in zip(self.decisions.voters, counts, strict=True)
        ]

    def _ballot_records(self, counted: Counted) -> list[BallotRecord]:
        """Which row cast which vote, of the samples that bound a slope."""
        (phase, chunk, _), cast = counted.chunk, counted.ballots
        if cast is None or phase != ESTIMATION:
            return []
        return [
            BallotRecord(classifier.name, counted.image, phase, chunk, packed(votes))
            for classifier, votes in zip(self.decisions.voters, cast, strict=True)
        ]

    def _certify(self, index: int, conclusions: Sequence[Evidence]) -> None:
        config, image = self.config, self._active.pop(index)
        sigma, alpha = config.sigma, config.alpha
        halves: Sequence[Halves] = []
        if config.slope:
            halves = self._halves(index, image, conclusions)
            certificates = [
                certify_slope(evidence, noise, sigma=sigma, alpha=alpha, share=config.slope)
                for evidence, noise in zip(conclusions, halves, strict=True)
            ]
        elif config.double:
            certificates = config.certified_twice(conclusions)
        else:
            certificates = [
                certify_rule(
                    evidence,
                    config.radius_rule,
                    sigma=sigma,
                    alpha=alpha,
                    ball=config.ball,
                    charge=self.arithmetic.charge,
                    arithmetic=self.arithmetic.name,
                    covers=self.arithmetic.covers,
                )
                for evidence in conclusions
            ]
        shared = {"seconds": time.perf_counter() - image.started}
        if more := self._details(index):
            certificates = [replace(c, details={**c.details, **more}) for c in certificates]
        self._store_certificates(index, certificates, halves, **shared)

    def _details(self, index: int) -> dict[str, Any]:
        """What an image's certificates rest on beside their counts."""
        found: dict[str, Any] = {}
        if (drawn := self.decisions.drawn(index)) is not None:
            found["drawn"] = drawn
        if self._engine.batch != (self.config.batch or 1):
            found["batch"] = self._engine.batch
        return found

    def _halves(self, index: int, image: _Image, conclusions: Sequence[Evidence]) -> list[Halves]:
        """Of the noise of an image's estimation, for the class that each classifier selected."""
        cast: defaultdict[Chunk, list[NDArray[np.int32]]] = defaultdict(list)
        stored = {(one.classifier, one.chunk): one.ballots for one in self.store.ballots(index)}
        for chunk in cut(ESTIMATION, self.config.n, self.config.chunk):
            for classifier in self.decisions.voters:
                cast[chunk].append(unpacked(stored[classifier.name, chunk.index]))
        ballots = {chunk: np.stack(votes) for chunk, votes in cast.items()}
        labels = [evidence.label for evidence in conclusions]
        return halves_of_ballots(self._engine, index, image.x.numel(), ballots, labels)

    def _store_certificates(
        self,
        index: int,
        certificates: Sequence[Certificate],
        halves: Sequence[Halves] = (),
        **shared: Any,
    ) -> None:
        """Write what is proven for an image; ``shared`` are values of all its records."""
        label = self.request.label(index)
        records = [
            replace(_record(name, index, label, certificate), **shared)
            for name, certificate in zip(self._names(), certificates, strict=True)
        ]
        noise = [
            SlopeRecord(name, index, *astuple(one))
            for name, one in zip(self._names(), halves, strict=False)
        ]
        self.store.commit_certificates(records, noise)
        self._answered += 1
        self.progress(0, 1)

    def _failed(self, reason: str) -> Certificate:
        config = self.config
        return failed(reason, sigma=config.sigma, alpha=config.alpha, norm=config.norm)

    def _names(self) -> list[str]:
        return [classifier.name for classifier in self.request.classifiers]


def _digest(x: Tensor) -> str:
    """SHA-256 hex of an image's float32 values in row-major order."""
    return sha256(x.contiguous().numpy().tobytes()).hexdigest()


def _record(
    name: str, index: int, label: int | None, certificate: Certificate
) -> CertificateRecord:
    correct = None if label is None else certificate.predicted == label
    return CertificateRecord(
        classifier=name,
        image=index,
        verdict=certificate.verdict,
        predicted=certificate.predicted,
        correct=correct,
        radius=certificate.radius,
        n_a=certificate.n_a,
        n=certificate.n,
        p_lower=certificate.p_lower,
        reason=certificate.reason,
        details=certificate.details,
    )
