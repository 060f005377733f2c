"""Which classifiers are certified in one pass, and how they are asked for."""

from __future__ import annotations

import pytest

from phalanx.errors import ParameterError
from phalanx.smoothing.choices import Choices
from phalanx.smoothing.classifiers import classifiers_of


def test_each_reducer_brings_its_own_options() -> None:
    names = ("mean", "weighted:1,2,1", "we:1,1,2", "weighted", "soft")
    found = classifiers_of(3, reducer_names=names, each=True)
    labels = ["mean", "weighted:1,2,1", "weighted:1,1,2", "weighted", "softmax"]
    assert [c.name for c in found] == [*labels, "member-0", "member-1", "member-2"]
    assert [c.options for c in found[:4]] == [
        {},
        {"weights": [1.0, 2.0, 1.0]},
        {"weights": [1.0, 1.0, 2.0]},
        {},
    ]
    assert [c.reducer for c in found[1:4]] == ["weighted"] * 3


def test_options_are_those_of_the_first_reducer() -> None:
    names, weights = ("weighted", "weighted", "mean"), {"weights": [1, 3]}
    found = classifiers_of(2, reducer_names=names, options=weights)
    assert [c.name for c in found] == ["weighted:1,3", "weighted", "mean"]
    assert found[0] == classifiers_of(2, reducer_names=["we:1,3.0"])[0]


def test_what_is_asked_for_twice_is_one() -> None:
    names = ("soft", "softmax", "we:1,2", "weighted:1.0,2")
    assert [c.name for c in classifiers_of(2, reducer_names=names)] == ["softmax", "weighted:1,2"]


def test_a_single_model_is_certified_as_it_is() -> None:
    assert [c.name for c in classifiers_of(1, reducer_names=("vote", "we:3"))] == ["model"]


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("mean", r"a sequence of names; repair: \['mean'\]"),
        (["best"], "no reducer called 'best'"),
        (["mean", "best"], "no reducer called 'best'"),
        (["weighted:1,2,1"], "3 weights for [12] members"),
        (["mean", "weighted:a,b"], "one number for each member"),
        ([None], "it is a name"),
    ],
)
def test_what_nobody_can_certify(members: int, names: list[str], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        classifiers_of(members, reducer_names=names)


def test_nothing_to_certify() -> None:
    with pytest.raises(ParameterError, match="nothing to certify"):
        classifiers_of(2, reducer_names=())


def test_one_alternative_leaves_nothing_to_decide():
    Choices().check(2)
    with pytest.raises(ParameterError, match="top is 1"):
        Choices(groups=((0, 1),)).check(2)
