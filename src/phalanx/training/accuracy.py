"""A first look at a trained member; the certificate is another matter."""

from __future__ import annotations

from collections.abc import Sequence
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
COLLAPSED = 0.99
RIGHT = 0.7
"""A member that gives so many test images one class, and so many of them wrongly, collapsed."""


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
        sigma: noise level in input units; 0: no accuracy under noise is measured.
        seed: of the noise, which is the same for every member.
        law: its distribution at level 1.

    Returns:
        ``images``, ``clean_accuracy``, with noise ``noisy_accuracy``, and ``one_class``: the share
        of clean images that get the most common answer.
    """
    indices = dataset.select(every=max(1, len(dataset) // IMAGES), limit=IMAGES)
    stream = NormalStream(noise_key("train", seed, "heldout"), dataset.images([0]).numel())
    noisy, answers, classes = 0, [], []
    for first in range(0, len(indices), BATCH):
        chosen = indices[first : first + BATCH]
        x, y = dataset.images(chosen), dataset.labels(chosen)
        answers.append(model(x).argmax(-1))
        classes.append(y)
        if sigma == 0:
            continue
        noise = torch.empty(x.shape)
        law.fill(noise, torch.zeros(x.shape[1:]), stream)
        noisy += int((model(x + sigma * noise).argmax(-1) == y).sum())
    given = torch.cat(answers)
    return {
        "images": len(indices),
        "clean_accuracy": int((given == torch.cat(classes)).sum()) / len(indices),
        **({"noisy_accuracy": noisy / len(indices)} if sigma else {}),
        "one_class": int(given.bincount().max()) / len(indices),
    }


def said_of_collapse(models: Sequence[Model]) -> list[str]:
    """A line for each member that gives (nearly) all test images one class."""
    said = []
    for member, model in enumerate(models):
        heldout = model.card.extra.get("heldout", {})
        uniform = heldout.get("one_class", 0.0) >= COLLAPSED
        if uniform and heldout["clean_accuracy"] < RIGHT:  # else the images are of one class
            said.append(
                f"member {member} has collapsed: {heldout['one_class']:.0%} of the test images get"
                f" one class, {heldout['clean_accuracy']:.0%} rightly; repair: a smaller"
                " optimizer.lr or a larger schedule.warmup_epochs, with another --out"
            )
    return said
