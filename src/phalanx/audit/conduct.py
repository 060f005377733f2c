"""An audit from models to result: a run of its own kind, which the same command continues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phalanx.attacks.defences import Settings as Asking
from phalanx.attacks.defences import declared_random
from phalanx.attacks.target import Expected, device_of, shares_of
from phalanx.audit.collect import Trial, carry_out, judge
from phalanx.audit.masking import Check, checks
from phalanx.audit.measures import Answers, Figure, figures
from phalanx.audit.protocols import Effort, Protocol, alone, suite
from phalanx.audit.surface import surface
from phalanx.data.dataset import DataCard, Dataset
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import DataError, ModelError
from phalanx.models.digest import model_identity
from phalanx.models.model import Model
from phalanx.models.validate import probe, validate
from phalanx.runs.provenance import digest_of, environment, utc_now
from phalanx.runs.schema import ClassifierRecord, Manifest
from phalanx.runs.store import RunStore
from phalanx.runtime.device import describe_device, resolve_device
from phalanx.specs.threat import Threat

KIND = NOTE = "audit"
"""Kind of its run, and the note under which that keeps the result."""
LEAST_MEMBERS = 2
PROBED = 4
"""Images that every member is tried on first."""


@dataclass(frozen=True)
class Settings:
    """What is asked.

    Attributes:
        norm, eps: of the threat; eps in input units.
        effort: how hard the attacks try.
        reducer: under which the same members are averaged.
        probabilities: of each member to be drawn; empty: all equal.
        seed: of every attack.
    """

    norm: str
    eps: float
    effort: Effort
    reducer: str = "softmax"
    probabilities: Sequence[float] = ()
    seed: int = 0


def trial_of(
    models: Sequence[Model],
    dataset: Dataset,
    indices: Sequence[int],
    settings: Settings,
    device: str = "auto",
) -> Trial:
    """A checked trial.

    Raises:
        ModelError: fewer than two members, members that disagree, or one that is broken or
            draws random numbers of its own.
        ParameterError: probabilities that are none, a norm or radius that is none.
        DataError: images without labels, or none.
    """
    models, declared = members_of(models)
    if len(models) < LEAST_MEMBERS:
        raise ModelError(
            f"an audit of {len(models)} member",
            why="what is drawn at random needs at least two",
            repair="name every member, or phalanx attack MODEL for a single one",
        )
    if not dataset.labelled or not len(indices):
        raise DataError("an audit needs labelled images", repair="--data with labels, --limit")
    ensemble = Ensemble(models, settings.reducer).eval().to(resolve_device(device))
    low, high = ensemble.inputs.range
    chosen = list(indices)
    for model in ensemble.models:
        validate(model)
        probe(model, dataset.images(chosen[:PROBED]).to(device_of(model)))
    return Trial(
        ensemble=ensemble,
        probabilities=shares_of(settings.probabilities or declared, len(models)),
        threat=Threat(settings.norm, settings.eps, low, high),
        x=dataset.images(chosen),
        y=dataset.labels(chosen),
        samples=chosen,
        seed=settings.seed,
    )


def members_of(models: Sequence[Model]) -> tuple[Sequence[Model], list[float]]:
    """The members and, where they are declared, their probabilities.

    One model may be a whole defence, whose network has ``members`` and ``probabilities``.
    """
    if len(models) == 1:
        whole = declared_random(models[0], Asking())
        if isinstance(whole, Expected):
            return whole.models, whole.shares.tolist()
    return models, []


def manifest_of(trial: Trial, settings: Settings, card: DataCard, command: str) -> Manifest:
    """``run.json`` of an audit."""
    records = []
    for number, model in enumerate(trial.ensemble.models):
        identity = {"members": [model_identity(model)]}
        records.append(ClassifierRecord(f"member-{number}", identity, digest_of(identity)))
    config = {
        "norm": settings.norm,
        "eps": settings.eps,
        "effort": asdict(settings.effort),
        "reducer": settings.reducer,
        "probabilities": list(trial.probabilities),
        "seed": settings.seed,
        "samples": list(trial.samples),
    }
    device = describe_device(device_of(trial.ensemble))
    return Manifest(
        kind=KIND,
        command=command,
        config=config,
        classifiers=tuple(records),
        data=card.as_dict(),
        environment={**environment(), "device": device},
        created=utc_now(),
    )


def conduct(
    trial: Trial,
    settings: Settings,
    card: DataCard,
    folder: Path,
    *,
    command: str = "",
    beside: Mapping[str, Any] | None = None,
    says: Callable[[Protocol, int], None] = lambda protocol, images: None,
) -> dict[str, Any]:
    """Make or continue an audit in ``folder``; its result as JSON values, which the run keeps.

    Args:
        trial, settings, card: what is audited, on which data.
        folder: of the run.
        command: what the run says it was made by.
        beside: certified expected accuracy (`phalanx.runs.expected.Expected.as_json`), if any.
        says: told of every piece that is there: its protocol, and images.

    Raises:
        ConfigurationError: the folder holds an audit of something else.
        AttackError, NonFiniteError, ModelError: see `phalanx.attacks.core.attack_points`.
    """
    attacks = suite(len(trial.ensemble.models), settings.effort)
    with RunStore.create(folder, manifest_of(trial, settings, card, command)) as run:
        carry_out(trial, attacks, folder, says)
        found = result(trial, attacks, folder)
        if beside is not None:
            found["certified"] = dict(beside)
        run.set_meta(NOTE, found)
    return found


def result(trial: Trial, attacks: Sequence[Protocol], folder: Path) -> dict[str, Any]:
    """Everything that is said of a trial, from the stored inputs."""
    seen = judge(trial, attacks, folder)
    everything = seen.answers
    threats = [protocol for protocol in attacks if protocol.kind != "unbounded"]
    inside = without(everything, [p.name for p in attacks if p.kind == "unbounded"])
    published = [protocol.name for protocol in threats if protocol.kind == "published"]
    smooth = surface(trial)
    signs = checks(everything, attacks, seen.flat)
    signs.append(
        Check(
            "a random direction beats the gradient",
            smooth.beaten,
            0.1,
            "the gradient at the image says little of the loss at the edge of the ball",
        )
    )
    members = len(trial.ensemble.models)
    return {
        "images": len(trial.x),
        "members": members,
        "threat": {"norm": trial.threat.norm, "eps": trial.threat.eps},
        "figures": [
            {"name": name, **one.as_json()} for name, one in figures(inside, published).items()
        ],
        "protocols": [_row(inside, protocol, seen.queries[protocol.name]) for protocol in threats],
        "members_alone": [Figure.of(row).as_json() for row in inside.alone()],
        "transfer": _numbers(inside.transfer([alone(i) for i in range(members)])),
        "checks": [check.as_json() for check in signs],
        "surface": asdict(smooth),
    }


def without(answers: Answers, names: Sequence[str]) -> Answers:
    """The answers on the inputs of all other protocols."""
    kept = [i for i, name in enumerate(answers.protocols) if name not in names]
    return Answers(
        tuple(answers.protocols[i] for i in kept),
        answers.right[kept],
        answers.averaged[kept],
        answers.probabilities,
    )


def _row(answers: Answers, protocol: Protocol, queries: float) -> dict[str, Any]:
    place = answers.protocols.index(protocol.name)
    return {
        "name": protocol.name,
        "kind": protocol.kind,
        "victim": protocol.victim,
        "expected": Figure.of(answers.scored(protocol.name)).as_json(),
        "averaged": Figure.of(answers.averaged[place]).as_json(),
        "members": answers.right[place].mean(1).tolist(),
        "queries": queries,
    }


def _numbers(table: np.ndarray[Any, Any]) -> list[list[float | None]]:
    """Lists in which what is not a number is absent."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in table]
