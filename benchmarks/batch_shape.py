"""How many votes move when the batch shape changes.

A run has one batch shape, so that nothing in it can move a vote. Another run may have another
shape or memory format, whose kernels round differently: then a vote moves where two logits tie
within rounding. The same noisy images are classified in batches of several sizes and in both
formats, and compared with the first. The weights are keyed and not trained, and the last bias
is moved so that every class is voted for: the logits lie close together, and ties are far more
frequent than in a network that has learnt something.

Run ``python benchmarks/batch_shape.py``.
"""

from __future__ import annotations

import argparse
import json
import platform
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from phalanx.models.build import build
from phalanx.models.model import InputSpec, Model
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.stream import NormalStream
from phalanx.runs.provenance import cpu_model
from phalanx.runtime.keys import noise_key
from phalanx.smoothing.bank import Layout, MemberBank

RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
NETWORK, SHAPE, CLASSES, SIGMA = "mnist-cnn", (1, 28, 28), 10, 0.5
ROWS = 100
"""Noisy copies of an image."""
BATCHES = (256, 100, 32, 8)
PRECISIONS = ("fp32", "bf16")


def noisy_images(samples: int) -> Tensor:
    """Keyed noise around a new random image every `ROWS` samples: ``(samples, *SHAPE)``."""
    x = torch.empty(samples, *SHAPE)
    draw = torch.Generator().manual_seed(0)
    for index, part in enumerate(x.split(ROWS)):
        stream = NormalStream(noise_key(0, index, "batch-shape", 0), part[0].numel())
        Gaussian(SIGMA).fill(part, torch.rand(SHAPE, generator=draw), stream)
    return x


@torch.inference_mode()
def balanced(x: Tensor) -> Model:
    """The network, with a last bias for which the mean logits of ``x`` are equal."""
    network = build(NETWORK, CLASSES, SHAPE, key=1).eval()
    last = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
    last.bias.sub_(network(x).mean(0))
    return Model(network, InputSpec(shape=SHAPE), CLASSES)


@torch.inference_mode()
def logits(bank: MemberBank, x: Tensor, batch: int) -> Tensor:
    """Logits ``(samples, classes)`` in batches of one size, the last one padded."""
    buffer, found = bank.buffer(batch, x.shape[1:]), []
    for part in x.split(batch):
        buffer[: len(part)].copy_(part)
        found.append(bank.logits(buffer)[0, : len(part)].clone())
    return torch.cat(found)


def compare(model: Model, x: Tensor, precision: str) -> list[dict[str, object]]:
    """One row for each batch size and format, beside the first of them."""
    rows, first = [], torch.empty(0)
    for batch, channels_last in product(BATCHES, (True, False)):
        found = logits(MemberBank([model], Layout(precision, channels_last), CPU), x, batch)
        first = first if len(first) else found
        rows.append(
            {
                "precision": precision,
                "batch": batch,
                "channels_last": channels_last,
                "votes_moved": int((found.argmax(1) != first.argmax(1)).sum()),
                "largest_logit_change": float((found - first).abs().max()),
            }
        )
    return rows


def main() -> None:
    """Measure, print one line, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=8000)
    samples = parser.parse_args().samples
    x = noisy_images(samples)
    model = balanced(x[:1000])
    rows = [row for precision in PRECISIONS for row in compare(model, x, precision)]
    votes = logits(MemberBank([model], Layout(), CPU), x, BATCHES[0]).argmax(1)
    result = {
        "command": "python benchmarks/batch_shape.py",
        "network": f"{NETWORK}, keyed weights, last bias balanced",
        "sigma": SIGMA,
        "samples": samples,
        "votes_by_class": votes.bincount(minlength=CLASSES).tolist(),
        "cpu": cpu_model(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "batch_shape.json").write_text(json.dumps(result, indent=1) + "\n")
    worst = [
        f"{max(int(str(row['votes_moved'])) for row in rows if row['precision'] == p)} in {p}"
        for p in PRECISIONS
    ]
    print(f"votes of {samples:,} that another batch or format moves, at most: {', '.join(worst)}")


if __name__ == "__main__":
    main()
