"""The choice of a batch and of threads, with the measurements replaced by known ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phalanx.errors import ModelError
from phalanx.models.model import InputSpec, Model
from phalanx.smoothing import tuning
from phalanx.smoothing.bank import Layout, MemberBank

CPU = torch.device("cpu")


@pytest.fixture
def model() -> Model:
    return Model(nn.Linear(2, 2).eval(), InputSpec(shape=(2,)), 2)


@pytest.fixture
def rates(monkeypatch):
    """Rates by batch size; the sizes that were tried."""
    tried, given = [], {}

    def throughput(bank, shape, batch, seconds=None):
        tried.append(batch)
        if given[batch] is None:
            raise torch.OutOfMemoryError
        return given[batch]

    monkeypatch.setattr(tuning, "throughput", throughput)
    monkeypatch.setattr(tuning, "reproducible", lambda bank, shape, batch: batch not in (16, 64))
    monkeypatch.setattr(tuning, "CPU_BATCHES", (8, 16, 32, 64, 128, 256))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    return given, tried


def test_the_fastest_reproducible_batch_is_taken(model, rates):
    given, tried = rates
    given |= {8: 1.0, 16: 3.0, 32: 2.0, 64: 4.0, 128: 3.5, 256: None}
    tuned = tuning.tune([model], (2,), Layout(), CPU)
    assert (tuned.batch, tuned.rate, tuned.layout.channels_last) == (128, 3.5, False)
    assert tried == [8, 16, 32, 64, 128, 256]


def test_a_series_ends_after_two_that_are_slower(model, rates):
    given, tried = rates
    given |= {8: 2.0, 16: 1.0, 32: 3.0, 64: 2.0, 128: 1.0, 256: 9.0}
    assert tuning.tune([model], (2,), Layout(), CPU).batch == 32
    assert tried == [8, 16, 32, 64, 128]


@pytest.mark.parametrize(("rows", "sizes"), [(1e-9, [8, 8]), (1e9, [8, 8, 16, 32, 64, 128])])
def test_a_run_that_is_soon_over_is_not_tuned_for_long(model, rates, rows, sizes):
    given, tried = rates
    given |= {8: 2.0, 16: 1.0, 32: 3.0, 64: 2.0, 128: 1.0}
    tuning.tune([model], (2,), Layout(), CPU, rows=rows)
    assert tried == sizes  # a look at the first tells how long the run will take


def test_no_batch_fits_or_none_is_reproducible(model, rates):
    given, _ = rates
    given |= dict.fromkeys((1, 2, 4, 8, 125, 250, 500)) | {16: 1.0}
    with pytest.raises(ModelError, match="a batch of 8 does not fit"):
        tuning.tune([model], (2,), Layout(), CPU)
    given[62] = 1.0
    assert tuning.tune([model], (2,), Layout(), CPU, batch=500).batch == 62
    with pytest.raises(ModelError, match="in a batch of 16 a row's logits depend"):
        tuning.tune([model], (2,), Layout(), CPU, batch=16)


def test_images_are_tried_in_both_memory_formats(rates):
    given, tried = rates
    given[8] = 1.0
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    images = Model(network, InputSpec(shape=(1, 2, 2)), 2)
    assert tuning.tune([images], (1, 2, 2), Layout(), CPU, batch=8).batch == 8
    assert tried == [8, 8]


@pytest.mark.parametrize(("one", "chosen"), [(1.0, 3), (9.0, 1)])
def test_threads_are_those_that_are_faster_and_restored(model, monkeypatch, one, chosen):
    threads = [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(tuning, "throughput", lambda *_: one if threads[-1] == 1 else 5.0)
    bank = MemberBank([model], Layout(), CPU)
    with tuning.fastest_threads(bank, (2,), 8) as now:
        assert now == threads[-1] == chosen
    assert threads[-1] == 3


def test_a_row_at_another_place_and_every_share_of_the_threads_is_tried(monkeypatch):
    threads = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)

    class Shared(nn.Module):
        """Rounds differently with two threads."""

        def forward(self, x):
            return x if threads[-1] != 2 else torch.nextafter(x, x + 1)

    bank = MemberBank([Model(Shared().eval(), InputSpec(shape=(2,)), 2)], Layout(), CPU)
    assert not tuning.reproducible(bank, (2,), 8)
    assert threads[-1] == 4
    bank = MemberBank([Model(nn.Identity().eval(), InputSpec(shape=(2,)), 2)], Layout(), CPU)
    assert tuning.reproducible(bank, (2,), 8)
    assert set(threads) == {1, 2, 4}
    assert threads[-1] == 4
