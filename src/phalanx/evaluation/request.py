"""`Request`: what is to be certified, checked and settled before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch

from phalanx.data.dataset import Dataset
from phalanx.errors import ConfigurationError, DataError, ModelError
from phalanx.evaluation.arithmetic import Arithmetic, arithmetic_of
from phalanx.evaluation.config import REAL, CertifyConfig
from phalanx.evaluation.decisions import Decisions
from phalanx.models.digest import model_identity
from phalanx.models.model import Model
from phalanx.models.validate import probe, validate
from phalanx.noise.stream import default_generator
from phalanx.runs.manifest import FILE_NAME
from phalanx.runs.provenance import environment, utc_now
from phalanx.runs.schema import SECOND_LAW, Manifest
from phalanx.runs.store import RunStore
from phalanx.runtime.device import describe_device, resolve_device
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.classifiers import BaseClassifier, classifiers_of
from phalanx.smoothing.engine import Engine
from phalanx.smoothing.level import law_of, sigma_of
from phalanx.smoothing.tuning import tune

PROBE_IMAGES = 4
KIND = "certify"
DEFAULT_REDUCERS = ("mean",)
OPEN = ("batch", "channels_last", "generator", "arithmetic", "steps", "split")
"""Fields that a run chooses for itself unless they are asked for."""


@dataclass(frozen=True)
class Request:
    """What to certify: models that share each forward pass, classifiers read off them, images.

    Attributes:
        indices: the images, in the order in which they are taken.
        open: fields of the configuration that were not asked for, so that a run which
            recorded them decides.
    """

    models: Sequence[Model]
    classifiers: Sequence[BaseClassifier]
    dataset: Dataset
    indices: Sequence[int]
    config: CertifyConfig
    device: torch.device
    open: tuple[str, ...] = ()

    def label(self, index: int) -> int | None:
        """Of an image, as the classifiers would say it; None where it has none."""
        label = self.dataset.label(index)
        return None if label is None else self.config.choices.of(label)

    @property
    def arithmetic(self) -> Arithmetic:
        """How noise is added, and what that takes off every certificate."""
        return arithmetic_of(self.config, self.dataset.card)


def request_of(
    models: Sequence[Model],
    dataset: Dataset,
    options: Mapping[str, Any],
    *,
    indices: Sequence[int] | None = None,
    reducer_names: Sequence[str] | None = None,
    reducer_options: Mapping[str, Any] | None = None,
    each: bool = False,
    consensus: int | None = None,
    allow_sigma_mismatch: bool = False,
    device: str = "auto",
) -> Request:
    """A checked request.

    Args:
        models: the members; several are an ensemble before smoothing.
        dataset: what to certify on.
        options: fields of `CertifyConfig`; without ``sigma``, ``noise`` and ``order`` those of the
            models' training are used.
        indices: which images; all of them by default.
        reducer_names: the ensemble under each; default the mean, or none with ``each``.
        reducer_options: options of the first reducer.
        each: also every member alone.
        consensus: K of K-consensus, see `classifiers_of`.
        allow_sigma_mismatch: certify at another level or noise than the models were trained for.
        device: see `resolve_device`.

    Raises:
        ParameterError, ConfigurationError, ModelError, DataError: what, why and the repair.
    """
    if not models:
        raise ModelError("there is no model to certify")
    level = sigma_of(models, options.get("sigma"), allow_mismatch=allow_sigma_mismatch)
    values, classes = prod(dataset.card.shape), models[0].classes
    unset = CertifyConfig(sigma=level, dimension=values, classes=classes)
    noise, order = law_of(
        models, options.get("noise"), options.get("order"), allow_mismatch=allow_sigma_mismatch
    )
    config = unset.with_options({**options, "sigma": level, "noise": noise, "order": order})
    if reducer_names is None:
        reducer_names = () if each and len(models) > 1 else DEFAULT_REDUCERS
    found = classifiers_of(
        len(models),
        reducer_names=reducer_names,
        options=reducer_options,
        each=each,
        consensus=consensus,
    )
    found = [replace(classifier, choices=config.choices) for classifier in found]
    Decisions(config, found)  # what cannot be certified under this configuration is refused now
    chosen = range(len(dataset)) if indices is None else indices
    check_models(models, dataset, chosen, config.sigma)
    undecided = tuple(name for name in OPEN if getattr(config, name) in (None, ()))
    request = Request(models, found, dataset, chosen, config, resolve_device(device), undecided)
    # A radius that no votes give, or a lattice that does not exist, is refused now.
    config.stopping(request.arithmetic.charge)
    return request


def check_models(
    models: Sequence[Model], dataset: Dataset, indices: Sequence[int], sigma: float | None = None
) -> None:
    """Refuse, before anything is spent, what could not end in a valid certificate.

    Args:
        sigma: the noise level the models will run under, see `probe`.

    Raises:
        ModelError: training mode, broken weights, wrong number of classes, NaN logits.
        DataError: no images, or a range, shape or label that does not fit the models.
    """
    if not indices:
        raise DataError("no images are selected", repair="a larger --limit or a smaller --every")
    x = dataset.images(list(indices[:PROBE_IMAGES]))
    for model in models:
        validate(model)
        _check_fit(model, dataset, indices)
        probe(model, x.to(next((p.device for p in model.parameters()), x.device)), sigma)


def _check_fit(model: Model, dataset: Dataset, indices: Sequence[int]) -> None:
    card, (low, high) = dataset.card, model.inputs.range
    if tuple(card.value_range) != (low, high):
        raise DataError(
            f"data set {card.name!r} has values from {card.value_range[0]:g} to"
            f" {card.value_range[1]:g}, and {model.card.name} expects {low:g} to {high:g}",
            why="sigma and radii are in the units of the input, so both must mean the same ones",
            repair=f"--input-range {card.value_range[0]:g} {card.value_range[1]:g}, or other data",
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
    """Fix what the configuration leaves open: as the run in ``out`` recorded it, else by tuning."""
    return _adopted(request, out) or _tuned(request)


def open_run(
    request: Request, out: Path | None, *, command: str, kind: str = KIND
) -> tuple[Request, RunStore]:
    """Make the run of a settled request, or join it; the request as it will be run.

    Raises:
        ConfigurationError: ``out`` holds a run of something else; says what differs.
    """
    try:
        return request, RunStore.create(out, manifest_of(request, command, kind))
    except ConfigurationError:
        joined = _adopted(request, out)
        if joined is None or joined.config == request.config:
            raise
        # Another process made the run while this one was tuning: its choices stand.
        return joined, RunStore.create(out, manifest_of(joined, command, kind))


def manifest_of(request: Request, command: str, kind: str = KIND) -> Manifest:
    """``run.json`` of a settled request."""
    config = request.config
    arithmetic = Layout(config.precision, fold=config.fold, fuse=config.fuse).arithmetic()
    identities = [model_identity(model) for model in request.models]
    records = tuple(
        classifier.record(identities, arithmetic, primary=position == 0)
        for position, classifier in enumerate(request.classifiers)
    )
    return Manifest(
        kind=kind,
        command=command,
        config=config.as_dict() | request.arithmetic.said(),
        classifiers=records,
        data=request.dataset.card.as_dict(),
        environment={**environment(), "device": describe_device(request.device)},
        created=utc_now(),
    )


def _adopted(request: Request, out: Path | None) -> Request | None:
    """The request with a recorded run's choices in place of those left open or tuned."""
    if out is None or not (out / FILE_NAME).exists():
        return None
    with RunStore.open(out) as store:
        recorded = store.manifest.config
    names = set(request.open)
    if recorded.get("arithmetic") == REAL or request.config.arithmetic == REAL:
        names.discard("steps")
    return replace(request, config=request.config.adopting(recorded, names))


def _tuned(request: Request) -> Request:
    config = request.config
    layout = Layout(config.precision, fold=config.fold, fuse=config.fuse)
    shape = request.dataset.card.shape
    rows = len(request.indices) * (config.n + config.n0)
    tuned = tune(request.models, shape, layout, request.device, batch=config.batch, rows=rows)
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
    layout = Layout(config.precision, bool(config.channels_last), config.fold, config.fuse)
    return MemberBank(request.models, layout, request.device)


def engine_of(request: Request, bank: MemberBank, batch: int | None = None) -> Engine:
    """The engine of a settled request; ``batch`` where it is no longer the one it was made with."""
    config = request.config
    return Engine(
        bank,
        [classifier for classifier in request.classifiers if not classifier.after],
        request.arithmetic.noise,
        seed=config.seed,
        batch=batch or config.batch or 1,
        generator=config.generator or default_generator(request.device),
        ballots=bool(config.slope),
        other_noise={SECOND_LAW: config.laws.second_noise} if config.double else None,
    )
