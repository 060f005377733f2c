"""The doctor says what is wrong, and how bad it is, without repairing anything."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phalanx.evaluation.doctor import Level, examine, layers
from phalanx.models.build import build
from phalanx.models.model import InputSpec, Model, ModelCard

X = torch.rand(60, 2, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > X[:, 1]).long()


def linear(scale=1.0, offset=0.0, **card: object) -> Model:
    """Right about `Y` on inputs ``scale * x + offset``."""
    layer = nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]) * 50 / scale
    layer.bias.data.zero_()
    return Model(layer.eval(), InputSpec(shape=(2,)), 2, ModelCard("line", **card))


def levels(model, *data):
    return {finding.check: finding.level for finding in examine(model, *data)}


def test_a_sound_model():
    found = levels(linear(sigma=0.1), X, Y)
    assert set(found.values()) == {Level.OK}
    assert set(found) >= {"model", "mode", "weights", "function", "company", "range", "smoothing"}


def test_without_data_it_says_what_it_could_not_test():
    found = levels(linear())
    assert found["range"] is Level.NOTE
    assert found["smoothing"] is Level.WARNING
    assert found["function"] is Level.OK


def test_without_data_and_shape_nothing_is_run():
    model = Model(nn.Linear(2, 2).eval(), InputSpec(), 2)
    assert levels(model)["function"] is Level.NOTE


class Centred(nn.Module):
    """Expects values in -1 .. 1: one class above 0, the other below."""

    def forward(self, x):
        return torch.stack([-x[:, 0], x[:, 0]], 1) * 50


def test_another_range_is_noticed():
    model = Model(Centred().eval(), InputSpec(shape=(2,)), 2)
    labels = (X[:, 0] > 0.5).long()
    findings = {finding.check: finding for finding in examine(model, X, labels)}
    assert findings["range"].level is Level.WARNING
    assert "values -1 .. 1" in findings["range"].says


def test_data_outside_the_declared_range():
    findings = {finding.check: finding for finding in examine(linear(), 255 * X, Y)}
    assert findings["range"].level is Level.ERROR
    assert "--input-range" in findings["range"].repair


def test_noise_it_was_not_trained_for():
    found = {f.check: f for f in examine(linear(sigma=100.0), X, Y)}["smoothing"]
    assert "of noisy copies keep" in found.says


def test_training_without_noise_is_called_that():
    found = {f.check: f for f in examine(linear(sigma=0.0), X, Y)}["smoothing"]
    assert found.says == "trained without noise"


def broken_weights(model):
    model.network.weight.data[0, 0] = float("nan")


@pytest.mark.parametrize(
    ("harm", "check"), [(broken_weights, "weights"), (lambda model: model.train(), "mode")]
)
def test_errors_stop_the_examination(harm, check):
    model = linear()
    harm(model)
    found = levels(model, X, Y)
    assert found[check] is Level.ERROR
    assert "function" not in found


def test_a_random_network():
    class Noisy(nn.Linear):
        def forward(self, x):
            return super().forward(x) + torch.rand(len(x), 2)

    found = levels(Model(Noisy(2, 2).eval(), InputSpec(shape=(2,)), 2))
    assert found["function"] is Level.ERROR
    assert "company" not in found


def test_layers_that_nothing_bounds_are_a_note_and_rows():
    network = nn.Sequential(nn.Linear(2, 3), nn.ELU(), nn.Softplus(), nn.Linear(3, 2)).eval()
    model = Model(network, InputSpec(shape=(2,)), 2)
    found = {f.check: f for f in examine(model)}["bounds"]
    assert found.level is Level.NOTE
    assert found.says.startswith("2 of 4 layers cannot be bounded, first 'elu' (elu); smoothing")
    assert found.repair == (
        "in layer '1': write relu(x) + alpha * (exp(-relu(-x)) - 1), the same function"
    )
    assert [(row.op, row.bounded) for row in layers(model)] == [
        *(("linear", True), ("elu", False), ("softplus", False), ("linear", True)),
    ]


def test_layers_of_a_model_without_a_graph_are_none():
    assert layers(Model(nn.Linear(2, 2).eval(), InputSpec(), 2)) == []


def test_folding_is_reported():
    model = Model(build("resnet20", 10, (3, 8, 8)).eval(), InputSpec(shape=(3, 8, 8)), 10)
    findings = {finding.check: finding for finding in examine(model)}
    assert findings["folding"].says == "21 of 21 BatchNorm layers can be folded"
    assert "272,474 parameters" in findings["model"].says
