"""Models that must be refused, each for its own reason and in plain words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phalanx.errors import ModelError, NonFiniteError
from phalanx.models.build import build, networks
from phalanx.models.model import InputSpec, Model
from phalanx.models.resolve import usual
from phalanx.models.validate import company_gap, probe, validate

X = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))


def model_of(forward, classes=3) -> Model:
    class Network(nn.Module):
        def forward(self, x):
            return forward(x)

    return Model(Network().eval(), InputSpec(), classes)


def test_a_sound_model_passes():
    model = Model(build("mlp", 3, (4,)).eval(), InputSpec(), 3)
    validate(model)
    assert probe(model, X).shape == (4, 3)
    assert probe(model, X[:1]).shape == (1, 3)


@pytest.mark.parametrize(
    "name", [n for n in networks.names() if n not in ("resnet50", "resnet110")]
)
def test_every_network_is_independent_of_its_company(name):
    classes, shape = usual(name)
    model = Model(build(name, classes, shape, key=3).eval(), InputSpec(), classes)
    validate(model)
    assert probe(model, torch.rand(2, *shape)).shape == (2, classes)


def test_one_dropout_left_in_training_mode():
    network = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).eval()
    network[1].train()
    with pytest.raises(ModelError, match=r"training mode \(Dropout 'network.1'\).*call \.eval\(\)"):
        validate(Model(network, InputSpec(), 3))


def test_wrapping_keeps_the_mode():
    validate(Model(nn.Linear(4, 3).eval(), InputSpec(), 3))
    with pytest.raises(ModelError, match="training mode"):
        validate(Model(nn.Linear(4, 3), InputSpec(), 3))


def test_batchnorm_without_statistics():
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)).eval()
    with pytest.raises(ModelError, match="BatchNorm1d '1' has no running statistics"):
        validate(network)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights(value):
    network = nn.Linear(4, 3).eval()
    network.weight.data[1, 2] = value
    with pytest.raises(ModelError, match="1 of 12 numbers in 'weight' are not finite"):
        validate(network)


def fails(x):
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        (fails, r"inputs of shape \(4, 4\) failed: RuntimeError: mat1"),
        (lambda x: x[:, :2], r"shape \(4, 2\).*--classes"),
        (lambda x: x[:, 0], r"logits of shape \(4,\)"),
        (lambda x: x[:, :3].argsort(), "returned torch.int64"),
        (lambda x: [x], "returned list"),
        (lambda x: x[:, :3] + torch.rand(4, 3), "two different answers"),
        (lambda x: nn.functional.dropout(x[:, :3]), "two different answers"),
        (lambda x: x[:, :3] - x[:, :3].mean(0), "depend on the other inputs"),
        (lambda x: x[:, :3] + torch.arange(len(x)).view(-1, 1), "depend on the other inputs"),
    ],
)
def test_probe_refuses(forward, says):
    with pytest.raises(ModelError, match=says):
        probe(model_of(forward), X)


class MinMax(nn.Module):
    """Scales by the smallest and largest value of the batch, 0 and 1 for every clean image."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer((x - x.min()) / (x.max() - x.min()))


@pytest.mark.parametrize("sigma", [None, 0.05, 1.0])
def test_company_that_noise_alone_betrays(sigma):
    x = torch.cat([torch.zeros(4, 1), torch.ones(4, 1), X[:, :2]], dim=1)
    model = Model(MinMax().eval(), InputSpec(), 3)
    with pytest.raises(ModelError, match="depend on the other inputs"):
        probe(model, x, sigma)
    stored = Model(nn.Linear(4, 3).eval(), InputSpec(), 3)
    assert company_gap(stored, x, sigma) < 1e-6


def test_company_that_breaks_logits_is_seen():
    forward = lambda x: x[:, :3] / (x.max() < 1.5)  # noqa: E731
    assert company_gap(model_of(forward), X, 0.3) == float("inf")
    own = lambda x: torch.where(x[:, :1] > 1.0, float("nan"), x[:, :3])  # noqa: E731
    assert company_gap(model_of(own), X, 1.0) == 0


def test_probing_leaves_inputs_and_sees_the_mode_of_a_run():
    x = X.clone()
    probe(model_of(lambda x: x.clamp_(0, 0.5)[:, :3]), x)
    assert torch.equal(x, X)
    with torch.enable_grad():
        logits = probe(model_of(lambda x: x[:, :3] * torch.is_grad_enabled()), X)
    assert not logits.any()


def test_probe_counts_broken_logits():
    forward = lambda x: torch.where(x[:, :3] == x[0, 0], float("nan"), x[:, :3])  # noqa: E731
    with pytest.raises(NonFiniteError, match="1 of 12 logits"):
        probe(model_of(forward), X)
