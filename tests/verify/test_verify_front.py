"""``phalanx.verify`` is a room and a function; properties come in several ways."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from verify_nets import case, reaches, tent

import phalanx
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import NonFiniteError, ParameterError, QueryError
from phalanx.models.model import InputSpec, Model
from phalanx.specs.robustness import robust
from phalanx.verdicts import Verdict
from phalanx.verify.front import property_of, verify
from phalanx.verify.network import network_of

TEXT = """(declare-const X_0 Real)(declare-const X_1 Real)
(declare-const Y_0 Real)(declare-const Y_1 Real)
(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 -1))(assert (<= X_1 1))
(assert (>= Y_0 2.5))
"""


def test_the_room_is_a_function(tmp_path: Path) -> None:
    path = tmp_path / "p.vnnlib"
    path.write_text(TEXT)
    assert phalanx.verify(tent(), path, timeout=60).verdict is Verdict.VERIFIED  # type: ignore[operator]
    assert verify(tent(), reaches(1.0), 60).verdict is Verdict.FALSIFIED
    assert verify(tent(), case([[-1, 0]], [2.5]), 60).word == "unsat"
    with pytest.raises(ParameterError, match="a property of type"):
        property_of(3)  # type: ignore[arg-type]
    with pytest.raises(QueryError):
        property_of(tmp_path / "absent.vnnlib")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused_once(value: float) -> None:
    graph = tent()
    layer = next(node for node in graph if node.op == "linear")
    layer.tensors["weight"][0, 0] = value
    with pytest.raises(NonFiniteError, match="weight with NaN"):
        verify(graph, reaches(1.0), 60)


def test_a_model_is_verified_in_its_own_units() -> None:
    """The normalisation is inside: ``|2 x| + ...`` reaches 2 where x reaches a half."""
    from phalanx.graph.run import GraphNetwork

    inputs = InputSpec(range=(-1.0, 1.0), mean=(0.0, 0.0), std=(0.5, 0.5), shape=(2,))
    model = Model(GraphNetwork(tent()), inputs, 2)
    assert verify(model, case([[-1, 0]], [2.5], side=0.5), 60).word == "unsat"
    found = verify(model, case([[-1, 0]], [2.5]), 60)
    assert found.witness is not None
    assert found.witness.y[0] >= 2.5
    assert found.witness.x.abs().max() <= 1


@pytest.mark.parametrize("reducer", ["mean", "softmax", "weighted:1,3"])
def test_an_ensemble_is_one_network_of_its_scores(reducer: str) -> None:
    torch.manual_seed(0)
    inputs = InputSpec(range=(0.0, 1.0), shape=(3,))
    members = [
        Model(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3)).eval(), inputs, 3)
        for _ in range(2)
    ]
    ensemble = Ensemble(members, reducer)
    x = torch.rand(6, 3)
    network = network_of(ensemble)
    expected = ensemble(x).detach().double()
    assert torch.allclose(network.answers(x.double()), expected, atol=1e-6)
    for row, score in zip(x, expected, strict=True):
        for answer in network.runtime(row):
            assert torch.allclose(answer, score, atol=1e-6)
    label = int(expected[0].argmax())
    near = verify(ensemble, robust(x[0], 1e-3, label, 3), 60)
    assert near.verdict is Verdict.VERIFIED
    wrong = verify(ensemble, robust(x[0], 1e-3, (label + 1) % 3, 3), 60)
    assert wrong.verdict is Verdict.FALSIFIED
    assert wrong.witness is not None
    assert wrong.witness.runtime == "torch"


def test_a_vote_is_no_network() -> None:
    members = [Model(nn.Linear(2, 2).eval(), InputSpec(shape=(2,)), 2) for _ in range(3)]
    with pytest.raises(ParameterError, match="'vote' makes no network"):
        network_of(Ensemble(members, "vote"))
