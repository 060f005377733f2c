"""Identities tell models apart, and nothing that does not matter does."""

from __future__ import annotations

import json

import torch
from torch import nn

from phalanx.models.build import build
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


def test_named_networks_are_identified_by_name():
    network = build("mlp", 3, (4,))
    identity = model_identity(Model(network, InputSpec(shape=(4,)), 3, ModelCard("m", "mlp")))
    assert (identity["architecture"], identity["code"]) == ("mlp", None)
    assert identity["weights"] == weights_digest(network)
