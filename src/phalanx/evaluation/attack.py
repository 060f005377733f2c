"""Attack every point of a data set: joins models, data, attacks and the run store.

The only writer of attack rows. Points are claimed some at a time; a run can be killed, resumed and
shared by several processes, and its records are the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phalanx.attacks import Attack, build_attack, check_norm
from phalanx.attacks.core import BATCH, Outcome, attack_points
from phalanx.attacks.defences import Settings, target_of
from phalanx.attacks.objective import objective_of
from phalanx.attacks.target import Target, rows_of
from phalanx.data.dataset import Dataset
from phalanx.errors import DataError, ModelError, NonFiniteError, ParameterError
from phalanx.evaluation.points import PointSweep, Progress, open_points
from phalanx.models.digest import model_identity
from phalanx.models.model import Model
from phalanx.models.usercode import import_factory
from phalanx.models.validate import validate
from phalanx.runs.adversaries import Adversary, digest, keep
from phalanx.runs.manifest import ATTACK
from phalanx.runs.provenance import digest_of, file_digest
from phalanx.runs.schema import CertificateRecord, ClassifierRecord
from phalanx.runs.store import RunStore
from phalanx.runtime.device import describe_device, resolve_device
from phalanx.specs.threat import Threat
from phalanx.verdicts import Verdict

PROBE_POINTS = 4
STOOD = "the attack found nothing"
WRONG = "answered wrongly without an attack"


@dataclass(frozen=True)
class AttackRequest:
    """What to attack, how, and where; see `request_attack`."""

    target: Target
    attack: Attack
    name: str
    threat: Threat
    dataset: Dataset
    indices: Sequence[int]
    seed: int
    batch: int
    config: Mapping[str, Any]
    classifier: ClassifierRecord


def request_attack(
    models: Sequence[Model],
    dataset: Dataset,
    *,
    attack: str,
    norm: str,
    eps: float,
    options: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
    reducer: str = "mean",
    indices: Sequence[int] | None = None,
    seed: int = 0,
    batch: int = BATCH,
    device: str = "auto",
) -> AttackRequest:
    """A checked request.

    Args:
        models: several are an ensemble under ``reducer``.
        dataset: labelled inputs.
        attack, options: a registered attack and its fields.
        norm, eps: what may be done, in input units.
        settings: how the classifier is asked.
        reducer: of several models; ``random-member`` draws one for every answer.
        indices: which points; all by default.
        seed: with the number of a point it decides every random number.
        batch: points at a time; changes no record.
        device: see `resolve_device`.

    Raises:
        ParameterError, ModelError, DataError: what, why and the repair.
    """
    settings, options = settings or Settings(), dict(options or {})
    built = build_attack(attack, options)
    check_norm(built, attack, norm)
    if type(seed) is not int:
        raise ParameterError(f"seed is {seed!r}", why="it is a whole number")
    place, chosen = (
        resolve_device(device),
        list(range(len(dataset)) if indices is None else indices),
    )
    for model in models:
        validate(model)
        model.to(place)
    probe = _probe(models, dataset, chosen).to(place)
    settings = replace(settings, rows=rows_of(place, settings.rows))
    target = target_of(models, settings, reducer=reducer, probe=probe)
    low, high = target.inputs.range
    threat = Threat(norm, eps, low, high)
    if built.gradients and not target.differentiable:
        raise ModelError(f"{attack!r} follows gradients, and only scores may be asked for")
    config = {
        "attack": attack,
        "options": built.model_dump(),
        "norm": norm,
        "eps": threat.eps,
        "seed": seed,
        "box": [low, high],
        **{name: value for name, value in asdict(settings).items() if value is not None},
        **_code_of(options.get("objective")),
    }
    return AttackRequest(
        target=target,
        attack=built,
        name=attack,
        threat=threat,
        dataset=dataset,
        indices=chosen,
        seed=seed,
        batch=batch,
        config=config,
        classifier=_classifier(models, reducer),
    )


def _probe(models: Sequence[Model], dataset: Dataset, indices: Sequence[int]) -> Tensor:
    """A few inputs, of a data set that fits the models."""
    if not models:
        raise ModelError("there is no model to attack")
    if not indices:
        raise DataError("no images are selected", repair="a larger --limit or a smaller --every")
    card, inputs = dataset.card, models[0].inputs
    if not dataset.labelled:
        raise DataError(
            f"data set {card.name!r} has no labels", why="an attack makes right answers wrong"
        )
    if tuple(card.value_range) != inputs.range:
        low, high = card.value_range
        raise DataError(
            f"data set {card.name!r} has values from {low:g} to {high:g}, and"
            f" {models[0].card.name} expects {inputs.range[0]:g} to {inputs.range[1]:g}",
            why="eps is in the units of the input, so both must mean the same ones",
            repair=f"--input-range {low:g} {high:g}, or other data",
        )
    return dataset.images(list(indices[:PROBE_POINTS]))


def _code_of(objective: str | None) -> dict[str, str]:
    """The digest of a user's objective: other code is another attack.

    Raises:
        ParameterError, ModelError: there is no such objective.
    """
    objective_of(objective)
    if not objective or ":" not in objective:
        return {}
    _, file = import_factory(objective)
    return {} if file is None else {"objective_digest": file_digest(file)}


def _classifier(models: Sequence[Model], reducer: str) -> ClassifierRecord:
    name = reducer if len(models) > 1 else "model"
    identity = {
        "members": [model_identity(model) for model in models],
        "reducer": reducer if len(models) > 1 else None,
        "sources": [model.card.name for model in models],
        "dtype": "fp32",
    }
    return ClassifierRecord(name, identity, digest_of(identity), primary=True)


def open_attack_run(request: AttackRequest, out: Path | None, *, command: str) -> RunStore:
    """Make the run of a request, or join it.

    Raises:
        ConfigurationError: ``out`` holds a run of something else; says what differs.
    """
    device = describe_device(request.target.device)
    return open_points(request, ATTACK, out, command=command, device=device)


class AttackSweep(PointSweep):
    """Attacks the points of a request."""

    def __init__(
        self, request: AttackRequest, store: RunStore, progress: Progress | None = None
    ) -> None:
        super().__init__(request, store, progress)
        self.request = request

    def answer(self, points: Sequence[int]) -> None:
        """Attack claimed points; where the batch fails, each on its own, to find who fails."""
        dataset, started = self.request.dataset, time.perf_counter()
        x, y = dataset.images(points), dataset.labels(points)
        self.store.add_samples([self._sample(i, one) for i, one in zip(points, x, strict=True)])
        try:
            found = self._outcome(points, x, y)
        except NonFiniteError as error:
            if len(points) > 1:
                for index in points:
                    self.answer([index])
                return
            self.store.commit_certificates([self._error(points[0], str(error))])
            return
        seconds = (time.perf_counter() - started) / len(points)
        self._commit(points, found, seconds)

    def _outcome(self, points: Sequence[int], x: Tensor, y: Tensor) -> Outcome:
        request = self.request
        return attack_points(
            request.attack,
            request.target,
            request.threat,
            x,
            y,
            name=request.name,
            seed=request.seed,
            samples=points,
            batch=len(points),
        )

    def _commit(self, points: Sequence[int], found: Outcome, seconds: float) -> None:
        inputs = found.adversarial.numpy()
        broken = [place for place in range(len(points)) if bool(found.success[place])]
        keep(self.store, [Adversary(points[place], inputs[place]) for place in broken])
        self.store.commit_certificates(
            [self._record(points[i], i, found, seconds) for i in range(len(points))]
        )

    def _record(self, index: int, row: int, found: Outcome, seconds: float) -> CertificateRecord:
        before, after = float(found.before[row]), float(found.after[row])
        success = bool(found.success[row])
        details = {
            "before": before,
            "after": after,
            "success": success,
            "distance": float(found.distance[row]),
            "queries": int(found.queries[row]),
            "flat": int(found.flat[row]),
            "by": found.by[row],
            "judged": found.judged,
            "seed": self.request.seed,
            "adversarial": digest(found.adversarial[row].numpy()) if success else None,
        }
        falsified = after == 0
        reason = "" if success else WRONG if before == 0 else STOOD
        return CertificateRecord(
            classifier=self.request.classifier.name,
            image=index,
            verdict=Verdict.FALSIFIED if falsified else Verdict.UNKNOWN,
            predicted=None,
            correct=bool(before) if before in (0.0, 1.0) else None,
            radius=None,
            seconds=seconds,
            reason=reason,
            details=details,
        )


def score_again(
    target: Target, x: Tensor, y: Tensor, samples: Sequence[int], seed: int = 0
) -> Tensor:
    """The probability of the right answer at given inputs: float64 ``(B,)``; see `Target.right`."""
    from phalanx.attacks.siege import FINAL
    from phalanx.runtime.keys import noise_key

    keys = [0 if target.exact else noise_key(seed, sample, FINAL) for sample in samples]
    return target.right(x.to(target.device, torch.float32), y.to(target.device), keys).cpu()
