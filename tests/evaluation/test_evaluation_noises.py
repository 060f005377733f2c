"""Every noise and norm, from the engine to a recheck by independent code."""

from __future__ import annotations

import math

import pytest

from phalanx.errors import ParameterError
from phalanx.evaluation.certify import Sweep
from phalanx.evaluation.request import open_run, settle
from phalanx.runs.explain import explain
from phalanx.runs.query import cap_of, summarise
from phalanx.runs.recheck import Outcome, recheck
from phalanx.smoothing.radii import NORMS
from phalanx.verdicts import Verdict


def certified(request):
    request, store = open_run(settle(request, None), None, command="test")
    Sweep(request, store).run()
    return store


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform"])
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
