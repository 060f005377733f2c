"""No count depends on batches, company, order or threads."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from torch import nn

from phalanx.errors import ModelError
from phalanx.models.model import InputSpec, Model
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.stream import NormalStream
from phalanx.runs.schema import INVALID
from phalanx.runtime.keys import noise_key
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.classifiers import BaseClassifier, classifiers_of
from phalanx.smoothing.engine import Engine, Work
from phalanx.smoothing.stopping import Chunk

SHAPE = (1, 6, 6)
CPU = torch.device("cpu")


def member(seed: int, classes: int = 4) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes)
        )
    return Model(network.eval(), InputSpec((0.0, 1.0)), classes)


def count(models, work, classifiers=None, *, batch=32, generator="philox4x64", sigma=0.5):
    engine = Engine(
        MemberBank(models, Layout(), CPU),
        classifiers or classifiers_of(len(models)),
        Gaussian(sigma),
        seed=7,
        batch=batch,
        generator=generator,
    )
    queue = deque(work)
    found = {}
    for counted in engine.run(lambda: queue.popleft() if queue else None):
        found[counted.image, counted.chunk.phase, counted.chunk.index] = counted.counts
    return found


def works(images=(0, 1, 2), rows=(50, 130)):
    x = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(3))
    return [
        Work(image, Chunk("estimation", index, size), x[image])
        for image in images
        for index, size in enumerate(rows)
    ]


def test_counts_equal_a_straightforward_loop():
    model, sigma = member(0), 0.5
    for work in works():
        key = noise_key(7, work.image, work.chunk.phase, work.chunk.index)
        noise = NormalStream(key, work.x.numel()).rows(work.chunk.rows).view(-1, *SHAPE)
        with torch.inference_mode():
            votes = model(work.x + sigma * noise).argmax(1)
        expected = {int(c): int((votes == c).sum()) for c in votes.unique()}
        found = count([model], [work])[work.image, "estimation", work.chunk.index]
        assert found == [expected]


def test_a_phase_may_have_noise_of_its_own():
    x, chunks = works()[0].x, [Chunk(phase, 0, 90) for phase in ("estimation", "second-law")]
    models = MemberBank([member(0)], Layout(), CPU), classifiers_of(1)
    other = {"second-law": Gaussian(0.1)}
    options = {"seed": 7, "batch": 32, "generator": "philox4x64"}
    queue = deque(Work(0, chunk, x) for chunk in chunks)
    engine = Engine(*models, Gaussian(0.5), other_noise=other, **options)
    found = {}
    for counted in engine.run(lambda: queue.popleft() if queue else None):
        found[counted.chunk.phase] = counted.counts
    assert found["estimation"] == count([member(0)], [Work(0, chunks[0], x)])[0, "estimation", 0]
    narrow = count([member(0)], [Work(0, chunks[1], x)], sigma=0.1)
    assert found["second-law"] == narrow[0, "second-law", 0]
    assert found["second-law"] != count([member(0)], [Work(0, chunks[1], x)])[0, "second-law", 0]


@pytest.mark.parametrize("batch", [1, 7, 32, 1000])
def test_every_row_votes_once_whatever_the_batch(batch):
    for counts in count([member(0)], works(), batch=batch).values():
        assert sum(counts[0].values()) in (50, 130)


@pytest.mark.parametrize("generator", ["philox4x64", "philox4x32"])
def test_company_and_order_change_nothing(generator):
    models = [member(seed) for seed in range(3)]
    classifiers = classifiers_of(3, reducer_names=("mean", "vote", "max-margin"), each=True)
    together = count(models, works(), classifiers, generator=generator)
    reversed_order = count(models, works()[::-1], classifiers, generator=generator)
    assert together == reversed_order
    for work in works():
        alone = count(models, [work], classifiers, generator=generator)
        key = (work.image, "estimation", work.chunk.index)
        assert alone[key] == together[key]


def test_threads_change_nothing():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        single = count([member(0)], works())
        torch.set_num_threads(2)
        assert count([member(0)], works()) == single
    finally:
        torch.set_num_threads(before)


def test_members_alone_vote_as_they_do_in_company():
    models = [member(seed) for seed in range(3)]
    together = count(models, works(), classifiers_of(3, each=True))
    for index, model in enumerate(models):
        alone = count([model], works())
        for key, counts in alone.items():
            assert counts[0] == together[key][1 + index]


def test_nan_logits_are_counted_apart():
    class Broken(nn.Module):
        def forward(self, x):
            logits = torch.zeros(len(x), 4)
            logits[:, 1] = 1
            logits[x.mean((1, 2, 3)) > 0.5, 3] = float("nan")
            return logits

    broken = Model(Broken().eval(), InputSpec((0.0, 1.0)), 4)
    counts = count([broken], works())[0, "estimation", 1][0]
    assert set(counts) == {INVALID, 1}
    assert sum(counts.values()) == 130


def test_one_broken_member_spoils_every_reducer_but_not_the_others_alone():
    nan = Model(nn.Sequential(nn.Flatten(), nn.Linear(36, 4)).eval(), InputSpec((0.0, 1.0)), 4)
    nn.init.constant_(nan.network[1].bias, float("nan"))
    names = ("mean", "softmax", "weighted", "vote", "max-margin")
    classifiers = classifiers_of(2, reducer_names=names, each=True)
    counts = count([member(0), nan], works(), classifiers)[0, "estimation", 0]
    for classifier, votes in zip(classifiers, counts, strict=True):
        if 1 in classifier.members:
            assert votes == {INVALID: 50}, classifier.name
        else:
            assert INVALID not in votes


def test_a_wrong_number_of_classes_is_a_typed_error():
    wrong = Model(member(0).network, InputSpec((0.0, 1.0)), 5)
    with pytest.raises(ModelError, match="classes"):
        count([wrong], works())


def test_a_failing_network_is_a_typed_error():
    with pytest.raises(ModelError, match=r"inputs of shape .* failed: RuntimeError: mat1"):
        count([Model(nn.Linear(3, 4).eval(), InputSpec((0.0, 1.0)), 4)], works())


def test_inputs_of_two_shapes_are_refused():
    odd = Work(9, Chunk("estimation", 0, 5), torch.rand(1, 3, 3))
    with pytest.raises(ModelError, match="shape"):
        count([member(0)], [*works(), odd])


def test_a_subset_of_members_can_be_a_classifier():
    models = [member(seed) for seed in range(3)]
    pair = BaseClassifier("pair", (0, 2), "mean")
    together = count(models, works(), [pair])
    assert together == count([models[0], models[2]], works())


def test_members_vote_in_the_order_of_the_classifier():
    """Order is part of a classifier: weights belong to places, not to models."""
    models = [member(seed) for seed in range(2)]
    swapped = BaseClassifier("swapped", (1, 0), "weighted", {"weights": [1.0, 0.0]})
    assert count(models, works(), [swapped]) == count([models[1]], works())
