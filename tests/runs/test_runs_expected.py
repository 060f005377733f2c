"""Certified expected accuracy of a random member, from the stored votes of each."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import typer
from runs_helpers import fill, manifest
from scipy.special import betaincinv, ndtri
from typer.testing import CliRunner

from phalanx.cli.runs import register
from phalanx.errors import ParameterError, RunError
from phalanx.runs.expected import expected_accuracy
from phalanx.runs.provenance import digest_of
from phalanx.runs.query import summarise
from phalanx.runs.store import RunStore

LABELS = (1, 1, 0, 1)
VOTES = {"member-0": (990, 900, 990, 500), "member-1": (900, 600, 990, 990)}


def members_alone(asked, names):
    records = []
    for record in asked.classifiers:
        identity = dict(record.identity) | ({"reducer": ""} if record.name in names else {})
        records.append(replace(record, identity=identity, digest=digest_of(identity)))
    return replace(asked, classifiers=tuple(records))


def filled(path, alone=("member-0", "member-1"), **config) -> RunStore:
    store = RunStore.create(path, members_alone(manifest(*VOTES, **config), alone))
    for name, votes in VOTES.items():
        for image, (label, count) in enumerate(zip(LABELS, votes, strict=True)):
            fill(store, name, image, label, count)
    return store


def radius(votes: int, alpha: float) -> float:
    """Cohen et al. at sigma 0.5, n 1000, by scipy."""
    return max(0.0, 0.5 * ndtri(betaincinv(votes, 1001 - votes, alpha)))


@pytest.mark.parametrize("r", [0.0, 0.03, 0.3, 0.545, 0.552, 0.7, 0.97, 0.985, 2.0])
def test_it_is_the_share_of_members_that_are_certified_at_alpha_over_n(tmp_path, r):
    with filled(tmp_path / "run") as store:
        found = expected_accuracy(store, [r])
    each = [
        [
            label == 1 and votes > 500 and radius(votes, 0.0005) >= r
            for label, votes in zip(LABELS, counts, strict=True)
        ]
        for counts in VOTES.values()
    ]
    expected = sum(map(sum, each)) / 8
    always = sum(map(all, zip(*each, strict=True))) / 4
    assert (found.images, found.members) == (4, ("member-0", "member-1"))
    (value,) = found.expected.values()
    assert value == expected
    assert list(found.always.values()) == [always]
    low, high = next(iter(found.intervals.values()))
    assert low <= value <= high


def test_it_never_exceeds_the_members_mean(tmp_path):
    with filled(tmp_path / "run") as store:
        radii = [i / 40 for i in range(45)]
        found = expected_accuracy(store, radii)
        each = [summarise(store, name, radii).certified_accuracy for name in VOTES]
    for key, value in found.expected.items():
        assert value <= sum(one[key] for one in each) / 2
        assert found.always[key] <= value


def test_between_the_two_levels_a_radius_is_not_claimed(tmp_path):
    """A member's own certificate is at alpha; together they must be at alpha / N."""
    between = (radius(990, 0.001) + radius(990, 0.0005)) / 2
    with filled(tmp_path / "run") as store:
        assert summarise(store, "member-0", [between]).certified_accuracy[f"{between:g}"] > 0
        assert set(expected_accuracy(store, [between]).expected.values()) == {0.0}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"stop": "anytime"}, "stop is 'anytime'"),
        ({"bound": "randomised-clopper-pearson"}, "bound is 'randomised"),
        ({"certificate": "renyi"}, "certificate is 'renyi'"),
        ({"top": 3}, "most likely classes"),
    ],
)
def test_bounds_that_cannot_be_taken_again_are_refused(tmp_path, config, says):
    with filled(tmp_path / "run", **config) as store, pytest.raises(RunError, match=says):
        expected_accuracy(store, [0.0])


def test_one_member_is_no_random_ensemble(tmp_path):
    with (
        filled(tmp_path / "run", alone=("member-0",)) as store,
        pytest.raises(RunError, match=r"has 1 members.*--each"),
    ):
        expected_accuracy(store)
    with filled(tmp_path / "other") as store, pytest.raises(ParameterError, match="no radius"):
        expected_accuracy(store, [-1.0])


def test_the_command_answers_in_words_and_in_json(tmp_path):
    filled(tmp_path / "run").close()
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)

    def run(*arguments):
        result = CliRunner().invoke(app, ["runs", "expected", str(tmp_path / "run"), *arguments])
        assert result.exception is None, result.exception
        return result.stdout

    value = json.loads(run("--radii", "0,0.5", "--json"))
    assert value["certified_expected_accuracy"] == {"0": 0.625, "0.5": 0.5}
    assert value["alpha_each"] == 0.0005
    text = run("--radii", "0,0.5")
    assert "one of 2 members at random, 4 images" in text
    assert "holds with probability 0.999" in text
