"""Ensembles: members of any architecture that agree on what they see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phalanx.ensembles.ensemble import Ensemble, reducers
from phalanx.errors import ModelError, ParameterError
from phalanx.models.build import build
from phalanx.models.model import InputSpec, Model, ModelCard
from phalanx.runs.provenance import digest_of

SHAPE = (1, 12, 12)
X = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))


def member(name="mlp", classes=4, key=0, **inputs) -> Model:
    network = build(name, classes, SHAPE, key=key)
    spec = InputSpec(**({"shape": SHAPE} | inputs))
    return Model(network, spec, classes, ModelCard(f"{name}-{key}", name)).eval()


@pytest.fixture(scope="module")
def mixed():
    return [
        member("mlp"),
        member("lenet5", key=1),
        member("mnist-cnn", key=2, mean=(0.1,), std=(0.3,)),
    ]


def test_members_are_an_axis(mixed):
    ensemble = Ensemble(mixed)
    logits = ensemble.member_logits(X)
    assert logits.shape == (3, 5, 4)
    for index, model in enumerate(mixed):
        assert torch.equal(logits[index], model(X))
    assert torch.allclose(ensemble(X), logits.mean(0))


@pytest.mark.parametrize("name", reducers.names())
def test_every_reducer_on_different_architectures(mixed, name):
    assert Ensemble(mixed, name)(X).shape == (5, 4)


def test_identical_members_decide_as_one():
    for name in reducers.names():
        ensemble = Ensemble([member(key=3)] * 3, name)
        assert torch.equal(ensemble(X).argmax(-1), member(key=3)(X).argmax(-1)), name


def test_identity_knows_order_reducer_and_options(mixed):
    def identity(members, *reducer, **options):
        return Ensemble(members, *reducer, **options).identity()

    assert identity(mixed) == identity(mixed, "mean")
    assert identity(mixed, "we")["reducer"] == "weighted"
    distinct = [
        identity(mixed),
        identity(mixed[::-1]),
        identity(mixed, "vote"),
        identity(mixed, "we", weights=[1, 1, 2]),
        identity(mixed, "we", weights=[1, 2, 1]),
        identity(mixed[:2]),
    ]
    assert len({repr(value) for value in distinct}) == len(distinct)


def test_weights_are_said_in_many_ways_and_are_one_classifier(mixed):
    said = [
        Ensemble(mixed, "weighted", weights=torch.tensor([1, 2, 1])),
        Ensemble(mixed, "we", weights=np.array([1.0, 2, 1])),
        Ensemble(mixed, "weighted:1,2,1"),
    ]
    assert len({digest_of(ensemble.identity()) for ensemble in said}) == 1
    assert said[0].reducer_options == {"weights": [1.0, 2.0, 1.0]}


def test_from_models_flattens(mixed):
    ensemble = Ensemble.from_models([Ensemble(mixed[:2]), mixed[2]], "vote")
    assert ensemble.models == tuple(mixed)
    assert ensemble.reducer_name == "vote"


def test_the_mode_is_that_of_the_members(mixed):
    assert not any(part.training for part in Ensemble(mixed).modules())
    assert Ensemble([member().train()]).training


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (lambda: member(classes=5), "classes 5.*has 4"),
        (lambda: member(range=(0, 255)), r"input range \(0.0, 255.0\)"),
        (lambda: Model(member().network, InputSpec(shape=(144,)), 4), r"input shape \(144,\)"),
    ],
)
def test_members_that_disagree(other, says):
    with pytest.raises(ModelError, match=f"member 1.*{says}"):
        Ensemble([member(), other()])


def test_a_member_that_takes_any_shape_is_welcome():
    assert len(Ensemble([member(), Model(member().network, InputSpec(), 4)]).models) == 2


def test_nothing_is_not_an_ensemble():
    with pytest.raises(ModelError, match="without members"):
        Ensemble([])
    with pytest.raises(ParameterError, match=r"called .median."):
        Ensemble([member()], "median")


def test_options_that_do_not_suit_the_members_are_refused_at_once():
    with pytest.raises(ParameterError, match="3 weights for 2 members"):
        Ensemble([member(), member(key=1)], "weighted", weights=[1, 2, 3])
