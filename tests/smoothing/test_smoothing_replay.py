"""Which row cast which vote, and the halves of the noise behind them: bit for bit the same."""

from __future__ import annotations

import math
from collections import Counter, deque

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from phalanx.errors import ParameterError
from phalanx.models.model import InputSpec, Model
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.stream import NormalStream
from phalanx.runs.schema import INVALID
from phalanx.runtime.keys import noise_key
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.smoothing.engine import Engine, Work
from phalanx.smoothing.higher_order.certificate import certify_gradient
from phalanx.smoothing.higher_order.radius import largest_slope
from phalanx.smoothing.higher_order.replay import halves_of_ballots
from phalanx.smoothing.higher_order.slope import slope_upper
from phalanx.smoothing.stopping import Chunk

SHAPE, CLASSES, SEED, SIGMA = (1, 5, 5), 4, 7, 0.5
CPU = torch.device("cpu")
ENSEMBLES = {
    "whole": {"reducer_names": ("mean", "vote"), "each": True},
    "consensus": {"reducer_names": ("mean", "softmax"), "consensus": 2},
    "random member": {"reducer_names": ("random-member",)},
}


def member(seed: int) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(25, CLASSES))
    return Model(network.eval(), InputSpec((0.0, 1.0)), CLASSES)


def works(images=(0, 1), rows=(50, 131)):
    x = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(3))
    return [
        Work(image, Chunk("estimation", index, size), x[image])
        for image in images
        for index, size in enumerate(rows)
    ]


def engine_for(models, classifiers, batch=32, generator="philox4x64"):
    return Engine(
        MemberBank(models, Layout(), CPU),
        classifiers,
        Gaussian(SIGMA),
        seed=SEED,
        batch=batch,
        generator=generator,
        ballots=True,
    )


def cast(engine, work):
    queue = deque(work)
    return {
        (one.image, one.chunk): one
        for one in engine.run(lambda: queue.popleft() if queue else None)
    }


def noise(image, chunk):
    return NormalStream(noise_key(SEED, image, chunk.phase, chunk.index), 25).rows(chunk.rows)


@pytest.mark.parametrize("batch", [8, 32, 1000])
def test_each_row_keeps_the_vote_it_cast(batch):
    models = [member(seed) for seed in range(3)]
    engine = engine_for(models, classifiers_of(3, **ENSEMBLES["whole"]), batch)
    for work in works():
        noisy = work.x + SIGMA * noise(work.image, work.chunk).view(-1, *SHAPE)
        with torch.inference_mode():
            logits = torch.stack([model(noisy) for model in models])
        found = cast(engine, [work])[work.image, work.chunk].ballots
        assert found.dtype == np.int32
        assert np.array_equal(found[0], logits.mean(0).argmax(1).numpy())
        assert np.array_equal(found[2:], logits.argmax(2).numpy())


@pytest.mark.parametrize("kind", ENSEMBLES)
@pytest.mark.parametrize("batch", [8, 32, 1000])
def test_ballots_depend_on_no_batch_and_no_company_and_are_the_counts(kind, batch):
    models = [member(seed) for seed in range(4)]
    classifiers = classifiers_of(4, **ENSEMBLES[kind])
    expected = cast(engine_for(models, classifiers, 64), works())
    found = cast(engine_for(models, classifiers, batch), works()[::-1])
    assert found.keys() == expected.keys()
    for key, one in found.items():
        assert np.array_equal(one.ballots, expected[key].ballots)
        assert [Counter(row.tolist()) for row in one.ballots] == list(one.counts)


def test_ballots_are_kept_only_for_who_asks():
    engine = engine_for([member(0)], classifiers_of(1))
    engine.ballots = False
    assert all(one.ballots is None for one in cast(engine, works()).values())


def test_a_broken_row_casts_no_vote():
    class Broken(nn.Module):
        def forward(self, x):
            logits = torch.zeros(len(x), CLASSES)
            logits[x.mean((1, 2, 3)) > 0.5] = torch.nan
            return logits

    engine = engine_for([Model(Broken().eval(), InputSpec((0.0, 1.0)), CLASSES)], classifiers_of(1))
    for one in cast(engine, works()).values():
        assert one.counts[0][INVALID] == (one.ballots == INVALID).sum() > 0


def replayed(engine, found, image, labels, order=1):
    ballots = {chunk: one.ballots for (i, chunk), one in found.items() if i == image}
    return halves_of_ballots(engine, image, 25, dict([*ballots.items()][::order]), labels)


