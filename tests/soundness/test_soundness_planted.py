"""The test of the harness: a planted unsound part, added by registration alone, is caught."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import checks_bounds
import checks_networks
import checks_reducers
import checks_second_law
import checks_stopping
import planted
import pytest
import torch
from torch import nn

from phalanx.api import certify
from phalanx.data.arrays import from_arrays
from phalanx.ensembles.ensemble import reducers
from phalanx.errors import ModelError
from phalanx.evaluation.request import check_models
from phalanx.models.build import networks
from phalanx.models.model import InputSpec, Model
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.radii import radii
from phalanx.smoothing.stopping import rules

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _planted():
    planted.plant()
    yield
    planted.uproot()


@pytest.mark.parametrize(
    "registry", [bounds, radii, reducers, networks, rules], ids=lambda r: r.kind
)
def test_registering_is_enough_to_join(registry):
    assert planted.NAME in registry.names()


@pytest.mark.parametrize("check", [checks_bounds.coverage, checks_bounds.upper_coverage])
def test_wald_does_not_cover(check):
    with pytest.raises(AssertionError):
        check(bounds.get(planted.NAME))


class Mutant:
    """Clopper-Pearson's lower bound, spoilt by one plausible mistake."""

    def __init__(self, mistake):
        self.mistake = mistake

    def lower(self, successes, trials, alpha):
        return self.mistake(bounds.get("clopper-pearson").lower, successes, trials, alpha)


MISTAKES = {
    "alpha-doubled": lambda lower, k, n, alpha: lower(k, n, min(2 * alpha, 0.999)),
    "one-more-success": lambda lower, k, n, alpha: lower(min(k + 1, n), n, alpha),
    "one-trial-less": lambda lower, k, n, alpha: lower(min(k, n - 1), max(n - 1, 1), alpha),
    "rounded-to-nearest": lambda lower, k, n, alpha: round(lower(k, n, alpha), 3),
    "log-of-the-full-house": lambda lower, k, n, alpha: (
        1 - alpha / n if k == n else lower(k, n, alpha)
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_small_mistakes_in_a_bound_do_not_cover(mistake):
    with pytest.raises(AssertionError):
        checks_bounds.coverage(Mutant(MISTAKES[mistake]))


def test_wald_calls_a_full_house_certain():
    with pytest.raises(AssertionError):
        checks_bounds.range_and_order(bounds.get(planted.NAME))


def test_rounded_radius_exceeds_the_tight_one():
    with pytest.raises(AssertionError):
        checks_bounds.never_above_a_linear_classifier(radii.get(planted.NAME))


def test_rounded_radius_of_two_laws_exceeds_a_known_set():
    with pytest.raises(AssertionError):
        checks_second_law.never_beyond_a_known_set(
            radii.get(planted.NAME), "gaussian, smaller variance"
        )


@pytest.mark.slow
def test_peeking_has_not_its_level():
    with pytest.raises(AssertionError):
        checks_stopping.level(rules.get(planted.NAME))


def test_hidden_nan_is_seen():
    with pytest.raises(AssertionError, match="is hidden"):
        checks_reducers.broken_logit_shows_in_scores(reducers.get(planted.NAME))


def test_batch_dependence_is_seen():
    with pytest.raises(AssertionError):
        checks_networks.company_does_not_matter(checks_networks.built(planted.NAME))


@pytest.mark.parametrize("kind", [planted.BatchCentred, planted.BatchScaled])
@pytest.mark.parametrize("sigma", [0.12, 1.0])
def test_batch_dependence_is_refused(kind, sigma):
    x = torch.rand(4, 12, generator=torch.Generator().manual_seed(0))
    x[:, 0], x[:, 1] = 0, 1
    model = Model(kind(12, 3).eval(), InputSpec(shape=(12,)), 3)
    with pytest.raises(ModelError, match="depend on the other inputs"):
        check_models([model], from_arrays(x), range(4), sigma)


def test_an_overwriting_member_changes_no_vote_of_another():
    x, y = torch.rand(2, 12, generator=torch.Generator().manual_seed(0)), torch.zeros(2).long()
    spec = InputSpec(shape=(12,))
    reader = Model(nn.Linear(12, 3).eval(), spec, 3)
    writer = Model(planted.Overwriting(12, 3).eval(), spec, 3)
    options = {"sigma": 1.0, "n": 200, "n0": 50, "batch": 100, "device": "cpu"}
    together = certify([writer, reader], x, y, each=True, **options).of("member-1")
    alone = certify(reader, x, y, **options)
    assert [row.n_a for row in together] == [row.n_a for row in alone]


@pytest.mark.slow
def test_the_whole_harness_turns_red():
    """Run the harness as anybody would, with one plugin that registers and nothing else."""
    places = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    files = ["bounds", "reducers", "networks", "stopping", "second_law"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "planted_plugin", "-k", planted.NAME, "-rf"]
        + ["-p", "no:cacheprovider", "-m", "not slow"]
        + [str(HERE / f"test_soundness_{kind}.py") for kind in files],
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    kinds = ("bound", "radius_rule", "reducer", "network", "rule", "second_law_rule")
    for test in (f"test_{kind}[" for kind in kinds):
        assert f"::{test}{planted.NAME}" in run.stdout.split("short test summary")[1]
