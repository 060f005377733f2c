"""K-consensus asks fewer members and counts the very votes that asking all of them would give."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
import torch
from torch import nn

from phalanx.errors import ParameterError
from phalanx.models.model import InputSpec, Model
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.runs.schema import INVALID
from phalanx.smoothing import engine as engines
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.smoothing.consensus import Consensus
from phalanx.smoothing.engine import Engine, Work
from phalanx.smoothing.sources import source_of
from phalanx.smoothing.stopping import Chunk
from phalanx.smoothing.votes import WholeEnsemble

SHAPE, CLASSES = (1, 5, 5), 4
CPU = torch.device("cpu")


def member(seed: int, kind: type[nn.Module] = nn.Linear) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), kind(25, CLASSES))
    return Model(network.eval(), InputSpec((0.0, 1.0)), CLASSES)


class Counting(MemberBank):
    """Counts how often each member is asked."""

    def logits(self, x, members=None):
        asked = range(len(self)) if members is None else members
        self.asked = getattr(self, "asked", [0] * len(self))
        for index in asked:
            self.asked[index] += 1
        return super().logits(x, members)


def works(images=(0, 1, 2), rows=(50, 131)):
    x = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(3))
    return [
        Work(image, Chunk("estimation", index, size), x[image])
        for image in images
        for index, size in enumerate(rows)
    ]


def counted(models, classifiers, work, *, batch=32, bank=MemberBank):
    engine = Engine(
        bank(models, Layout(), CPU),
        classifiers,
        Gaussian(0.5),
        seed=7,
        batch=batch,
        generator="philox4x64",
    )
    queue = deque(work)
    found = {
        (one.image, one.chunk.index): one.counts
        for one in engine.run(lambda: queue.popleft() if queue else None)
    }
    return found, engine


def eager(monkeypatch):
    monkeypatch.setattr(engines, "source_of", WholeEnsemble)


@pytest.mark.parametrize("batch", [8, 32, 400])
@pytest.mark.parametrize("first", [2, 3])
@pytest.mark.parametrize("reducers", [("mean",), ("vote", "softmax", "max-margin")])
def test_votes_are_those_of_asking_everybody(monkeypatch, batch, first, reducers):
    models = [member(seed) for seed in range(5)]
    classifiers = classifiers_of(5, reducer_names=reducers, consensus=first)
    lazy, engine = counted(models, classifiers, works(), batch=batch)
    assert 0 < engine.agreed < engine.rows == 3 * 181
    eager(monkeypatch)
    everybody, engine = counted(models, classifiers, works(), batch=batch)
    assert engine.agreed == 0
    assert lazy == everybody


def test_it_is_another_classifier_than_the_ensemble():
    models = [member(seed) for seed in range(5)]
    whole = classifiers_of(5)
    consensus = classifiers_of(5, consensus=2)
    assert counted(models, whole, works())[0] != counted(models, consensus, works())[0]
    identities = [{"digest": str(seed)} for seed in range(5)]
    digests = {
        one.record(identities, {}, primary=True).digest
        for one in (*whole, *consensus, *classifiers_of(5, consensus=3))
    }
    assert len(digests) == 3


def test_company_changes_no_vote():
    models = [member(seed) for seed in range(4)]
    classifiers = classifiers_of(4, consensus=2)
    together, _ = counted(models, classifiers, works())
    for image in range(3):
        alone, _ = counted(models, classifiers, works((image,)))
        assert alone == {key: value for key, value in together.items() if key[0] == image}


def test_the_others_are_asked_only_where_the_first_differ():
    models = [member(0), member(0), member(1), member(2)]
    _, engine = counted(models, classifiers_of(4, consensus=2), works(), bank=Counting)
    assert engine.agreed == engine.rows
    assert engine.bank.asked[0] == engine.bank.asked[1] > 0
    assert engine.bank.asked[2:] == [0, 0]
    models = [member(seed) for seed in range(4)]
    _, engine = counted(models, classifiers_of(4, consensus=2), works(), bank=Counting)
    passes = -(-(engine.rows - engine.agreed) // 32)
    assert engine.bank.asked[2:] == [passes, passes]


class Broken(nn.Linear):
    """NaN for inputs with a large first value."""

    def forward(self, x):
        return super().forward(x).masked_fill(x[:, :1] > 0.9, torch.nan)


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_broken_member_is_seen_wherever_it_is_asked(monkeypatch, place):
    models = [member(seed, Broken if seed == place else nn.Linear) for seed in range(4)]
    classifiers = classifiers_of(4, consensus=2)
    lazy, _ = counted(models, classifiers, works())
    assert any(INVALID in counts for (counts,) in lazy.values())
    eager(monkeypatch)
    assert counted(models, classifiers, works())[0] == lazy


def test_members_are_spared_only_where_nobody_needs_them():
    bank = MemberBank([member(seed) for seed in range(4)], Layout(), CPU)
    assert isinstance(source_of(bank, classifiers_of(4, consensus=2)), Consensus)
    assert isinstance(source_of(bank, classifiers_of(4, consensus=2, each=True)), WholeEnsemble)
    assert isinstance(source_of(bank, classifiers_of(4)), WholeEnsemble)
    (one,) = classifiers_of(4, consensus=2)
    both = [one, replace(one, name="other", consensus=3)]
    assert isinstance(source_of(bank, both), WholeEnsemble)
    shuffled = [replace(one, members=(1, 0, 2, 3))]
    assert isinstance(source_of(bank, shuffled), WholeEnsemble)


@pytest.mark.parametrize("consensus", [0, 1, 3, 7, True, 2.5])
def test_a_consensus_of_nobody_or_everybody_is_refused(consensus):
    with pytest.raises(ParameterError, match="consensus is"):
        classifiers_of(3, consensus=consensus)
