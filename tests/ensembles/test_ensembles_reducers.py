"""Every reducer against its definition written out in numpy, and against hidden NaNs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from phalanx.ensembles.ensemble import INVALID_VOTE, choose_reducer, decide, make_reducer, reducers
from phalanx.errors import ParameterError

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(2, 6))
# Quarters make ties likely, and every sum of them exact.
QUARTERS = st.integers(-40, 40).map(lambda k: k / 4)
LOGITS = SHAPES.flatmap(lambda shape: arrays(np.float32, shape, elements=QUARTERS))


def confidences(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def by_vote(logits):
    scores = np.zeros(logits.shape[1:])
    for member in logits:
        for row, values in enumerate(member):
            scores[row, min(c for c, v in enumerate(values) if v == values.max())] += 1
    return scores


def by_max_margin(logits):
    p = confidences(logits)
    best, second = np.sort(p, -1)[..., -1], np.sort(p, -1)[..., -2]
    # float32 decides ties between members; the reference must see the same ties.
    margins = (best.astype(np.float32) - second.astype(np.float32)).round(5)
    return np.stack([p[margins[:, row].argmax(), row] for row in range(p.shape[1])])


REFERENCES = {
    "mean": lambda logits: logits.astype(np.float64).mean(0),
    "softmax": lambda logits: confidences(logits).mean(0),
    "weighted": lambda logits: confidences(logits).mean(0),
    "vote": by_vote,
    "max-margin": by_max_margin,
}


def test_every_reducer_has_a_reference():
    assert set(REFERENCES) == set(reducers.names())


def clear_leader(logits):
    p = np.sort(confidences(logits), -1)
    margins = np.sort(p[..., -1] - p[..., -2], 0)
    return len(logits) == 1 or bool((margins[-1] - margins[-2] > 1e-4).all())


@pytest.mark.parametrize("name", sorted(REFERENCES))
@settings(max_examples=40, deadline=None)
@given(logits=LOGITS)
def test_scores_agree_with_the_definition(name, logits):
    if name == "max-margin" and not clear_leader(logits):
        return
    scores = make_reducer(name, {})(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(scores, REFERENCES[name](logits), rtol=1e-5, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(logits=LOGITS, data=st.data())
def test_weights(logits, data):
    member = st.floats(0, 100).map(lambda w: round(w, 2))
    weights = data.draw(st.lists(member, min_size=len(logits), max_size=len(logits)).filter(any))
    expected = np.tensordot(np.array(weights) / sum(weights), confidences(logits), 1)
    scores = make_reducer("we", {"weights": weights})(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_ties_between_members_go_to_the_lowest_index():
    logits = torch.tensor([[[0.0, 2.0, 0.0]], [[2.0, 0.0, 0.0]], [[0.0, 0.0, 2.0]]])
    assert decide(make_reducer("mme", {}), logits).tolist() == [1]


def test_ties_between_classes_go_to_the_lowest_index():
    logits = torch.tensor([[[0.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]]])
    for name in ("mean", "soft", "we", "vote"):
        assert decide(make_reducer(name, {}), logits).tolist() == [1], name
    assert decide(make_reducer("vote", {}), torch.zeros(2, 1, 3)).tolist() == [0]


@pytest.mark.parametrize("name", sorted(REFERENCES))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_broken_logit_is_not_hidden(name, value):
    reducer = make_reducer(name, {})
    for member in range(3):
        logits = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(member))
        logits[member, 1, 2] = value
        scores = reducer(logits)
        assert torch.isfinite(scores[0]).all()
        assert not torch.isfinite(scores[1]).all()
        assert decide(reducer, logits)[1] == INVALID_VOTE


def test_a_weight_of_zero_hides_nothing():
    logits = torch.zeros(2, 1, 3)
    logits[1] = float("nan")
    assert decide(make_reducer("weighted", {"weights": [1, 0]}), logits).tolist() == [INVALID_VOTE]


@pytest.mark.parametrize("weights", [[], [0, 0], [-1, 2], [float("nan"), 1], [float("inf"), 1]])
def test_weights_that_mean_nothing(weights):
    with pytest.raises(ParameterError, match="finite, at least 0"):
        make_reducer("weighted", {"weights": weights})


def test_weights_of_another_ensemble():
    with pytest.raises(ParameterError, match="2 weights for 3 members"):
        make_reducer("weighted", {"weights": [1, 2]})(torch.zeros(3, 1, 2))


def test_unknown_reducers_and_options():
    with pytest.raises(ParameterError, match="max-margin, mean, softmax, vote, weighted"):
        make_reducer("median", {})
    with pytest.raises(ParameterError, match="'mean' does not take the options"):
        make_reducer("mean", {"weights": [1]})


def test_half_precision_logits_are_reduced_in_float32():
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    for name in reducers.names():
        reducer = make_reducer(name, {})
        assert torch.equal(decide(reducer, logits), decide(reducer, logits.float())), name


@pytest.mark.parametrize(
    "options",
    [
        {"weights": [1, 2.0, 0.5]},
        {"weights": (1, 2, 0.5)},
        {"weights": np.array([1, 2, 0.5])},
        {"weights": np.array([1, 2, 0.5], dtype=np.float32)},
        {"weights": torch.tensor([1, 2, 0.5])},
    ],
)
@pytest.mark.parametrize("name", ["weighted", "we"])
def test_weights_are_one_identity_however_they_are_said(name, options):
    choice = choose_reducer(name, options)
    assert choice == ("weighted:1,2,0.5", "weighted", {"weights": [1.0, 2.0, 0.5]})
    assert choose_reducer("we:1, 2,.50") == choice
    assert choose_reducer(choice.label) == choice
    json.dumps(choice.options)


def test_a_reducer_without_options_is_called_by_its_name():
    assert choose_reducer("soft") == ("softmax", "softmax", {})
    assert choose_reducer("weighted") == ("weighted", "weighted", {})
    assert choose_reducer("weighted", {"weights": None}) == ("weighted", "weighted", {})


@given(st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=5).filter(any))
def test_weights_survive_being_spelled(weights):
    label, _, options = choose_reducer("weighted", {"weights": weights})
    assert choose_reducer(label).options == options == {"weights": weights}


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("best", None, "no reducer called 'best'"),
        ("best:1,2", None, "no reducer called 'best'"),
        ("mean:1,2", None, "'mean' takes no options"),
        ("weighted:", None, "one number for each member"),
        ("weighted:1,,2", None, "one number for each member"),
        ("weighted:1,two", None, "one number for each member"),
        ("weighted:1,-2", None, "finite, at least 0"),
        ("weighted:nan,1", None, "finite, at least 0"),
        ("weighted:0,0", None, "finite, at least 0"),
        ("weighted:1e308,1e308", None, "finite, at least 0"),
        ("weighted:1,2", {"weights": [1, 2]}, "given twice"),
        ("weighted", {"weights": "12"}, "one number for each member"),
        ("weighted", {"weights": ["1", "2"]}, "one number for each member"),
        ("weighted", {"weights": [True, False]}, "one number for each member"),
        ("weighted", {"weights": [[1], [2]]}, "one number for each member"),
        ("weighted", {"weights": 3}, "one number for each member"),
        ("weighted", {"weight": [1, 2]}, "does not take the options"),
        (None, None, "it is a name"),
    ],
)
def test_choices_that_mean_nothing(text, options, says):
    with pytest.raises(ParameterError, match=says):
        choose_reducer(text, options)
