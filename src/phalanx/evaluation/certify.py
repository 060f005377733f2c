"""Certify every image of a data set: joins models, data, the engine and the run store.

The only writer of certify rows. A sweep is made of keyed chunks: it can be killed, resumed,
shared by several processes and recomputed, always with the same counts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phalanx.data.dataset import Dataset
from phalanx.data.thumbnails import thumbnail
from phalanx.errors import DataError, ModelError
from phalanx.evaluation.config import CertifyConfig
from phalanx.models.model import Model
from phalanx.models.validate import probe, validate
from phalanx.noise.distributions import distributions
from phalanx.noise.stream import default_generator
from phalanx.runs.claims import owner_id
from phalanx.runs.provenance import environment, utc_now
from phalanx.runs.schema import (
    ESTIMATION,
    SELECTION,
    CertificateRecord,
    ChunkRecord,
    Manifest,
    SampleRecord,
)
from phalanx.runs.store import RunStore
from phalanx.runtime.device import describe_device
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.certificate import Certificate, certify_counts
from phalanx.smoothing.classifiers import BaseClassifier
from phalanx.smoothing.engine import Counted, Engine, Work
from phalanx.smoothing.stopping import Chunk, StoppingRule, rules
from phalanx.smoothing.tuning import fastest_threads, tune
from phalanx.verdicts import Verdict

PROBE_IMAGES = 4
HEARTBEAT_SECONDS = 15.0
WAIT_SECONDS = 0.5

Progress = Callable[[int, int], None]
"""Called with (rows counted since the last call, images finished since the last call)."""


@dataclass(frozen=True)
class Request:
    """What to certify: models that share each forward pass, classifiers read off them, images."""

    models: Sequence[Model]
    classifiers: Sequence[BaseClassifier]
    dataset: Dataset
    indices: Sequence[int]
    config: CertifyConfig
    device: torch.device


def check_request(request: Request) -> None:
    """Refuse, before anything is spent, what could not end in a valid certificate.

    Raises:
        ModelError: training mode, broken weights, wrong number of classes, NaN logits.
        DataError: the data's range, shape or labels do not fit the models.
    """
    check_models(request.models, request.dataset, request.indices)


def check_models(models: Sequence[Model], dataset: Dataset, indices: Sequence[int]) -> None:
    """`check_request` for models that are only to be run under noise."""
    if not indices:
        raise DataError("no images are selected", repair="a larger --limit or a smaller --every")
    x = dataset.images(list(indices[:PROBE_IMAGES]))
    for model in models:
        validate(model)
        _check_fit(model, dataset, indices)
        probe(model, x.to(next((p.device for p in model.parameters()), x.device)))


def _check_fit(model: Model, dataset: Dataset, indices: Sequence[int]) -> None:
    card, (low, high) = dataset.card, model.inputs.range
    if card.value_range[0] < low or card.value_range[1] > high:
        raise DataError(
            f"data set {card.name!r} has values from {card.value_range[0]} to"
            f" {card.value_range[1]}, and {model.card.name} expects {low} to {high}",
            repair="declare the model's range with --input-range, or rescale the data",
        )
    if model.inputs.shape is not None and tuple(model.inputs.shape) != tuple(card.shape):
        raise DataError(
            f"data set {card.name!r} has inputs of shape {tuple(card.shape)},"
            f" and {model.card.name} expects {tuple(model.inputs.shape)}"
        )
    if card.classes is not None and card.classes > model.classes:
        raise ModelError(
            f"{model.card.name} has {model.classes} classes,"
            f" and data set {card.name!r} has {card.classes}",
            repair="declare the right number with --classes",
        )
    highest = int(dataset.labels(indices).max()) if dataset.labelled else 0
    if highest >= model.classes:
        raise DataError(
            f"data set {card.name!r} has the label {highest}",
            why=f"{model.card.name} has {model.classes} classes, 0..{model.classes - 1}",
            repair="declare the right number with --classes, or correct the labels",
        )


def settle(request: Request, out: Path | None) -> Request:
    """Fix batch, memory format and generator: as an existing run recorded them, else by tuning."""
    config = request.config
    if out is not None and (out / "run.json").exists():
        with RunStore.open(out) as store:
            return replace(request, config=config.adopting(store.manifest.config))
    layout = Layout(config.precision, fold=config.fold)
    shape = request.dataset.card.shape
    tuned = tune(request.models, shape, layout, request.device, batch=config.batch)
    config = replace(
        config,
        batch=tuned.batch,
        channels_last=tuned.layout.channels_last,
        generator=config.generator or default_generator(request.device),
    )
    return replace(request, config=config)


def bank_of(request: Request) -> MemberBank:
    """The members of a settled request, ready to run."""
    config = request.config
    layout = Layout(config.precision, bool(config.channels_last), config.fold)
    return MemberBank(request.models, layout, request.device)


def engine_of(request: Request, bank: MemberBank) -> Engine:
    """The engine of a settled request."""
    config = request.config
    return Engine(
        bank,
        request.classifiers,
        distributions.get(config.noise)(config.sigma),
        seed=config.seed,
        batch=config.batch or 1,
        generator=config.generator or default_generator(request.device),
    )


def open_run(request: Request, out: Path | None, *, command: str, kind: str) -> RunStore:
    """The run folder of a settled request, made or joined."""
    config = request.config
    arithmetic = Layout(config.precision, fold=config.fold).arithmetic()
    records = tuple(
        classifier.record(request.models, arithmetic, primary=position == 0)
        for position, classifier in enumerate(request.classifiers)
    )
    manifest = Manifest(
        kind=kind,
        command=command,
        config=config.as_dict(),
        classifiers=records,
        data=request.dataset.card.as_dict(),
        environment={**environment(), "device": describe_device(request.device)},
        created=utc_now(),
    )
    return RunStore.create(out, manifest)


@dataclass
class _Image:
    """An image being counted: what it still needs, and since when."""

    x: Tensor
    missing: set[tuple[str, int]]
    started: float = field(default_factory=time.perf_counter)


class Sweep:
    """Certifies the images of a request into a store, beside any other process that does.

    Args:
        request: settled (see `settle`).
        store: from `open_run`.
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
        self.rule: StoppingRule = rules.get(config.stop)(
            n=config.n, n0=config.n0, chunk=config.chunk
        )
        self.owner = owner_id()
        self._active: dict[int, _Image] = {}
        self._queue: deque[Work] = deque()
        self._beat = time.monotonic()
        self._answered = 0

    def run(self) -> None:
        """Work until every image of the request is certified, here or by another process."""
        bank, batch = bank_of(self.request), self.config.batch or 1
        engine = engine_of(self.request, bank)
        try:
            with fastest_threads(bank, self.request.dataset.card.shape, batch):
                self._work(engine)
        finally:
            self.store.release(self.owner)

    def _work(self, engine: Engine) -> None:
        while True:
            for counted in engine.run(self._next_work, self._passed):
                self._commit(counted)
            if self._all_done() or self._late():
                return
            time.sleep(WAIT_SECONDS)  # another process holds the last images; it may die

    def _passed(self, rows: int) -> None:
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
            self._store_certificates(index, [self._failed(str(error))] * self._width(), 0.0)
            return
        self._active[index] = _Image(x, set())
        self._advance(index)

    def _load(self, index: int) -> Tensor:
        dataset = self.request.dataset
        x = dataset.images([index])[0]
        low, high = dataset.card.value_range
        if not bool(torch.isfinite(x).all()):
            raise DataError(f"image {index} holds NaN or infinite values")
        if float(x.min()) < low or float(x.max()) > high:
            raise DataError(f"image {index} has values outside {low} .. {high}")
        small = thumbnail(x, dataset.card.value_range)
        self.store.add_samples([SampleRecord(index, dataset.label(index), small)])
        return x

    def _advance(self, index: int) -> None:
        """Queue the chunks an image still needs; certify it when there are none."""
        image, done = self._active[index], self.store.done_chunks(index)
        wanted = [
            chunk
            for chunk in self.rule.wanted(self.store.tally(index))
            if (chunk.phase, chunk.index) not in done
        ]
        image.missing = {(chunk.phase, chunk.index) for chunk in wanted}
        self._queue.extend(Work(index, chunk, image.x) for chunk in wanted)
        if not wanted:
            self._certify(index)

    def _commit(self, counted: Counted) -> None:
        index, chunk = counted.image, counted.chunk
        self.store.commit_chunks(self._chunk_records(index, chunk, counted.counts))
        missing = self._active[index].missing
        missing.discard((chunk.phase, chunk.index))
        if not missing:
            self._advance(index)

    def _chunk_records(self, index: int, chunk: Chunk, counts: Sequence[Any]) -> list[ChunkRecord]:
        return [
            ChunkRecord(classifier.name, index, chunk.phase, chunk.index, chunk.rows, votes)
            for classifier, votes in zip(self.request.classifiers, counts, strict=True)
        ]

    def _certify(self, index: int) -> None:
        tally, config = self.store.tally(index), self.config
        certificates = [
            certify_counts(
                tally[classifier.name, SELECTION][1],
                tally[classifier.name, ESTIMATION][1],
                sigma=config.sigma,
                alpha=config.alpha,
                bound=config.bound,
                certificate=config.certificate,
            )
            for classifier in self.request.classifiers
        ]
        seconds = time.perf_counter() - self._active.pop(index).started
        self._store_certificates(index, certificates, seconds)

    def _store_certificates(
        self, index: int, certificates: Sequence[Certificate], seconds: float
    ) -> None:
        label = self.request.dataset.label(index)
        self.store.commit_certificates(
            [
                _record(classifier.name, index, label, certificate, seconds)
                for classifier, certificate in zip(
                    self.request.classifiers, certificates, strict=True
                )
            ]
        )
        self._answered += 1
        self.progress(0, 1)

    def _failed(self, reason: str) -> Certificate:
        config = self.config
        return Certificate(
            Verdict.ERROR, None, None, None, 0, None, config.sigma, config.alpha, reason=reason
        )

    def _width(self) -> int:
        return len(self.request.classifiers)


def _record(
    name: str, index: int, label: int | None, certificate: Certificate, seconds: float
) -> CertificateRecord:
    if certificate.verdict is Verdict.ERROR:
        correct: bool | None = False
    else:
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
        seconds=seconds,
        reason=certificate.reason,
    )
