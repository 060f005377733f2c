"""Gradient certificates in a run: resumed, shared, bundled, rechecked; always the same numbers."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, replace

import pytest
import torch
from evaluation_helpers import certified, killed
from torch import nn

from phalanx.api import certify
from phalanx.data.arrays import from_arrays
from phalanx.errors import ConfigurationError, ParameterError, RunError
from phalanx.evaluation.config import CertifyConfig
from phalanx.evaluation.request import settle
from phalanx.models.model import InputSpec, Model
from phalanx.runs.bundle import export_bundle, open_bundle
from phalanx.runs.explain import explain
from phalanx.runs.gradient import gradient_radius, slope_limit
from phalanx.runs.recheck import Outcome, recheck
from phalanx.runs.schema import ESTIMATION, BallotRecord, SlopeRecord
from phalanx.runs.slopes import packed, unpacked
from phalanx.runs.store import RunStore
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.smoothing.higher_order.slope import Halves, slope_upper
from phalanx.verdicts import Verdict

IMAGES = 2
SLOPE = {"slope": 0.1, "n": 4000, "chunk": 2000, "alpha": 0.01, "sigma": 1.0, "batch": 200}


class Slab(nn.Module):
    """Class 0 in a band through the middle of the data, where the slope is small."""

    def __init__(self, seed):
        super().__init__()
        direction = torch.randn(16, generator=torch.Generator().manual_seed(seed))
        self.direction = nn.Parameter(direction / direction.norm())

    def forward(self, x):
        along = (x.flatten(1) - 0.5) @ self.direction
        return torch.stack([2 - along**2, 0 * along, along - 5], 1)


@pytest.fixture
def asked(request_of):
    """Factory of requests for two such models, each alone and their mean."""

    def make(**config):
        models = [
            Model(Slab(seed).eval(), InputSpec((0.0, 1.0), shape=(1, 4, 4)), 3) for seed in (0, 1)
        ]
        x = torch.full((IMAGES, 1, 4, 4), 0.5) + torch.arange(IMAGES)[:, None, None, None] / 100
        data = from_arrays(x, torch.zeros(IMAGES, dtype=torch.int64))
        return replace(request_of(IMAGES, **SLOPE | config), models=models, dataset=data)

    return make


def test_radii_grow_and_the_rest_stays(asked):
    gradient = certified(asked())
    plain = certified(asked(slope=0.0, arithmetic="real"))
    assert gradient.chunks() == plain.chunks()
    for new, old in zip(gradient.certificates(), plain.certificates(), strict=True):
        assert (new.verdict, new.predicted, new.n_a) == (Verdict.VERIFIED, 0, old.n_a)
        assert new.p_lower < old.p_lower
        assert new.radius > 1.05 * old.radius
    assert not plain.slopes()
    assert not plain.ballots(0)


def test_ballots_are_the_counts(asked):
    store = certified(asked())
    ballots = {(one.classifier, one.phase, one.chunk): one.ballots for one in store.ballots(1)}
    chunks = [chunk for chunk in store.chunks(1) if chunk.phase == ESTIMATION]
    assert len(ballots) == len(chunks) == 3 * 2
    for chunk in chunks:
        votes = unpacked(ballots[chunk.classifier, chunk.phase, chunk.chunk]).tolist()
        assert {label: votes.count(label) for label in set(votes)} == chunk.counts


@pytest.mark.parametrize("after", [1, 7, 19])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(asked, tmp_path, after):
    whole = certified(asked(), tmp_path / "whole")
    killed(asked(), tmp_path / "cut", after)
    again = certified(settle(asked(), tmp_path / "cut"), tmp_path / "cut")
    assert again.digest() == whole.digest()
    assert again.slopes() == whole.slopes()
    assert [b for image in range(IMAGES) for b in again.ballots(image)] == [
        b for image in range(IMAGES) for b in whole.ballots(image)
    ]


@pytest.mark.parametrize("batch", [160, 1000])
def test_batches_do_not_change_slopes(asked, batch):
    reference = certified(asked()).slopes()
    assert certified(asked(batch=batch)).slopes() == reference
    assert len(reference) == IMAGES * 3


@pytest.mark.parametrize("reducer", [("random-member",), ("mean", "vote")])
def test_any_base_classifier(asked, reducer):
    request = asked()
    request = replace(request, classifiers=classifiers_of(2, reducer_names=reducer))
    assert recheck(certified(request)).ok


def test_recheck_and_explain_agree_with_other_code(asked):
    store = certified(asked())
    report = recheck(store)
    assert report.ok
    assert report.count(Outcome.RECHECKED) == IMAGES * 3
    verified = [one for one in store.certificates() if one.verdict is Verdict.VERIFIED]
    for one in verified:
        noise = store.slopes()[one.image, one.classifier]
        radius = gradient_radius(noise, one.p_lower, 0.001, 1.0)
        assert radius * (1 - 1e-3) < one.radius <= radius
        slope = slope_upper(Halves(*astuple(noise)[2:]), 1 - one.p_lower, 0.001)
        assert slope_limit(noise, 1 - one.p_lower, 0.001) == pytest.approx(slope, rel=1e-3)
    text = "\n".join(explain(store, verified[0].image, verified[0].classifier).lines())
    assert "of a class whose slope is at most" in text
    assert "Phi^-1" not in text


def edited(folder, statement):
    with sqlite3.connect(folder / "records.sqlite") as connection:
        assert connection.execute(statement).rowcount
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE certificates SET radius = radius * 1.001 WHERE radius > 0",
        "UPDATE certificates SET radius = radius * 0.9 WHERE radius > 0",
        "UPDATE slopes SET product = product * 3 + 5000, norm1 = norm1 + 1e6",
        "UPDATE slopes SET n1 = n1 + 1",
        "UPDATE slopes SET n1 = 0, n2 = n1 + n2",
        "UPDATE slopes SET norm1 = -norm1",
        "UPDATE slopes SET product = 2 * norm1 + 2 * norm2",
        "DELETE FROM slopes",
    ],
)
def test_recheck_sees_what_was_edited(asked, tmp_path, statement):
    certified(asked(), tmp_path / "run").close()
    edited(tmp_path / "run", statement)
    with RunStore.open(tmp_path / "run") as store:
        report = recheck(store)
    assert not report.ok
    assert report.failures()


def test_a_bundle_is_rechecked_alone(asked, tmp_path):
    store = certified(asked())
    bundle = open_bundle(export_bundle(store, tmp_path / "run.zip"))
    assert bundle.slopes() == store.slopes()
    assert bundle.digest() == store.digest()
    assert recheck(bundle).ok


def test_plain_runs_say_nothing_of_a_slope(request_of, tmp_path):
    config = request_of().config.as_dict()
    assert "slope" not in config
    store = certified(request_of())
    export_bundle(store, tmp_path / "run.zip")
    assert open_bundle(tmp_path / "run.zip").digest() == store.digest()


def test_a_run_does_not_change_its_certificate(asked, tmp_path):
    certified(asked(), tmp_path / "run").close()
    with pytest.raises(ConfigurationError, match="slope"):
        certified(asked(slope=0.2), tmp_path / "run")


@pytest.mark.parametrize(
    "options",
    [
        {"slope": 1.0},
        {"slope": -0.1},
        {"slope": float("nan")},
        {"slope": 0.1, "radii": (0.1,)},
        {"slope": 0.1, "stop": "staged"},
        {"slope": 0.1, "certificate": "renyi"},
        {"slope": 0.1, "n": 1, "n0": 1},
    ],
)
def test_what_has_no_gradient_certificate_is_refused(options):
    with pytest.raises(ParameterError):
        CertifyConfig(sigma=0.5, **options)


def test_ballots_and_slopes_are_written_once(asked):
    store = certified(asked())
    first = store.ballots(0)[0]
    store.commit_chunks([], [first])
    with pytest.raises(RunError, match="ballots of image 0"):
        store.commit_chunks([], [replace(first, ballots=packed(unpacked(first.ballots) + 1))])
    slope = store.slopes()[0, "mean"]
    store.commit_certificates([], [slope])
    for wrong in (replace(slope, norm1=1.0), replace(slope, product=float("nan"))):
        with pytest.raises(RunError):
            store.commit_certificates([], [wrong])
    assert store.slopes()[0, "mean"] == slope


def test_damaged_ballots():
    with pytest.raises(RunError, match="damaged"):
        unpacked(b"nothing")
    assert BallotRecord("a", 0, ESTIMATION, 0, b"").ballots == b""
    assert SlopeRecord("a", 0, 1, 1, 0.0, 0.0, 0.0).n1 == 1


def test_from_python(asked):
    request = asked()
    x = request.dataset.images(range(IMAGES))
    options = {"sigma": 1.0, "n": 2000, "n0": 50, "batch": 100, "device": "cpu"}
    result = certify(request.models[0], x, [0] * IMAGES, slope=0.1, **options)
    assert len(result) == IMAGES
    assert recheck(result.store).ok
