"""Identities tell models apart, and nothing that does not matter does."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import ModelError
from phalanx.models.build import build
from phalanx.models.declaration import Declaration, wrap
from phalanx.models.digest import code_digest, model_identity, tensors_digest, weights_digest
from phalanx.models.model import InputSpec, Model, ModelCard


def test_one_bit_matters_and_layout_does_not():
    network = build("resnet20", 10, (3, 32, 32))
    before = weights_digest(network)
    assert weights_digest(network.to(memory_format=torch.channels_last)) == before
    network.bn1.running_mean[0] += 1e-7
    assert weights_digest(network) != before


def test_names_dtypes_and_shapes_matter():
    zeros = torch.zeros(4)
    others = [
        {"b": zeros},
        {"a": zeros.view(2, 2)},
        {"a": zeros.int()},
        {"a": zeros[:0], "b": zeros},
        {"a": zeros.bfloat16()},
    ]
    digests = {tensors_digest(tensors) for tensors in [{"a": zeros}, *others]}
    assert len(digests) == 6


def test_equal_weights_under_other_code_are_another_model():
    def identity(*layers, **inputs):
        model = Model(nn.Sequential(*layers), InputSpec(**inputs), 3)
        return json.dumps(model_identity(model), sort_keys=True)

    torch.manual_seed(0)
    linear = nn.Linear(4, 3)
    known = [
        identity(linear, nn.ReLU()),
        identity(linear, nn.Tanh()),
        identity(linear, nn.ReLU(), mean=(0.5,), std=(1.0,)),
        identity(linear, nn.ReLU(), range=(0, 255)),
    ]
    assert len(set(known)) == 4
    assert identity(linear, nn.ReLU()) == known[0]


def test_code_is_the_file_of_the_class():
    class Mine(nn.Module):
        pass

    class Other(nn.Module):
        pass

    assert code_digest(Mine()) == code_digest(Mine())
    assert code_digest(Mine()) != code_digest(Other())


class Temperature(nn.Module):
    """Its class depends on a plain attribute."""

    def __init__(self, k):
        super().__init__()
        self.k = k

    def forward(self, x):
        return x.roll(self.k, -1)


def test_attributes_are_part_of_a_model():
    identities = [model_identity(Model(Temperature(k), InputSpec(), 3)) for k in (0, 1, 1)]
    assert identities[0] != identities[1] == identities[2]


def test_reducers_are_told_apart_inside_a_model():
    torch.manual_seed(0)
    members = [Model(nn.Linear(4, 3), InputSpec(), 3) for _ in range(2)]
    options = [{}, {"weights": [1.0, 2.0]}, {"weights": [2.0, 1.0]}]
    found = [Ensemble(members, "mean"), Ensemble(members, "vote")]
    found += [Ensemble(members, "weighted", **option) for option in options[1:]]
    codes = {model_identity(Model(ensemble, InputSpec(), 3))["code"] for ensemble in found}
    assert len(codes) == 4


def test_an_ensemble_is_not_wrapped_as_one_network():
    members = [Model(nn.Linear(4, 3), InputSpec(), 3) for _ in range(2)]
    said = Declaration(input_range=(0, 1), classes=3, normalised_inside=True)
    for network in (Ensemble(members), nn.Sequential(members[0], nn.Tanh())):
        with pytest.raises(ModelError, match=r"know their inputs already.*--reducer"):
            wrap(network, said)


def hooked(network):
    network.register_forward_hook(lambda module, inputs, output: output.flip(-1))
    return network


def replaced(network):
    network.forward = lambda x: x
    return network


def widened(network):
    network.append(nn.Tanh())
    return network


def leaky(network):
    network[2] = nn.LeakyReLU()
    return network


@pytest.mark.parametrize("change", [hooked, replaced, widened, leaky])
def test_a_name_does_not_hide_other_code(change):
    network = change(build("mlp", 3, (4,)))
    for name in ("mlp", "mine"):
        identity = model_identity(Model(network, InputSpec(shape=(4,)), 3, ModelCard("m", name)))
        assert identity["code"] == code_digest(network)


def test_a_name_of_ones_own_is_no_name():
    network = nn.Sequential(nn.Linear(4, 3))
    identity = model_identity(Model(network, InputSpec(shape=(4,)), 3, ModelCard("m", "mynet")))
    assert (identity["architecture"], identity["code"]) == ("mynet", code_digest(network))


def test_named_networks_are_identified_by_name():
    network = build("mlp", 3, (4,))
    identity = model_identity(Model(network, InputSpec(shape=(4,)), 3, ModelCard("m", "mlp")))
    assert (identity["architecture"], identity["code"]) == ("mlp", None)
    assert identity["weights"] == weights_digest(network)
