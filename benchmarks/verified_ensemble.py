"""What an ensemble has that its members do not, decided by complete verification.

    python benchmarks/verified_ensemble.py --data-dir DIR --write

Three small networks are trained on MNIST (or taken: ``--models A B C``). Over the first test images
the question whether the true class wins everywhere in a ball is put to every member and to the mean
of their logits, each until it is decided or its seconds are over: attack, bounds, branch and bound.
Images are counted where the ensemble alone is verified, some member alone, both, neither; an image
on which what is undecided could change the answer is counted as undecided, never as one of these.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from complete_methods import SHAPE, Size, trained
from torch import Tensor

from phalanx.data.locate import load
from phalanx.ensembles.ensemble import Ensemble
from phalanx.models.declaration import Declaration, wrap
from phalanx.models.model import Model
from phalanx.models.resolve import resolve_all
from phalanx.specs.robustness import robust_in_box
from phalanx.verdicts import Verdict
from phalanx.verify.network import Network, network_of
from phalanx.verify.portfolio import decide
from phalanx.verify.result import Result

RESULTS = Path(__file__).parent / "results" / "verified_ensemble.json"
SIZE = Size((25, 25))
KINDS = ("ensemble only", "a member only", "both", "neither", "undecided")


def main() -> None:
    """Train or load, ask, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--models", nargs="+", help="MODEL words of members, in place of trained")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--training", choices=["plain", "certified"], default="plain")
    parser.add_argument("--steps", type=int, default=2000, help="of each training")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--eps", type=float, default=0.03, help="l_inf radius")
    parser.add_argument("--cap", type=float, default=10.0, help="seconds a question")
    parser.add_argument("--write", action="store_true", help=f"keep it in {RESULTS.name}")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    members = resolve_all(asked.models) if asked.models else made(asked)
    networks = [network_of(Ensemble(members, "mean")), *map(network_of, members)]
    test = load("mnist", asked.data_dir)
    images, labels = test.images(range(asked.images)), test.labels(range(asked.images))
    found = [
        [answered(network, x, int(y), asked) for network in networks]
        for x, y in zip(images, labels, strict=True)
    ]
    names = ("members", "training", "steps", "images", "eps", "cap")
    said: dict[str, Any] = {name: getattr(asked, name) for name in names}
    if asked.models:
        said |= {"members": len(members), "training": "given", "steps": None}
    else:
        said["network"] = f"{SIZE.relus} ReLUs, fully connected"
    result = {"settings": said, **summary(found)}
    print(json.dumps(result, indent=1))
    if asked.write:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


def made(asked: argparse.Namespace) -> list[Model]:
    """Members that differ in their initial weights and in the order of their batches."""
    declaration = Declaration((0.0, 1.0), classes=10, normalised_inside=True, shape=SHAPE)
    return [
        wrap(
            trained(
                SIZE, asked.training, asked.data_dir, steps=asked.steps, eps=asked.eps, key=key
            ),
            declaration,
            name=f"member-{key}",
        )
        for key in range(asked.members)
    ]


def answered(network: Network, x: Tensor, label: int, asked: argparse.Namespace) -> Result:
    """Whether the true class wins everywhere in the ball."""
    at = x.double()
    lower, upper = (at - asked.eps).clamp_min(0), (at + asked.eps).clamp_max(1)
    return decide(network, robust_in_box(lower, upper, label, 10), asked.cap)


def kind(verdicts: Sequence[Verdict]) -> str:
    """Of the ensemble's verdict and then its members'.

    >>> kind([Verdict.VERIFIED, Verdict.FALSIFIED, Verdict.FALSIFIED])
    'ensemble only'
    >>> kind([Verdict.VERIFIED, Verdict.FALSIFIED, Verdict.UNKNOWN])
    'undecided'
    >>> kind([Verdict.FALSIFIED, Verdict.VERIFIED, Verdict.UNKNOWN])
    'a member only'
    """
    whole, *members = verdicts
    some = Verdict.VERIFIED in members
    known = some or all(verdict is Verdict.FALSIFIED for verdict in members)
    if whole not in (Verdict.VERIFIED, Verdict.FALSIFIED) or not known:
        return "undecided"
    if whole is Verdict.VERIFIED:
        return "both" if some else "ensemble only"
    return "a member only" if some else "neither"


def summary(found: Sequence[Sequence[Result]]) -> dict[str, Any]:
    """Counts of images; verdicts and seconds of the ensemble and of each member."""
    counts = Counter(kind([result.verdict for result in same]) for same in found)
    apart = [
        {
            "classifier": "ensemble" if not at else f"member {at}",
            "verdicts": dict(Counter(str(result.verdict) for result in own)),
            "seconds": fmean(result.seconds for result in own),
        }
        for at, own in enumerate(zip(*found, strict=True))
    ]
    every = [result.verdict for same in found for result in same[1:]]
    counted = {name: counts[name] for name in KINDS}
    return {"counts": counted, "members_verified": every.count(Verdict.VERIFIED), "by": apart}


if __name__ == "__main__":
    main()