@pytest.mark.parametrize("generator", ["philox4x64", "philox4x32"])
def test_halves_are_the_same_bits_however_the_run_went(generator):
    models = [member(seed) for seed in range(3)]
    classifiers = classifiers_of(3, **ENSEMBLES["whole"])
    labels = [0, 1, 2, 3, 0]
    engine = engine_for(models, classifiers, 64, generator)
    expected = replayed(engine, cast(engine, works()), 1, labels)
    other = engine_for(models, classifiers, 8, generator)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = replayed(other, cast(other, works()[::-1]), 1, labels, order=-1)
    finally:
        torch.set_num_threads(before)
    assert found == expected
    assert len(set(expected)) == len(labels)


def test_halves_are_the_sums_over_rows_that_voted_otherwise():
    engine = engine_for([member(0)], classifiers_of(1))
    found = cast(engine, works())
    sums = np.zeros((2, 25))
    for work in works((0,)):
        other = found[0, work.chunk].ballots[0] != 2
        normal = noise(0, work.chunk).double().numpy()
        half = (work.chunk.rows + 1) // 2
        sums[0] += normal[:half][other[:half]].sum(0)
        sums[1] += normal[half:][other[half:]].sum(0)
    halves = replayed(engine, found, 0, [2])[0]
    assert (halves.n1, halves.n2) == (25 + 66, 25 + 65)
    assert halves.norm1 == pytest.approx(sums[0] @ sums[0])
    assert halves.norm2 == pytest.approx(sums[1] @ sums[1])
    assert halves.product == pytest.approx(sums[0] @ sums[1])


def test_ballots_of_something_else():
    engine = engine_for([member(0)], classifiers_of(1))
    with pytest.raises(ParameterError, match="classifiers"):
        halves_of_ballots(engine, 0, 25, {Chunk("estimation", 0, 9): np.zeros((2, 9))}, [0])
    with pytest.raises(ParameterError, match="rows"):
        halves_of_ballots(engine, 0, 25, {Chunk("estimation", 0, 9): np.zeros((1, 8))}, [0])
    one_row = {Chunk("estimation", 0, 1): np.zeros((1, 1), dtype=np.int32)}
    with pytest.raises(ParameterError):
        halves_of_ballots(engine, 0, 25, one_row, [0])


class Slab(nn.Module):
    """Class 1 within a band around the origin, whose slope there is zero; class 0 outside."""

    def forward(self, x):
        along = x.flatten(1) @ torch.full((25,), 0.2)
        return torch.stack([along.abs() - SIGMA * 1.2816, torch.zeros(len(x))], 1)


class HalfSpace(nn.Module):
    """Class 1 on one side of a plane."""

    def forward(self, x):
        along = x.flatten(1) @ torch.full((25,), 0.2)
        return torch.stack([along - SIGMA * 0.8416, torch.zeros(len(x))], 1)


@pytest.mark.parametrize(("network", "slope"), [(Slab, 0.0), (HalfSpace, largest_slope(0.8))])
def test_from_the_engine_to_a_radius(network, slope):
    model = Model(network().eval(), InputSpec((-1.0, 1.0), shape=SHAPE), 2)
    engine = engine_for([model], classifiers_of(1), 1000)
    x, rows = torch.zeros(SHAPE), 10_000
    work = [Work(0, Chunk(phase, 0, rows), x) for phase in ("selection", "estimation")]
    found = cast(engine, work)
    votes = {chunk.phase: one for (_, chunk), one in found.items()}
    assert norm.cdf(0.8416) == pytest.approx(0.8, abs=1e-4)
    halves = halves_of_ballots(engine, 0, 25, {work[1].chunk: votes["estimation"].ballots}, [1])[0]
    estimate = halves.product / halves.n1 / halves.n2
    assert estimate == pytest.approx(slope**2, abs=6 * (slope + 1e-2) / math.sqrt(rows))
    assert slope_upper(halves, 0.2, 0.001) >= slope
    selection, estimation = (votes[name].counts[0] for name in ("selection", "estimation"))
    certificate = certify_gradient(selection, estimation, halves, sigma=SIGMA, alpha=0.001)
    cohen, slab = 0.8416 * SIGMA, 1.268 * SIGMA
    assert certificate.predicted == 1
    if slope:
        assert 0.9 * cohen < certificate.radius <= cohen
    else:
        assert 1.1 * cohen < certificate.radius <= slab
