"""Certify every image of a data set by deterministic bounds; writes certificates as smoothing does.

A record is verified at a radius, falsified (an input was run again and is answered otherwise), or
unknown with a reason; an exception is an error. Runs are resumed and shared like those of attacks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from phalanx.attacks import build_attack
from phalanx.attacks.core import attack_points
from phalanx.attacks.defences import Settings, target_of
from phalanx.attacks.target import Target
from phalanx.data.dataset import Dataset
from phalanx.ensembles.ensemble import Ensemble, choose_reducer
from phalanx.errors import ModelError, NonFiniteError, ParameterError
from phalanx.evaluation.deciding import EngineFailed, options_of, prover_of
from phalanx.evaluation.points import PointSweep, Progress, open_points
from phalanx.evaluation.proving import AUTO, Proof, Prover
from phalanx.evaluation.request import check_models
from phalanx.models.digest import model_identity
from phalanx.models.model import Model
from phalanx.runs.manifest import BOUNDS
from phalanx.runs.provenance import digest_of
from phalanx.runs.schema import CertificateRecord, ClassifierRecord
from phalanx.runs.store import RunStore
from phalanx.specs.threat import Threat
from phalanx.verdicts import Verdict

CLAIMED = 4
"""Images that a process takes at a time; changes no record."""
FALSIFIER = "pgd"


@dataclass(frozen=True)
class BoundRequest:
    """What is to be proven; see `request_bounds`."""

    prover: Prover
    target: Target | None
    threat: Threat
    search: bool
    dataset: Dataset
    indices: Sequence[int]
    seed: int
    config: Mapping[str, Any]
    classifier: ClassifierRecord
    batch: int = CLAIMED


def request_bounds(
    models: Sequence[Model],
    dataset: Dataset,
    *,
    reducer: str = "mean",
    method: str = AUTO,
    eps: float | None = None,
    norm: str = "linf",
    search: bool = False,
    arithmetic: str | None = None,
    options: Mapping[str, Any] | None = None,
    falsify: bool = True,
    indices: Sequence[int] | None = None,
    seed: int = 0,
) -> BoundRequest:
    """A checked request.

    Args:
        models: several are an ensemble.
        reducer: of several models.
        dataset: labelled or not; what is certified is the class that the model answers.
        method: a bounding method, ``auto``, or a complete method, an engine of `phalanx.verify`.
        eps, norm: the radius in input units; in a search the largest that is looked at.
        search: the largest certified radius of each image.
        arithmetic: see `Prover`.
        options: of the method, see `phalanx.bounds.options.Options`; only those that it reads.
        falsify: look for a counterexample where nothing is proven.
        indices: which images; all by default.
        seed: of that attack.

    Raises:
        ParameterError, ModelError, DataError: what, why and the repair.
    """
    if not models:
        raise ModelError("no model to bound", repair="name at least one model")
    for one in models:
        one.cpu()
    model = models[0] if len(models) == 1 else Ensemble(models, reducer)
    low, high = model.inputs.range
    if eps is None:
        if not search:
            raise ParameterError("the radius is not said", repair="--eps 8/255, or --radius search")
        eps = high - low
    threat = Threat(norm, eps, low, high)
    chosen = list(range(len(dataset)) if indices is None else indices)
    check_models(models, dataset, chosen)
    built = options_of(method, options or {})
    prover = prover_of(
        model, tuple(dataset.card.shape), method=method, arithmetic=arithmetic, options=built
    )
    falsify = falsify and not search
    probe = dataset.images(chosen[:1])
    target = target_of(model, Settings(), probe=probe) if falsify else None
    config = {
        **{"method": method, "norm": norm, "eps": threat.eps, "search": search},
        **{"arithmetic": prover.arithmetic, "seed": seed, "box": [low, high]},
        "radii": None if search else [threat.eps],
        "falsify": FALSIFIER if falsify else None,
        "options": {**vars(built), "go_on": None},  # runs from before it was none go on
    }
    record = _record(model, models)
    return BoundRequest(prover, target, threat, search, dataset, chosen, seed, config, record)


def one_reducer(names: Sequence[str] | None, options: Mapping[str, Any] | None = None) -> str:
    """The reducer of several models, options and all; ``mean`` where none is named.

    Raises:
        ParameterError: more than one: bounds of several decisions share nothing.

    >>> one_reducer(None), one_reducer(["weighted"], {"weights": [1, 2]})
    ('mean', 'weighted:1,2')
    """
    if names is not None and len(names) > 1:
        raise ParameterError(
            f"{len(names)} reducers with bounds", why="one decision is bounded at a time",
            repair="a run for each of them",
        )  # fmt: skip
    return choose_reducer(names[0], options).label if names else "mean"


def _record(model: Model | Ensemble, models: Sequence[Model]) -> ClassifierRecord:
    """Who is certified: weights, order and reducer, in single precision."""
    if isinstance(model, Ensemble):
        identity = model.identity()
        name = choose_reducer(model.reducer_name, model.reducer_options).label
    else:
        identity, name = {"members": [model_identity(model)]}, "model"
    identity |= {"sources": [one.card.name for one in models], "dtype": "fp32"}
    return ClassifierRecord(name, identity, digest_of(identity), primary=True)


def open_bound_run(request: BoundRequest, out: Path | None, *, command: str) -> RunStore:
    """Make the run of a request, or join it.

    Raises:
        ConfigurationError: ``out`` holds a run of something else; says what differs.
    """
    return open_points(request, BOUNDS, out, command=command, device="cpu")


class BoundSweep(PointSweep):
    """Certifies the images of a request into a store, beside any other process that does."""

    def __init__(
        self, request: BoundRequest, store: RunStore, progress: Progress | None = None
    ) -> None:
        super().__init__(request, store, progress)
        self.bounds = request

    def answer(self, points: Sequence[int]) -> None:
        """One image after the other."""
        for index in points:
            x = self.bounds.dataset.images([index])
            self.store.add_samples([self._sample(index, x[0])])
            started = time.perf_counter()
            try:
                record = self._certified(index, x, started)
            except (NonFiniteError, EngineFailed) as error:
                record = self._error(index, str(error))
            self.store.commit_certificates([record])

    def _certified(self, index: int, x: Tensor, started: float) -> CertificateRecord:
        request, prover = self.bounds, self.bounds.prover
        label, known = prover.answer(x), request.dataset.label(index)
        if request.search:
            radius, proof = prover.radius(x, label, request.threat)
        else:
            proof = prover.prove(x, label, request.threat)
            radius = request.threat.eps if proof.holds else 0.0
        verdict, reason = Verdict.VERIFIED, ""
        if not radius > 0:
            verdict, reason = self._undecided(index, x, label, proof)
        return CertificateRecord(
            classifier=request.classifier.name,
            image=index,
            verdict=verdict,
            predicted=label,
            correct=None if known is None else label == known,
            radius=radius,
            seconds=time.perf_counter() - started,
            reason=reason,
            details=proof.details(prover.arithmetic),
        )

    def _undecided(self, index: int, x: Tensor, label: int, proof: Proof) -> tuple[Verdict, str]:
        if proof.broken:
            return Verdict.FALSIFIED, f"{proof.method} found an input that is answered otherwise"
        if self.bounds.target is not None and self._broken(self.bounds.target, index, x, label):
            return Verdict.FALSIFIED, f"{FALSIFIER} found an input that is answered otherwise"
        if proof.confirmed is False:
            return Verdict.UNKNOWN, "the bounds hold only up to roundings: not given"
        if proof.why:
            return Verdict.UNKNOWN, proof.why
        lowest = "no finite bound" if proof.margin is None else f"a margin of {proof.margin:.4g}"
        return Verdict.UNKNOWN, f"{proof.method} leaves {lowest} against class {proof.against}"

    def _broken(self, target: Target, index: int, x: Tensor, label: int) -> bool:
        from torch import tensor

        attack = build_attack(FALSIFIER, {"steps": 20, "restarts": 1})
        found = attack_points(
            attack, target, self.bounds.threat, x, tensor([label]),
            name=FALSIFIER, seed=self.bounds.seed, samples=[index],
        )  # fmt: skip
        return bool(found.success[0])
