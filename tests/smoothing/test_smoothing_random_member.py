"""A random member answers every noisy row alone, drawn with the noise and with nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_smoothing_consensus import Broken, Counting, counted, member, works

from phalanx.errors import ParameterError
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.stream import NormalStream
from phalanx.runs.schema import INVALID
from phalanx.runtime.keys import noise_key
from phalanx.smoothing.classifiers import classifiers_of


def random_member(members):
    return classifiers_of(members, reducer_names=("random-member",))


@pytest.mark.parametrize("batch", [8, 32, 500])
def test_counts_equal_a_straightforward_loop(batch):
    models = [member(seed) for seed in range(3)]
    found, engine = counted(models, random_member(3), works(), batch=batch)
    assert engine.rows == 3 * 181
    for work in works():
        key = noise_key(7, work.image, "estimation", work.chunk.index)
        noisy = torch.empty(work.chunk.rows, *work.x.shape)
        Gaussian(0.5).fill(noisy, work.x, NormalStream(key, work.x.numel()))
        draws = np.random.Philox(
            key=noise_key(7, work.image, "member of estimation", work.chunk.index)
        ).random_raw(work.chunk.rows)
        votes = [
            int(models[int(draw % np.uint64(3))](row[None]).argmax())
            for draw, row in zip(draws, noisy, strict=True)
        ]
        expected = {label: votes.count(label) for label in set(votes)}
        assert found[work.image, work.chunk.index] == [expected]


def test_every_row_asks_one_member():
    models = [member(seed) for seed in range(3)]
    _, engine = counted(models, random_member(3), works(rows=(3200,)), bank=Counting)
    assert sum(engine.bank.asked) == pytest.approx(engine.rows / 32, abs=3)
    assert min(engine.bank.asked) > 0.3 * engine.rows / 32


def test_company_changes_no_vote():
    models = [member(seed) for seed in range(3)]
    together, _ = counted(models, random_member(3), works())
    for image in range(3):
        alone, _ = counted(models, random_member(3), works((image,)))
        assert alone == {key: value for key, value in together.items() if key[0] == image}


def test_a_broken_member_is_seen():
    models = [member(0), member(1, Broken), member(2)]
    found, _ = counted(models, random_member(3), works())
    assert any(INVALID in counts for (counts,) in found.values())


@pytest.mark.parametrize(
    "options",
    [{"reducer_names": ("random-member", "mean")}, {"each": True}, {"consensus": 2}],
)
def test_it_goes_with_nobody_else(options):
    with pytest.raises(ParameterError, match="random-member goes with"):
        classifiers_of(3, **{"reducer_names": ("random-member",), **options})
    with pytest.raises(ParameterError, match="random-member goes with"):
        random_member(1)
