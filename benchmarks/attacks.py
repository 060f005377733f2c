"""Our attacks beside others': robust accuracy and seconds on the same points of the same model.

AutoAttack beside that of ART (through the bridge) and beside its authors' code (a folder that holds
their package); projected gradient ascent beside foolbox's at the same steps, step length and random
starts. What is not installed is left out and said so.

    python benchmarks/attacks.py weights/lenet5.safetensors --data mnist --eps 0.1 --points 1000
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import phalanx
from phalanx.attacks.bridges.art import art_classifier
from phalanx.attacks.bridges.foolbox import foolbox_model
from phalanx.cli.options import number
from phalanx.data.locate import load
from phalanx.errors import MissingDependencyError
from phalanx.models.model import Model
from phalanx.models.resolve import resolve
from phalanx.runs.provenance import cpu_model
from phalanx.specs.threat import Threat

RESULTS = Path(__file__).parent / "results"
STEPS, STEP, BATCH = 40, 0.01 / 0.3, 250
FOOLBOX = {"linf": "LinfPGD", "l2": "L2PGD", "l1": "SparseL1DescentAttack"}
AUTHORS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
ART = {"linf": "inf", "l2": 2, "l1": 1}

Found = Callable[[], Tensor]


def ours(model: Model, x: Tensor, y: Tensor, threat: Threat, **options: Any) -> Found:
    """``phalanx.attack``."""

    def run() -> Tensor:
        return phalanx.attack(model, x, y, norm=threat.norm, eps=threat.eps, **options).adversarial

    return run


def of_foolbox(model: Model, x: Tensor, y: Tensor, threat: Threat) -> Found:
    """Its PGD, with our steps."""
    wrapped = foolbox_model(model)
    import foolbox

    torch.manual_seed(0)
    kind = getattr(foolbox.attacks, FOOLBOX[threat.norm])
    attack = kind(steps=STEPS, rel_stepsize=STEP, random_start=True)

    def run() -> Tensor:
        parts = [
            attack(wrapped, x[i : i + BATCH], y[i : i + BATCH], epsilons=threat.eps)[1]
            for i in range(0, len(x), BATCH)
        ]
        return torch.cat(parts)

    return run


def of_art(model: Model, x: Tensor, y: Tensor, threat: Threat) -> Found:
    """Its AutoAttack with default parts."""
    classifier = art_classifier(model, tuple(x.shape[1:]))
    from art.attacks.evasion import AutoAttack

    attack = AutoAttack(classifier, norm=ART[threat.norm], eps=threat.eps, batch_size=BATCH)
    return lambda: torch.from_numpy(attack.generate(x.numpy(), y.numpy())).float()


def of_authors(folder: Path, model: Model, x: Tensor, y: Tensor, threat: Threat) -> Found:
    """Croce & Hein's own AutoAttack, standard version."""
    sys.path.insert(0, str(folder))
    from autoattack import AutoAttack

    attack = AutoAttack(
        model, norm=AUTHORS[threat.norm], eps=threat.eps, seed=0, verbose=False, device="cpu"
    )
    return lambda: attack.run_standard_evaluation(x, y, bs=BATCH)


def measured(model: Model, x: Tensor, y: Tensor, threat: Threat, run: Found) -> dict[str, Any]:
    """Robust accuracy by a pass of its own, what leaves ball or box, and seconds.

    An input outside by more than the tolerance counts as not found.
    """
    started, worked = time.perf_counter(), time.process_time()
    found = run()
    seconds, busy = time.perf_counter() - started, time.process_time() - worked
    inside = threat.contains(x, found)
    with torch.inference_mode():
        right = torch.cat([model(part).argmax(1) for part in found.split(BATCH)]) == y
        clean = torch.cat([model(part).argmax(1) for part in x.split(BATCH)]) == y
    return {
        "robust_accuracy": float((clean & (right | ~inside)).double().mean()),
        "outside": int((~inside).sum()),
        "seconds": round(seconds, 1),
        "processor_seconds": round(busy, 1),
    }


def rivals(
    model: Model, x: Tensor, y: Tensor, threat: Threat, authors: Path | None
) -> dict[str, Callable[[], Found]]:
    """Everything to be run, by name."""
    same = {"attack": "pgd", "steps": STEPS, "step": STEP}
    listed: dict[str, Callable[[], Found]] = {
        "pgd, phalanx": lambda: ours(model, x, y, threat, **same),
        "pgd, foolbox": lambda: of_foolbox(model, x, y, threat),
        "autoattack, phalanx": lambda: ours(model, x, y, threat, attack="autoattack"),
        "autoattack, ART": lambda: of_art(model, x, y, threat),
    }
    if authors is not None:
        folder = authors
        listed["autoattack, authors"] = lambda: of_authors(folder, model, x, y, threat)
    return listed


def main() -> None:
    """Run and print; with ``--write`` also keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--norm", default="linf")
    parser.add_argument("--eps", type=number, default=0.1)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--art-points", type=int, default=200, help="of them, for ART")
    parser.add_argument("--authors", type=Path, help="folder that holds the autoattack package")
    parser.add_argument("--only", help="names that contain this")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    model, dataset = resolve(asked.model), load(asked.data, asked.data_dir)
    points = dataset.select(limit=asked.points)
    x, y = dataset.images(points), dataset.labels(points)
    threat = Threat(asked.norm, asked.eps, *model.inputs.range)
    rows = {}
    for name in rivals(model, x, y, threat, asked.authors):
        if asked.only and asked.only not in name:
            continue
        try:
            few = asked.art_points if name.endswith("ART") else asked.points
            run = rivals(model, x[:few], y[:few], threat, asked.authors)[name]()
            rows[name] = {"points": min(few, len(x))}
            rows[name] |= measured(model, x[:few], y[:few], threat, run)
        except MissingDependencyError as missing:
            print(f"{name}: {missing}")
            continue
        print(f"{name:<22}{json.dumps(rows[name])}", flush=True)
    if asked.write:
        keep({"model": Path(asked.model).stem, "norm": asked.norm, "eps": asked.eps}, rows)


def keep(said: dict[str, Any], rows: dict[str, Any]) -> None:
    """Put figures beside those of other models; rows that were measured before are replaced."""
    path = RESULTS / "attacks.json"
    kept = json.loads(path.read_text())["tables"] if path.exists() else []
    before = [table for table in kept if said.items() <= table.items()]
    others = [table for table in kept if table not in before]
    merged = {name: row for table in before for name, row in table["rows"].items()} | rows
    table = {**said, "processor": cpu_model(), "threads": torch.get_num_threads(), "rows": merged}
    path.write_text(json.dumps({"tables": [*others, table]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
