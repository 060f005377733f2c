"""A first look at a trained member; the certificate is another matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from phalanx.data.dataset import Dataset
from phalanx.data.locate import load
from phalanx.models.model import Model
from phalanx.noise.distributions import Noise
from phalanx.noise.stream import NormalStream
from phalanx.runtime.keys import noise_key

IMAGES = 1000
BATCH = 250


def heldout_data(name: str, data_dir: Path | None, training: Dataset) -> Dataset | None:
    """The test images, or None where they have no labels or are the training images.

    A lone ``.npz`` file and a lone folder of classes are the same for both splits.
    """
    test = load(name, data_dir, "test")
    same = test.card.checksums == training.card.checksums and len(test) == len(training)
    return test if test.labelled and not same else None


@torch.inference_mode()
def heldout_accuracy(
    model: Model, dataset: Dataset, sigma: float, seed: int, law: Noise
) -> dict[str, Any]:
    """Accuracy on about a thousand evenly spaced test images, clean and under one noise each.

    Args:
        model: in evaluation mode, on the CPU; computed in float32.
        dataset: labelled test data.
        sigma: noise level in input units.
        seed: of the noise, which is the same for every member.
        law: its distribution at level 1.

    Returns:
        ``images``, ``clean_accuracy`` and ``noisy_accuracy``.
    """
    indices = dataset.select(every=max(1, len(dataset) // IMAGES), limit=IMAGES)
    stream = NormalStream(noise_key("train", seed, "heldout"), dataset.images([0]).numel())
    clean = noisy = 0
    for first in range(0, len(indices), BATCH):
        chosen = indices[first : first + BATCH]
        x, y = dataset.images(chosen), dataset.labels(chosen)
        clean += int((model(x).argmax(-1) == y).sum())
        noise = torch.empty(x.shape)
        law.fill(noise, torch.zeros(x.shape[1:]), stream)
        noisy += int((model(x + sigma * noise).argmax(-1) == y).sum())
    return {
        "images": len(indices),
        "clean_accuracy": clean / len(indices),
        "noisy_accuracy": noisy / len(indices),
    }
