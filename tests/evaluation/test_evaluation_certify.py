"""Sweeps: resumable, shareable, and always with the same counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from evaluation_helpers import certified, killed
from torch import nn

from phalanx.data.arrays import from_arrays
from phalanx.data.dataset import DataCard, Dataset
from phalanx.errors import ConfigurationError, DataError, ModelError, RunError
from phalanx.evaluation.request import check_models, settle
from phalanx.models.model import InputSpec, Model
from phalanx.runs.evidence import phases_of
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.verdicts import Verdict


def test_every_image_gets_a_certificate_from_every_classifier(request_of):
    store = certified(request_of())
    for record in store.manifest.classifiers:
        rows = store.certificates(record.name)
        assert [row.image for row in rows] == list(range(6))
        assert all(row.n == 500 for row in rows)
    phases = phases_of(store.chunks(0))
    assert phases["mean", "selection"].rows == 50
    assert phases["mean", "estimation"].rows == 500


@pytest.mark.parametrize("after", [1, 2, 3, 7, 11])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(request_of, tmp_path, after):
    whole = certified(request_of(), tmp_path / "whole").digest()
    killed(request_of(), tmp_path / "cut", after)
    again = settle(request_of(batch=None), tmp_path / "cut")
    assert again.config.batch == 64
    assert certified(again, tmp_path / "cut").digest() == whole


def test_more_images_continue_the_same_run(request_of, tmp_path):
    whole = certified(request_of(), tmp_path / "whole").digest()
    request = request_of()
    certified(replace(request, indices=[0, 1, 2]), tmp_path / "run")
    assert certified(request, tmp_path / "run").digest() == whole


@pytest.mark.parametrize("finished", [6, 3])
def test_a_run_of_other_images_is_refused(request_of, tmp_path, finished):
    """The card of a data set made by hand says nothing of its values."""

    def of(x):
        card = DataCard("mine", "test", (1, 4, 4), 3, 6)
        return replace(request_of(), dataset=Dataset(card, lambda indices: x[list(indices)]))

    x = torch.rand(6, 1, 4, 4)
    other = torch.cat([x[:2], 1 - x[2:]])
    certified(replace(of(x), indices=range(finished)), tmp_path / "run")
    with pytest.raises(RunError, match="image 2 is not the image this run counted"):
        certified(of(other), tmp_path / "run")
    assert certified(of(x), tmp_path / "run").finished() == set(range(6))


def test_the_first_classifier_is_the_one_asked_for_first(request_of, tmp_path):
    def of(*reducers):
        request = request_of()
        return replace(request, classifiers=classifiers_of(2, reducer_names=reducers))

    certified(of("mean", "vote"), tmp_path / "run")
    with pytest.raises(ConfigurationError, match=r"order: .*primary: "):
        certified(of("vote", "mean"), tmp_path / "run")


@pytest.mark.parametrize("batch", [1, 17, 64, 1000])
def test_batches_do_not_change_counts_of_this_model(request_of, batch):
    reference = certified(request_of()).chunks()
    assert certified(request_of(batch=batch)).chunks() == reference


def test_fewer_samples_are_the_first_of_more(request_of):
    """A chunk's noise is one stream, whatever share of it a run needs."""
    few = phases_of(certified(request_of(n=200)).chunks(3))["mean", "estimation"]
    many = certified(request_of(n=600)).chunks(3, "mean")
    first = next(c for c in many if (c.phase, c.chunk) == ("estimation", 0))
    assert (few.rows, few.counts) == (first.rows, first.counts)


def test_a_changed_configuration_is_refused_with_the_difference(request_of, tmp_path):
    certified(request_of(), tmp_path / "run")
    with pytest.raises(ConfigurationError, match=r"alpha.*0\.001.*0\.01"):
        certified(request_of(alpha=0.01), tmp_path / "run")


def test_other_weights_are_refused(request_of, tmp_path):
    request = request_of()
    certified(request, tmp_path / "run")
    with torch.no_grad():
        request.models[0].network[1].bias.add_(1)
    with pytest.raises(ConfigurationError):
        certified(request, tmp_path / "run")


def test_without_labels_accuracy_is_absent(request_of):
    rows = certified(request_of(labels=False)).certificates("mean")
    assert {row.correct for row in rows} == {None}
    assert any(row.verdict is Verdict.VERIFIED for row in rows)


def test_a_sample_that_cannot_be_read_is_an_error_and_not_certified(request_of):
    request = request_of()
    good = request.dataset

    def fetch(indices):
        if 5 in indices:
            raise DataError("image 5 is truncated")
        return good.images(indices)

    card = DataCard("half-broken", "test", (1, 4, 4), 3, 6)
    broken = replace(request, dataset=Dataset(card, fetch, good.labels(range(6))))
    row = certified(broken).certificates("mean")[5]
    assert (row.verdict, row.radius, row.correct) == (Verdict.ERROR, None, False)
    assert "truncated" in row.reason


def test_logits_that_turn_nan_under_noise_are_errors(request_of):
    class Fragile(nn.Module):
        def forward(self, x):
            logits = torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3)), x[:, 0, 0, 0]], 1)
            return torch.where(x.amin((1, 2, 3)).unsqueeze(1) < -0.4, torch.nan, logits)

    request = request_of(members=1)
    fragile = Model(Fragile().eval(), InputSpec((0.0, 1.0)), 3)
    rows = certified(replace(request, models=[fragile])).certificates()
    assert {row.verdict for row in rows} == {Verdict.ERROR}
    assert all("NaN" in row.reason for row in rows)


def test_refused_before_anything_is_spent(request_of):
    request = request_of(members=1)
    narrow = Model(request.models[0].network, InputSpec((0.0, 0.5)), 3)
    with pytest.raises(DataError, match="--input-range"):
        check_models([narrow], request.dataset, request.indices)
    shaped = Model(request.models[0].network, InputSpec((0.0, 1.0), shape=(1, 28, 28)), 3)
    with pytest.raises(DataError, match="shape"):
        check_models([shaped], request.dataset, request.indices)
    training = Model(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), InputSpec(), 3).train()
    with pytest.raises(ModelError, match=r"eval\(\)"):
        check_models([training], request.dataset, request.indices)
    with pytest.raises(DataError, match="no images"):
        check_models(request.models, request.dataset, [])


def test_too_few_classes_are_refused(request_of):
    request = request_of(members=1)
    x = torch.rand(4, 1, 4, 4)
    wide = replace(
        request,
        dataset=Dataset(DataCard("wide", "test", (1, 4, 4), 10, 4), lambda i: x[list(i)], None),
    )
    with pytest.raises(ModelError, match="--classes"):
        check_models(wide.models, wide.dataset, wide.indices)


def test_from_arrays_joins_models(request_of):
    dataset = from_arrays(torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 2]))
    assert certified(replace(request_of(), dataset=dataset, indices=[0, 2])).finished() == {0, 2}
