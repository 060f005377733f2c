"""Noise around a classifier that draws by itself is refused, however it says so."""

from __future__ import annotations

import pytest
import torch
from attacks_helpers import network, points
from torch import nn

import phalanx
from phalanx.ensembles.ensemble import Ensemble
from phalanx.ensembles.random_ensemble import RandomEnsemble
from phalanx.errors import ModelError, ParameterError
from phalanx.models.model import InputSpec, Model


class Members(nn.Module):
    """Declares its members; answers with the first."""

    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList([network(0).network, network(1).network])
        self.probabilities = [0.5, 0.5]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.members[0](x)


class Handed(nn.Module):
    """Draws from a generator that it is handed."""

    def forward(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return x.flatten(1)[:, :4] + torch.rand(1, generator=generator)


class Hidden(nn.Module):
    """Draws and does not say so."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :4] + torch.rand(len(x), 4)


def _model(network_: nn.Module) -> Model:
    return Model(network_.eval(), InputSpec((0.0, 1.0)), 4)


@pytest.mark.parametrize("kind", ["drawn", "reducer", "members", "generator"])
def test_noise_around_a_random_classifier_is_refused(kind: str) -> None:
    pair = [network(0), network(1)]
    x, y = points(pair[0], 3)
    model, more = {
        "drawn": (RandomEnsemble(Ensemble(pair), 1), {}),
        "reducer": (pair, {"reducer": "random-member"}),
        "members": (_model(Members()), {}),
        "generator": (_model(Handed()), {}),
    }[kind]
    with pytest.raises(ParameterError, match="around a random classifier"):
        phalanx.attack(model, x, y, attack="square", eps=0.1, sigma=0.25, **more)


def test_noise_around_a_network_that_draws_in_secret_is_refused() -> None:
    x, y = points(network(), 3)
    with pytest.raises(ModelError, match="different answers"):
        phalanx.attack(_model(Hidden()), x, y, attack="square", eps=0.1, sigma=0.25)
