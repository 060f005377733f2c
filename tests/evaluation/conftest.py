"""Small models and requests for sweeps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phalanx.data.arrays import from_arrays
from phalanx.evaluation.config import CertifyConfig
from phalanx.evaluation.request import OPEN, Request
from phalanx.models.model import InputSpec, Model
from phalanx.smoothing.classifiers import classifiers_of

SHAPE = (1, 4, 4)


def small_model(seed: int = 0, classes: int = 3) -> Model:
    """A linear model with keyed weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
    return Model(network.eval(), InputSpec((0.0, 1.0), shape=SHAPE), classes)


def small_request(images: int = 6, members: int = 2, labels: bool = True, **config) -> Request:
    """A request over random images, ready for `settle`."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(images, *SHAPE, generator=generator)
    y = torch.randint(0, 3, (images,), generator=generator) if labels else None
    options: dict = {"sigma": 0.25, "n": 500, "n0": 50, "chunk": 200, "batch": 64, **config}
    return Request(
        models=[small_model(seed) for seed in range(members)],
        classifiers=classifiers_of(members, each=True) if members > 1 else classifiers_of(1),
        dataset=from_arrays(x, y),
        indices=list(range(images)),
        config=CertifyConfig(**options),
        device=torch.device("cpu"),
        open=tuple(name for name in OPEN if options.get(name) in (None, [])),
    )


@pytest.fixture
def request_of():
    """Factory of requests."""
    return small_request


@pytest.fixture
def model_of():
    """Factory of models: ``model_of(seed, classes)``."""
    return small_model
