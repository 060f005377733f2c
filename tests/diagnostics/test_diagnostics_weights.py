"""SWEEN's weights: the minimum of a convex loss, found by other means too."""

import json

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from phalanx.data.arrays import from_arrays
from phalanx.diagnostics.collect import collect
from phalanx.diagnostics.weights import learn_weights, log_loss, mixture_weights
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import DataError, ParameterError
from phalanx.models.build import build
from phalanx.models.checkpoint import save
from phalanx.models.model import InputSpec, Model, ModelCard

SIGMA = 0.5


@pytest.mark.parametrize("seed", range(5))
def test_no_weights_are_better(seed):
    draw = np.random.default_rng(seed)
    confidences = draw.beta(*draw.uniform(0.3, 3, 2), (4, 300))
    found, logs = mixture_weights(confidences), np.log(confidences)
    assert found.sum() == pytest.approx(1)
    assert found.min() >= 0
    start = np.full(4, 0.25)
    other = minimize(
        log_loss,
        start,
        (logs,),
        method="SLSQP",
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-13, "maxiter": 500},
    )
    assert log_loss(found, logs) <= other.fun + 1e-6
    for _ in range(200):
        assert log_loss(found, logs) <= log_loss(draw.dirichlet(start), logs) + 1e-6


def member(scale: float) -> Model:
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.copy_(scale * torch.eye(2))
        network.bias.zero_()
    return Model(network.eval(), InputSpec((-1.0, 1.0), shape=(2,)), 2)


def data(labelled: bool = True):
    x = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return from_arrays(x, (x[:, 1] > x[:, 0]).long() if labelled else None, value_range=(-1, 1))


def test_a_member_that_is_always_wrong_counts_nothing():
    right, wrong = member(4.0), member(-4.0)
    ensemble = Ensemble([right, wrong])
    found = learn_weights(ensemble, data(), list(range(40)), 0.1, 8)
    assert found.weights == (1.0, 0.0)
    assert found.reducer == "weighted:1,0"
    assert found.loss == pytest.approx(found.loss_best_member)
    assert found.loss < found.loss_equal
    one = torch.cat(
        [collect(ensemble, x, 0.1, 8, image=i) for i, x in enumerate(data().images(range(40)))], 1
    )
    y = data().labels(range(40)).repeat_interleave(8)
    assert found.loss == pytest.approx(nn.functional.cross_entropy(one[0], y).item(), abs=1e-9)


def test_what_cannot_be_weighed_is_refused():
    with pytest.raises(ParameterError, match="one member"):
        learn_weights(Ensemble([member(1.0)]), data(), [0], SIGMA)
    with pytest.raises(DataError, match="no labels"):
        learn_weights(Ensemble([member(1.0)] * 2), data(labelled=False), [0], SIGMA)


def test_the_command_says_what_certify_takes(command, tmp_path):
    for key in range(2):
        card = ModelCard(f"m{key}", "mlp", {"hidden": [16]}, sigma=SIGMA)
        network = build("mlp", 10, (1, 8, 8), key=key, hidden=[16]).eval()
        save(Model(network, InputSpec(shape=(1, 8, 8)), 10, card), tmp_path / f"member-{key}")
    words = ["weigh", tmp_path, "--limit", "20", "--samples", "4"]
    code, out, err = command(*words, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert sum(found["weights"]) == pytest.approx(1, abs=2e-4)
    assert found["loss"] <= min(found["loss_equal"], found["loss_best_member"]) + 1e-4
    code, out, _ = command(*words)
    assert f"--reducer {found['reducer']}" in out
    arguments = ["--n", "50", "--n0", "10", "--limit", "2", "--reducer", found["reducer"]]
    assert command("certify", tmp_path, *arguments, "--out", tmp_path / "run")[0] == 0
