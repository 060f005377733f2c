"""Out of memory: smaller batches, new counts of what was begun, the noise as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from evaluation_helpers import certified
from torch import nn

from phalanx.errors import ModelError
from phalanx.evaluation.certify import BATCH, Sweep
from phalanx.evaluation.request import open_run, settle
from phalanx.models.model import InputSpec, Model
from phalanx.runs.recheck import recheck

LIMIT = {"rows": 10**9, "passes": 10**9}


class Hungry(nn.Module):
    """A linear network that runs out of memory above a number of rows, once enough passed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(B, 3)``."""
        LIMIT["passes"] -= 1
        if len(x) > LIMIT["rows"] and LIMIT["passes"] < 0:
            raise torch.OutOfMemoryError("no more")
        return self.linear(x.flatten(1))


@pytest.fixture
def hungry(request_of, monkeypatch):
    """A request whose network obeys `LIMIT`; the limits are lifted at the end."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Model(Hungry().eval(), InputSpec((0.0, 1.0), shape=(1, 4, 4)), 3)
    request = request_of(members=1, batch=128, n=2000)
    monkeypatch.setitem(LIMIT, "rows", 10**9)
    monkeypatch.setitem(LIMIT, "passes", 10**9)
    return replace(request, models=[model])


def counts(store):
    return {(c.image, c.phase, c.chunk): dict(c.counts) for c in store.chunks()}


@pytest.mark.parametrize("passes", [40, 60, 90])
def test_a_sweep_that_runs_out_of_memory_goes_on_in_smaller_batches(hungry, monkeypatch, passes):
    whole = certified(hungry)
    request = settle(hungry, None)
    request, store = open_run(request, None, command="test")
    monkeypatch.setitem(LIMIT, "rows", 40)
    monkeypatch.setitem(LIMIT, "passes", passes)
    Sweep(request, store).run()
    assert store.get_meta(BATCH) == 32
    assert counts(store) == counts(whole)
    rows = store.certificates()
    assert [row.radius for row in rows] == [row.radius for row in whole.certificates()]
    assert {row.details.get("batch") for row in rows} <= {None, 32}
    assert rows[-1].details["batch"] == 32
    assert recheck(store).ok


def test_a_run_that_was_continued_counts_what_was_begun_anew(hungry, monkeypatch, tmp_path):
    request, store = open_run(settle(hungry, tmp_path), tmp_path, command="test")
    with store:
        store.set_meta(BATCH, 32)
        Sweep(request, store).run()
        assert {row.details["batch"] for row in store.certificates()} == {32}
        assert counts(store) == counts(certified(hungry))


def test_counts_that_another_process_took_over_are_left_alone(hungry):
    store = certified(hungry)
    before = counts(store)
    assert not store.forget_counts(0, "somebody:1:2:3")
    assert counts(store) == before


def test_tuning_halves_a_batch_that_does_not_fit(hungry, monkeypatch):
    monkeypatch.setitem(LIMIT, "rows", 40)
    monkeypatch.setitem(LIMIT, "passes", 0)
    assert (
        settle(replace(hungry, config=replace(hungry.config, batch=100)), None).config.batch == 25
    )


def test_memory_that_holds_nothing_is_an_error_that_keeps_the_counts(hungry, monkeypatch):
    request, store = open_run(settle(hungry, None), None, command="test")
    monkeypatch.setitem(LIMIT, "rows", 0)
    monkeypatch.setitem(LIMIT, "passes", 90)
    with pytest.raises(ModelError, match="no smaller batch fits"):
        Sweep(request, store).run()
    assert store.chunks()
    monkeypatch.setitem(LIMIT, "rows", 10**9)
    Sweep(request, store).run()
    assert len(store.certificates()) == 6
