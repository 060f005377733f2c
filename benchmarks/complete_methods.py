"""Complete methods side by side, by number of ReLUs, on plain and on certifiably trained networks.

    python benchmarks/complete_methods.py --data-dir DIR --write

Small networks are trained on MNIST in seconds to minutes, plainly and by interval bounds. Of a few
test images that a network classifies rightly, every complete method is asked, alone and without any
attack or cheaper bound before it, whether all other classes lose everywhere in a ball. A method
that decides nothing about a network is not asked about larger ones of the same kind (``--all``
asks anyway). A row that is kept under the same settings is not measured again.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.data.locate import load
from phalanx.graph.from_torch import from_torch
from phalanx.losses import Batch, build_loss
from phalanx.models.initialise import initialise
from phalanx.specs.robustness import robust_in_box
from phalanx.verdicts import Verdict
from phalanx.verify.falsify import Effort
from phalanx.verify.network import Network, network_of
from phalanx.verify.portfolio import Portfolio, decide
from phalanx.verify.result import Result

RESULTS = Path(__file__).parent / "results" / "complete_methods.json"
METHODS = {
    "smt": "SMT (exact rationals, z3)",
    "milp": "MILP (HiGHS)",
    "branch-and-bound-lp": "branch and bound, linear programs",
    "branch-and-bound": "branch and bound, linear bounds",
}
TRAININGS = ("plain", "certified")
BATCH, KEY = 64, 0
SHAPE = (1, 28, 28)
NOTHING = Effort(0, 0)


@dataclass(frozen=True)
class Size:
    """A network: widths of dense layers, behind two strided convolutions where there are channels.

    >>> Size((10, 10)).relus, Size((100,), (1, 4)).relus
    (20, 492)
    """

    dense: tuple[int, ...]
    channels: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """Convolutional or not."""
        return "conv" if self.channels else "fc"

    @property
    def relus(self) -> int:
        """How many there are."""
        sides = (14, 7)
        return sum(self.dense) + sum(c * n * n for c, n in zip(self.channels, sides, strict=False))

    @property
    def name(self) -> str:
        """For tables and ``--only``."""
        return f"{self.kind}-{self.relus}"

    def built(self) -> nn.Module:
        """The network, not yet initialised."""
        layers: list[nn.Module] = []
        for before, after in pairwise((1, *self.channels)):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        layers.append(nn.Flatten())
        size = self.channels[-1] * 49 if self.channels else 784
        for before, after in pairwise((size, *self.dense)):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(self.dense[-1], 10))


SIZES = (
    *(Size((n, n)) for n in (10, 25, 50, 100)),
    *(Size((n, n, 2 * n)) for n in (125, 250)),
    Size((100,), (1, 4)),
    Size((100,), (3, 6)),
    Size((250,), (10, 16)),
    Size((600,), (32, 64)),
)


def main() -> None:
    """Measure what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--images", type=int, default=2, help="a network")
    parser.add_argument("--eps", type=float, nargs="+", default=[0.02, 0.1], help="l_inf radii")
    parser.add_argument("--cap", type=float, default=20.0, help="seconds a question")
    parser.add_argument("--steps", type=int, default=600, help="of a training, 64 images each")
    parser.add_argument("--only", nargs="+", choices=[size.name for size in SIZES])
    parser.add_argument(
        "--all", action="store_true", help="ask also where nothing can be hoped for"
    )
    parser.add_argument("--write", action="store_true", help=f"keep it in {RESULTS.name}")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    said = {name: getattr(asked, name) for name in ("images", "eps", "cap", "steps", "all")}
    rows = kept(said) if asked.write else []
    for size in SIZES:
        if asked.only and size.name not in asked.only:
            continue
        for training in TRAININGS:
            if any((row["network"], row["training"]) == (size.name, training) for row in rows):
                continue
            rows.append(measured(size, training, asked, hopeless(rows, size, training)))
            print(line(rows[-1]), flush=True)
            if asked.write:
                write(said, rows)
    print(table(rows))


