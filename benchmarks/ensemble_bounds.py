"""What an ensemble certifies that its members do not, by deterministic bounds.

    phalanx train mnist-plain --data-dir DIR --out trained --set members=3 --set epochs=4 \
        --set 'model={name: mlp, options: {hidden: [100, 100, 100]}}'
    cd trained/weights && python benchmarks/ensemble_bounds.py member-?.safetensors \
        --data-dir DIR --eps 0.02 0.03 --write

Over the first images of the test set, at every radius: certified rightly by the ensemble only, by
some member only, by both, by neither; and what bounding the ensemble costs beside its members one
by one.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from statistics import fmean

import torch

from phalanx.data.locate import load
from phalanx.evaluation.bounding import BoundSweep, open_bound_run, request_bounds
from phalanx.models.model import Model
from phalanx.models.resolve import resolve_all
from phalanx.runs.provenance import cpu_model, utc_now
from phalanx.runs.schema import CertificateRecord
from phalanx.verdicts import Verdict

RESULTS = Path(__file__).parent / "results" / "ensemble_bounds.json"


def main() -> None:
    """Measure, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="MODEL words of the members")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--eps", type=float, nargs="+", required=True)
    parser.add_argument("--norm", default="linf")
    parser.add_argument("--method", default="crown")
    parser.add_argument("--reducer", default="mean")
    parser.add_argument("--write", action="store_true", help=f"keep it in {RESULTS.name}")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    members = resolve_all(asked.models)
    names = ("data", "images", "norm", "method", "reducer")
    result = {
        **{name: getattr(asked, name) for name in names},
        "machine": {"processor": cpu_model(), "torch": torch.__version__, "threads": 1},
        "measured": utc_now(),
        "members": [made(member) for member in members],
        "radii": [{"eps": eps, **at(eps, members, asked)} for eps in asked.eps],
    }
    print(json.dumps(result, indent=1))
    if asked.write:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


def made(member: Model) -> dict[str, object]:
    """Its name, its weights' digest, and what its recipe says of the training, if it has one."""
    recipe = member.card.extra.get("recipe", {})
    said = {key: recipe[key] for key in ("model", "loss", "epochs", "seed") if key in recipe}
    return {"name": member.card.name, "digest": member.card.digest, "recipe": said}


def at(eps: float, members: list[Model], asked: argparse.Namespace) -> dict[str, object]:
    """What is certified at one radius."""
    apart = [certified([member], eps, asked) for member in members]
    return compared(certified(members, eps, asked), apart)


def certified(
    models: list[Model], eps: float, asked: argparse.Namespace
) -> list[CertificateRecord]:
    """The records of the first images, in order."""
    request = request_bounds(
        models,
        load(asked.data, asked.data_dir),
        reducer=asked.reducer,
        method=asked.method,
        eps=eps,
        norm=asked.norm,
        falsify=False,
        indices=range(asked.images),
    )
    store = open_bound_run(request, None, command="ensemble_bounds")
    BoundSweep(request, store).run()
    return sorted(store.certificates(), key=lambda record: record.image)


def right(record: CertificateRecord) -> bool:
    """Whether the true class is certified."""
    return record.verdict is Verdict.VERIFIED and bool(record.correct)


def compared(
    whole: list[CertificateRecord], apart: list[list[CertificateRecord]]
) -> dict[str, object]:
    """Counts of images, and seconds an image."""
    kinds = {(True, True): "both", (True, False): "ensemble only", (False, True): "a member only"}
    counts = Counter(
        kinds.get((right(one), any(right(own) for own in others)), "neither")
        for one, *others in zip(whole, *apart, strict=True)
    )
    return {
        "counts": {kind: counts[kind] for kind in (*kinds.values(), "neither")},
        "certified_by_ensemble": sum(map(right, whole)),
        "certified_by_each_member": [sum(map(right, one)) for one in apart],
        "seconds_ensemble": fmean(record.seconds or 0.0 for record in whole),
        "seconds_members_together": sum(
            fmean(record.seconds or 0.0 for record in one) for one in apart
        ),
    }


if __name__ == "__main__":
    main()
