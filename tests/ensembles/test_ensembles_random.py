"""Random ensembles: who is drawn, and what every draw together is worth."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from phalanx.ensembles.ensemble import Ensemble, make_reducer
from phalanx.ensembles.random_ensemble import RandomEnsemble, draws, subsets_of
from phalanx.errors import ParameterError
from phalanx.models.build import build
from phalanx.models.model import InputSpec, Model, ModelCard

SHAPE = (1, 12, 12)
X = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3, 0, 1])


def member(key):
    network = build("mlp", 4, SHAPE, key=key)
    return Model(network, InputSpec(shape=SHAPE), 4, ModelCard(f"m{key}", "mlp")).eval()


@pytest.fixture(scope="module")
def ensemble():
    return Ensemble([member(key) for key in range(5)])


@pytest.mark.parametrize("drawn", [1, 2, 5])
@torch.no_grad()
def test_company_order_and_shards_change_nobody_s_draw(ensemble, drawn):
    random = RandomEnsemble(ensemble, drawn)
    samples = [10, 11, 12, 13, 14, 15]
    whole = random.scores(X, samples, seed=3)
    assert torch.equal(random.draw(samples, 3)[2:3], random.draw([12], 3))
    alone = torch.cat([random.scores(X[i : i + 1], [s], seed=3) for i, s in enumerate(samples)])
    back = random.scores(X.flip(0), samples[::-1], seed=3).flip(0)
    torch.testing.assert_close(alone, whole)
    torch.testing.assert_close(back, whole)


@torch.no_grad()
def test_scores_are_those_of_whoever_was_drawn(ensemble):
    random = RandomEnsemble(ensemble, 2)
    samples = list(range(6))
    scores, chosen = random.scores(X, samples, seed=1, query=4), random.draw(samples, 1, query=4)
    logits = ensemble.member_logits(X)
    expected = torch.stack([logits[chosen[i], i].mean(0) for i in range(6)])
    torch.testing.assert_close(scores, expected)


def test_all_of_them_are_the_ensemble(ensemble):
    torch.testing.assert_close(RandomEnsemble(ensemble, 5).scores(X, range(6), seed=0), ensemble(X))


def test_every_subset_is_equally_likely_and_queries_are_independent(ensemble):
    random = RandomEnsemble(ensemble, 2)
    rows = random.draw(range(6000), seed=7)
    assert (rows[:, 0] < rows[:, 1]).all()
    codes = rows[:, 0] * 5 + rows[:, 1]
    counts = torch.tensor([(codes == a * 5 + b).sum() for a, b in combinations(range(5), 2)])
    chi_squared = ((counts - 600.0) ** 2 / 600).sum().item()
    assert chi_squared < 30  # 9 degrees of freedom: beyond it with probability 4e-4
    again = random.draw(range(6000), seed=7, query=1)
    same = (rows == again).all(1).double().mean().item()
    assert abs(same - 0.1) < 4.5 * math.sqrt(0.09 / 6000)


@pytest.mark.parametrize("drawn", [1, 2, 3])
def test_the_expected_accuracy_is_the_mean_over_subsets(drawn):
    logits = torch.randn(5, 40, 4, generator=torch.Generator().manual_seed(drawn))
    y = torch.arange(40) % 4
    found = draws(logits, y, drawn, make_reducer("mean", {}))
    each = torch.stack(
        [logits[list(s)].mean(0).argmax(-1) == y for s in combinations(range(5), drawn)]
    )
    assert found.subsets == math.comb(5, drawn)
    torch.testing.assert_close(found.expected, each.double().mean(0))
    assert torch.equal(found.always, each.all(0))
    assert torch.equal(found.ever, each.any(0))


def test_sampled_answers_tend_to_the_exact_number(ensemble):
    random = RandomEnsemble(ensemble, 2)
    exact = random.judge(X, Y).expected
    with torch.no_grad():
        right = sum(
            (random.scores(X, range(6), seed=5, query=q).argmax(-1) == Y).double()
            for q in range(400)
        )
    assert (right / 400 - exact).abs().max() < 4.5 * 0.5 / 20


def test_a_broken_member_is_never_right(ensemble):
    logits = torch.zeros(3, 1, 4)
    logits[0, 0, 2] = math.nan
    logits[1:, 0, 1] = 1.0
    found = draws(logits, torch.tensor([1]), 2, make_reducer("mean", {}))
    assert found.right.tolist() == [1]
    assert not found.always.item()


def test_numbers_that_mean_nothing_are_refused(ensemble):
    for drawn in (0, 6):
        with pytest.raises(ParameterError, match=r"in 1 \.\. 5"):
            RandomEnsemble(ensemble, drawn)
    with pytest.raises(ParameterError, match="155117520 ways"):
        subsets_of(30, 15)
    with pytest.raises(ParameterError, match="5 samples for 6 inputs"):
        RandomEnsemble(ensemble).scores(X, range(5), seed=0)
    with pytest.raises(ParameterError, match="5 weights for 2 members"):
        RandomEnsemble(Ensemble(ensemble.models, "weighted:1,1,1,1,1"), 2)
