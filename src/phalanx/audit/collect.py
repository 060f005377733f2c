"""Making the attacks of an audit, piece by piece, and asking everybody about what they found.

A piece is one protocol on some images; its file holds the inputs it ended with. Who is right on
them is always computed anew from these inputs, so an audit can be rechecked, or done for other
members, without attacking again.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from phalanx.attacks import build_attack
from phalanx.attacks.core import attack_points
from phalanx.attacks.target import Expected, Plain, Reduced, Target
from phalanx.audit.drawn import DrawnMember
from phalanx.audit.measures import CLEAN, Answers, Bools, Floats
from phalanx.audit.protocols import AVERAGED, DRAWN, RANDOM, Protocol
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import AttackError, RunError
from phalanx.runs.database import typed_errors
from phalanx.runs.files import write_atomically
from phalanx.runs.provenance import digest_of
from phalanx.runtime.device import full_precision
from phalanx.specs.threat import Threat

PIECE = 64
"""Images of a piece."""
PIECES = "attacks"


@dataclass(frozen=True)
class Trial:
    """What is audited.

    Attributes:
        ensemble: the members, and the reducer under which they are ``averaged``.
        probabilities: of each to be drawn, float64 ``(M,)``, summing to 1.
        threat: norm, radius and range.
        x, y: images ``(B, *shape)`` and their classes ``(B,)``.
        samples: the number of each image in its data set.
        seed: of every attack.
    """

    ensemble: Ensemble
    probabilities: Sequence[float]
    threat: Threat
    x: Tensor
    y: Tensor
    samples: Sequence[int]
    seed: int

    def target(self, victim: str | int) -> Target:
        """The classifier that a protocol attacks."""
        whole = Expected(self.ensemble.models, self.probabilities)
        if victim == RANDOM:
            return whole
        if victim == DRAWN:
            return DrawnMember(whole)
        if victim == AVERAGED:
            return Reduced(self.ensemble)
        return Plain(self.ensemble.models[int(victim)])

    def ball(self, protocol: Protocol) -> Threat:
        """What a protocol may do: all of the range in one that is unbounded."""
        threat = self.threat
        if protocol.kind != "unbounded":
            return threat
        width, size = threat.high - threat.low, self.x[0].numel()
        everything = {"linf": width, "l2": width * size**0.5, "l1": width * size}
        return Threat(threat.norm, everything[threat.norm], threat.low, threat.high)


@dataclass(frozen=True)
class Found:
    """What a protocol ended with: inputs, queries and zero gradients of each image."""

    adversarial: Tensor
    queries: Tensor
    flat: Tensor


def pieces(trial: Trial) -> Iterator[slice]:
    """The images, some at a time."""
    for first in range(0, len(trial.x), PIECE):
        yield slice(first, min(first + PIECE, len(trial.x)))


def carry_out(
    trial: Trial, suite: Sequence[Protocol], folder: Path, says: Callable[[Protocol, int], None]
) -> None:
    """Make every attack that has no file yet.

    Args:
        trial: what is attacked.
        suite: how.
        folder: of the audit; what is in it was made of the same trial.
        says: told of every piece, done or not: its protocol, and images.
    """
    for protocol in suite:
        attack, threat = build_attack(protocol.attack, protocol.options), trial.ball(protocol)
        for some in pieces(trial):
            path = place(folder, trial, protocol, some)
            if not path.exists():
                outcome = attack_points(
                    attack,
                    trial.target(protocol.victim),
                    threat,
                    trial.x[some],
                    trial.y[some],
                    name=protocol.name,
                    seed=trial.seed,
                    samples=list(trial.samples[some]),
                )
                write(path, Found(outcome.adversarial, outcome.queries, outcome.flat))
            says(protocol, some.stop - some.start)


def place(folder: Path, trial: Trial, protocol: Protocol, some: slice) -> Path:
    """The file of a piece: another protocol, or other images, have another one."""
    key = [protocol.name, protocol.victim, protocol.attack, dict(protocol.options)]
    name = digest_of([*key, list(trial.samples[some])])[:16]
    return folder / PIECES / f"{name}.npz"


def write(path: Path, found: Found) -> None:
    """Keep a piece, whole or not at all."""
    buffer = BytesIO()
    arrays = {name: getattr(found, name).numpy() for name in ("adversarial", "queries", "flat")}
    np.savez_compressed(buffer, **arrays)
    with typed_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def read(path: Path) -> Found:
    """A piece.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        # A file of our own to close: numpy leaves one open that it cannot read.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        return Found(tensors["adversarial"], tensors["queries"], tensors["flat"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path} is not a piece of an audit",
            why=str(error),
            repair="delete it: the same command makes it again",
        ) from error


def found_by(trial: Trial, protocol: Protocol, folder: Path) -> Found:
    """All pieces of a protocol as one.

    Raises:
        AttackError: an input lies outside of what the protocol may do.
    """
    parts = [read(place(folder, trial, protocol, some)) for some in pieces(trial)]
    whole = Found(
        torch.cat([part.adversarial for part in parts]),
        torch.cat([part.queries for part in parts]),
        torch.cat([part.flat for part in parts]),
    )
    inside = trial.ball(protocol).contains(trial.x, whole.adversarial)
    if not bool(inside.all()):
        raise AttackError(
            f"{int((~inside).sum())} inputs of {protocol.name!r} are outside of ball or box",
            why="what is stored is not what was asked for",
            repair=f"delete {folder / PIECES}: the same command makes it again",
        )
    return whole


@dataclass(frozen=True)
class Judged:
    """What is known once everybody has seen everything.

    Attributes:
        answers: who is right on what.
        queries: of each protocol, mean over images.
        flat: whether the gradient at the image itself is zero, as the one-step attack saw it,
            ``(B,)``; zeros where there was none.
    """

    answers: Answers
    queries: dict[str, float]
    flat: Floats


def judge(trial: Trial, suite: Sequence[Protocol], folder: Path) -> Judged:
    """Show every member, and all of them together, everything that was found, once."""
    targets = [*(Plain(model) for model in trial.ensemble.models), Reduced(trial.ensemble)]
    right, queries = [_rights(targets, trial.x, trial.y)], {}
    flat: Floats = np.zeros(len(trial.x))
    for protocol in suite:
        found = found_by(trial, protocol, folder)
        right.append(_rights(targets, found.adversarial, trial.y))
        queries[protocol.name] = float(found.queries.double().mean())
        if protocol.kind == "one-step":
            flat = (found.flat > 0).double().numpy()
    names = (CLEAN, *(protocol.name for protocol in suite))
    table, probabilities = np.array(right), np.asarray(trial.probabilities, dtype=np.float64)
    return Judged(Answers(names, table[:, :-1], table[:, -1], probabilities), queries, flat)


def _rights(targets: Sequence[Target], x: Tensor, y: Tensor) -> list[Bools]:
    device, keys = targets[0].device, [0] * len(y)
    with full_precision(device):
        return [_right(target, x.to(device), y.to(device), keys) for target in targets]


def _right(target: Target, x: Tensor, y: Tensor, keys: Sequence[int]) -> Bools:
    found: Bools = (target.right(x, y, keys) > 0.5).cpu().numpy()
    return found
