"""Every noise, norm and kind of bound, from the engine to a recheck by independent code."""

from __future__ import annotations

import dataclasses
import math

import pytest
from evaluation_helpers import certified

from phalanx.errors import ParameterError, RunError
from phalanx.evaluation.decisions import Decisions
from phalanx.runs.explain import explain
from phalanx.runs.query import cap_of, summarise
from phalanx.runs.recheck import Outcome, recheck
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.smoothing.radii import NORMS
from phalanx.verdicts import Verdict


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform", "generalised-gaussian"])
def test_certificates_of_a_run_are_rechecked(request_of, noise, norm):
    store = certified(request_of(noise=noise, norm=norm, dimension=16))
    found = recheck(store)
    assert found.ok
    assert found.count(Outcome.RECHECKED) == len(store.certificates())
    verified = [row for row in store.certificates() if row.verdict is Verdict.VERIFIED]
    assert verified
    cap = cap_of(store.manifest.config)
    assert all(0 < row.radius <= cap for row in verified)
    assert f"{norm} distance" in "\n".join(explain(store, verified[0].image).lines())
    assert summarise(store).images == 6


@pytest.mark.parametrize("order", [0, 3, 6])
def test_an_order_is_recorded_and_rechecked(request_of, order):
    asked = {"noise": "generalised-gaussian", "dimension": 16}
    store = certified(request_of(order=order, **asked))
    rechecked(store)
    assert store.manifest.config["order"] == order
    assert store.manifest.config["arithmetic"] == "real"
    usual = certified(request_of(**asked))
    assert usual.manifest.config["order"] == 0  # of 16 values
    assert (usual.digest() == store.digest()) == (order == 0)
    manifest = store.manifest
    for wrong in (5, None, 8, -1, 2.5):
        config = {**manifest.config, "order": wrong}
        store.manifest = dataclasses.replace(manifest, config=config)
        if wrong == 5:
            assert not recheck(store).ok
        else:
            with pytest.raises(RunError, match="order"):
                recheck(store)


def test_a_radius_in_linf_is_that_in_l2_by_the_root_of_the_dimension(request_of):
    l2 = certified(request_of(norm="l2", dimension=16)).certificates()
    linf = certified(request_of(norm="linf", dimension=16)).certificates()
    for wide, narrow in zip(l2, linf, strict=True):
        assert narrow.radius == pytest.approx(wide.radius / 4, rel=1e-14)
        assert narrow.radius <= wide.radius / 4


def test_radii_to_decide_are_in_the_norm_of_the_run(request_of):
    store = certified(request_of(norm="linf", dimension=16, radii=(0.05,), n=2000))
    assert store.manifest.config["stop"] == "anytime"
    assert recheck(store).ok
    cap = 0.25 * 3.3 / math.sqrt(16)
    with pytest.raises(ParameterError, match="unanimous votes give"):
        request_of(norm="linf", dimension=16, radii=(cap,))


def test_an_altered_radius_or_norm_fails_the_recheck(request_of):
    store = certified(request_of(noise="laplace", norm="l1", dimension=16))
    for altered in ({"norm": "linf"}, {"noise": "uniform", "certificate": "uniform"}):
        manifest = store.manifest
        store.manifest = type(manifest)(
            **{**vars(manifest), "config": {**manifest.config, **altered}}
        )
        assert not recheck(store).ok
        store.manifest = manifest


def rechecked(store):
    """Every certificate, and the run as a whole."""
    found = recheck(store)
    assert found.ok, found.failures()[:3]
    assert found.count(Outcome.RECHECKED) == len(store.certificates())


def test_an_ensemble_after_smoothing_is_rechecked_from_its_members(request_of):
    request = request_of(members=3)
    names = ["after-smoothing", "mean"]
    request = dataclasses.replace(request, classifiers=classifiers_of(3, reducer_names=names))
    store = certified(request)
    rechecked(store)
    assert store.rows_counted("after-smoothing") == 0
    first = store.certificates("after-smoothing", 0)[0]
    members = [store.certificates(f"member-{i}", 0)[0] for i in range(3)]
    assert first.radius < max(member.radius for member in members)
    assert first.n == sum(member.n for member in members)


@pytest.mark.parametrize("stop", ["fixed", "staged", "anytime"])
def test_an_ensemble_after_smoothing_goes_with_every_stopping_rule(request_of, stop):
    options = {} if stop == "fixed" else {"radii": (0.1,), "stages": (100,)}
    request = request_of(members=2, stop=stop, **options)
    both = classifiers_of(2, reducer_names=["after-smoothing"])
    store = certified(dataclasses.replace(request, classifiers=both))
    assert recheck(store).ok
    assert len(store.certificates("after-smoothing")) == 6


def test_a_randomised_bound_stores_what_it_drew(request_of):
    plain = certified(request_of())
    store = certified(request_of(bound="randomised-clopper-pearson"))
    rechecked(store)
    rows = store.certificates("mean")
    assert len({row.details["drawn"] for row in rows}) == len(rows)
    for row, other in zip(rows, plain.certificates("mean"), strict=True):
        assert (row.n_a, row.n) == (other.n_a, other.n)
        assert row.p_lower >= other.p_lower
    again = certified(request_of(bound="randomised-clopper-pearson"))
    assert again.digest() == store.digest()


def test_another_draw_fails_the_recheck(request_of):
    store = certified(request_of(bound="randomised-clopper-pearson"))
    manifest = store.manifest
    store.manifest = dataclasses.replace(manifest, config={**manifest.config, "seed": 1})
    assert not recheck(store).ok


def test_a_bound_on_the_runner_up_is_rechecked(request_of):
    rechecked(certified(request_of(runner_up=0.3, classes=3)))
    store = certified(request_of(runner_up=0.3, classes=3))
    manifest = store.manifest
    store.manifest = dataclasses.replace(manifest, config={**manifest.config, "runner_up": 0.0})
    assert not recheck(store).ok


def test_combinations_that_prove_nothing_are_refused(request_of):
    with pytest.raises(ParameterError, match="runner_up is"):
        request_of(runner_up=1.0, classes=3)
    with pytest.raises(ParameterError, match="number of classes"):
        request_of(runner_up=0.5)
    after = classifiers_of(2, reducer_names=["after-smoothing"])
    for config in ({"certificate": "renyi"}, {"runner_up": 0.5, "classes": 3}):
        with pytest.raises(ParameterError, match="signed radii"):
            Decisions(request_of(**config).config, after)