def kept(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows that were measured under the same settings."""
    if not RESULTS.exists():
        return []
    found = json.loads(RESULTS.read_text())
    return list(found["rows"]) if found["settings"] == said else []


def write(said: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep what there is."""
    machine = {"processor": platform.machine(), "torch": torch.__version__, "threads": 1}
    result = {"settings": said, "machine": machine, "methods": METHODS, "rows": rows}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


def hopeless(rows: Sequence[Mapping[str, Any]], size: Size, training: str) -> set[str]:
    """Methods that decided nothing about a smaller network of this kind and training, in time."""
    found = set()
    for row in rows:
        if (row["kind"], row["training"]) == (size.kind, training) and row["relus"] < size.relus:
            found |= {name for name, own in row["methods"].items() if not own.get("decided")}
    return found


# training


def measured(
    size: Size, training: str, asked: argparse.Namespace, hopeless: set[str]
) -> dict[str, Any]:
    """Train a network and ask every method about it."""
    begun = time.monotonic()
    module = trained(size, training, asked.data_dir, steps=asked.steps, eps=max(asked.eps))
    seconds = time.monotonic() - begun
    test = load("mnist", asked.data_dir)
    images, labels = test.images(range(1000)), test.labels(range(1000))
    with torch.no_grad():
        right = module(images).argmax(1) == labels
    chosen = right.nonzero().squeeze(1)[: asked.images].tolist()
    network = network_of(from_torch(module, SHAPE))
    questions = [(images[i], int(labels[i]), eps) for eps in asked.eps for i in chosen]
    answers = {
        name: [answered(network, name, question, asked.cap) for question in questions]
        for name in METHODS
        if asked.all or name not in hopeless
    }
    return {
        "network": size.name,
        "kind": size.kind,
        "relus": size.relus,
        "training": training,
        "accuracy": float(right.float().mean()),
        "training_seconds": seconds,
        "questions": len(questions),
        "contradictions": contradictions(list(answers.values())),
        "methods": {name: summary(answers.get(name), asked.cap) for name in METHODS},
    }


def trained(
    size: Size, training: str, data_dir: Path, *, steps: int, eps: float, key: int = KEY
) -> nn.Module:
    """By Adam; certified: by interval bounds, half of the loss clean."""
    module = initialise(size.built(), key, "ibp" if training == "certified" else "usual")
    data = load("mnist", data_dir, "train")
    epoch = len(data) // BATCH
    loss = build_loss("gaussian", {"sigma": 0})
    if training == "certified":
        length = steps / epoch
        ramp = {"warmup_epochs": 0.1 * length, "ramp_epochs": 0.6 * length}
        loss = build_loss("ibp", {"sigma": 0, "eps": eps, "kappa": 0.5, **ramp})
    optimizer = torch.optim.Adam(module.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    draw = torch.Generator().manual_seed(key)
    epochs = [torch.randperm(len(data), generator=draw) for _ in range(steps // epoch + 1)]
    order = torch.cat(epochs)
    for step in range(steps):
        chosen = order[step * BATCH : (step + 1) * BATCH].tolist()
        x = data.images(chosen)
        batch = Batch(x, data.labels(chosen), partial(_no_noise, x), step / epoch)
        optimizer.zero_grad()
        loss([module], batch).loss.backward()
        optimizer.step()
        schedule.step()
    return module.eval().requires_grad_(False)


def _no_noise(x: Tensor, draw: int) -> Tensor:
    return torch.zeros_like(x)


# questions


def answered(
    network: Network, method: str, question: tuple[Tensor, int, float], cap: float
) -> Result:
    """One method alone."""
    x, label, eps = question
    at = x.double()
    prop = robust_in_box((at - eps).clamp_min(0), (at + eps).clamp_max(1), label, 10)
    plan = Portfolio(NOTHING, (), NOTHING, engines=(method,), recheck=False)
    return decide(network, prop, cap, plan=plan)


def summary(found: Sequence[Result] | None, cap: float) -> dict[str, Any]:
    """Counts, and the median second of a question, an undecided one counting as the cap."""
    if found is None:
        return {"asked": 0}
    words = Counter(result.word for result in found)
    decided = [result for result in found if result.word in ("sat", "unsat")]
    refused = sorted({result.reason for result in found if result.word in ("unknown", "error")})
    return {
        "asked": len(found),
        "decided": len(decided),
        "answers": dict(words),
        "median_seconds": median(r.seconds if r in decided else cap for r in found),
        "longest_seconds": max(result.seconds for result in found),
        "reasons": refused,
    }


def contradictions(answers: Sequence[Sequence[Result]]) -> int:
    """Questions of which one method says that it holds and another one that it does not."""
    both = {Verdict.VERIFIED, Verdict.FALSIFIED}
    return sum(both <= {one.verdict for one in same} for same in zip(*answers, strict=True))


# tables


def line(row: Mapping[str, Any]) -> str:
    """One network."""
    cells = [cell(row["methods"][name]) for name in METHODS]
    name = f"{row['network']} {row['training']}"
    return f"{name:20} accuracy {row['accuracy']:.3f}  " + "  ".join(f"{c:>16}" for c in cells)


def cell(found: Mapping[str, Any]) -> str:
    """``decided/asked, median s``; a method that was not asked says so."""
    if not found["asked"]:
        return "not asked"
    share = f"{found['decided']}/{found['asked']}"
    if found["decided"]:
        return f"{share}, {found['median_seconds']:.1f} s"
    answers = found["answers"]
    return f"{share}, " + ("timeout" if answers.get("timeout") else "refused")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown."""
    heads = ["ReLUs", "training", "accuracy", *METHODS]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = [cell(row["methods"][name]) for name in METHODS]
        start = [f"{row['relus']:,} ({row['kind']})", row["training"], f"{row['accuracy']:.2f}"]
        lines.append(f"| {' | '.join([*start, *cells])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
