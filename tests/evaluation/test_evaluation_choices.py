"""Top-k certificates, restricted classes and merged ones: from the engine to a recheck."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import phalanx
from phalanx.data.arrays import from_arrays
from phalanx.errors import ConfigurationError, ParameterError, RunError
from phalanx.evaluation.certify import Sweep
from phalanx.evaluation.request import open_run, request_of, settle
from phalanx.reporting.html import render
from phalanx.reporting.tables import summary_table
from phalanx.runs.compare import Side, compare
from phalanx.runs.explain import explain
from phalanx.runs.query import cap_of, summarise
from phalanx.runs.recheck import Outcome, recheck
from phalanx.verdicts import Verdict

CLASSES, IMAGES = 5, 8
OPTIONS = {"sigma": 0.25, "n": 400, "n0": 40, "chunk": 150, "batch": 64, "device": "cpu"}
LABELS, GROUPS = (0, 2, 3), ((0, 1), (2, 4))


@pytest.fixture
def models(model_of):
    return [model_of(seed, CLASSES) for seed in range(3)]


@pytest.fixture
def x():
    return torch.rand(IMAGES, 1, 4, 4, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def y():
    return torch.arange(IMAGES) % CLASSES


def certified(models, x, y=None, **options):
    """A result whose every certificate is recomputed by independent code."""
    result = phalanx.certify(models, x, y, **{**OPTIONS, **options})
    found = recheck(result.store)
    assert found.ok, found.failures()[:2]
    assert found.count(Outcome.RECHECKED) == len(result.store.certificates())
    return result


STATISTICS = [
    {},
    {"runner_up": 0.5},
    {"radii": (0.05,), "n": 1000},
    {"stop": "anytime-radius"},
    {"stop": "staged", "radii": (0.02,), "stages": (100,)},
    {"bound": "randomised-clopper-pearson"},
    {"bound": "randomised-clopper-pearson", "runner_up": 0.3},
    {"covers": "all"},
    {"norm": "linf", "runner_up": 0.4},
    {"noise": "laplace", "norm": "l1"},
    {"noise": "uniform"},
    {"arithmetic": "real", "runner_up": 0.2},
]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("options", STATISTICS, ids=lambda o: "-".join(map(str, o)) or "plain")
def test_top_k_is_rechecked_under_every_statistic(models, x, y, options, labelled):
    result = certified(models[0], x, y if labelled else None, top=2, **options)
    assert result.store.manifest.config["top"] == 2
    assert any(row.verdict is Verdict.VERIFIED for row in result)
    cap = cap_of(result.store.manifest.config)
    assert all(row.radius <= cap for row in result)


@pytest.mark.parametrize("choices", [{"labels": LABELS}, {"groups": GROUPS}])
@pytest.mark.parametrize("options", STATISTICS[:7], ids=lambda o: "-".join(map(str, o)) or "plain")
def test_restricted_and_merged_classes_are_rechecked(models, x, y, options, choices):
    result = certified(models, x, y, consensus=2, **choices, **options)
    assert {row.predicted for row in result} <= {None, 0, 2, 3}


@pytest.mark.parametrize("reducer", ["mean", "vote", "softmax", "after-smoothing", "random-member"])
def test_choices_go_with_every_reducer(models, x, reducer):
    for choices in ({"labels": LABELS}, {"groups": GROUPS}):
        certified(models, x, reducers=[reducer], **choices)


def test_the_label_is_certified_where_there_is_one(models, x):
    """For top-k the claim is about the label, fixed before any vote; selection has no say."""
    plain = certified(models[1], x, top=2)
    votes = [explain(plain.store, image) for image in range(IMAGES)]
    seconds = [found.runner_up[0] for found in votes]
    labels = [second if image % 2 else image % CLASSES for image, second in enumerate(seconds)]
    labelled = certified(models[1], x, labels, top=2)
    assert {row.predicted for row in labelled} <= {None, *labels}
    for row, other, label in zip(labelled, plain, labels, strict=True):
        counts = [c.counts for c in labelled.store.chunks(row.image) if c.phase == "estimation"]
        assert row.n_a == sum(c.get(label, 0) for c in counts)
        assert row.correct is (row.verdict is Verdict.VERIFIED)
        assert other.correct is None
        if other.predicted == label:
            assert row.radius == other.radius
    # The label is second on some image, and only a certificate for two classes can say so.
    first = certified(models[1], x, labels)
    right = {row.image for row in first if row.correct}
    assert {row.image for row in labelled if row.correct} > right
    for row, wide in zip(first, labelled, strict=True):
        assert not row.correct or wide.radius > row.radius


def test_a_label_that_changes_is_refused(models, x, y, tmp_path):
    out = tmp_path / "run"
    options = {**OPTIONS, "top": 2, "out": out}
    phalanx.certify(models[0], x, y, **options)
    with pytest.raises((RunError, ConfigurationError)):
        phalanx.certify(models[0], x, (y + 1) % CLASSES, **options)


def test_restricted_logits_are_those_of_a_smaller_network(models, x):
    """A network without the other rows casts the same votes, under other numbers."""
    whole = models[0]
    linear = whole.network[1]
    smaller = torch.nn.Linear(16, len(LABELS))
    with torch.no_grad():
        smaller.weight.copy_(linear.weight[list(LABELS)])
        smaller.bias.copy_(linear.bias[list(LABELS)])
    alone = phalanx.Model(
        torch.nn.Sequential(torch.nn.Flatten(), smaller).eval(), whole.inputs, len(LABELS)
    )
    narrow, wide = certified(alone, x), certified(whole, x, labels=LABELS)
    for small, large in zip(narrow, wide, strict=True):
        named = None if small.predicted is None else LABELS[small.predicted]
        assert (large.predicted, large.radius, large.n_a) == (named, small.radius, small.n_a)


def test_merged_votes_are_sums(models, x, y):
    plain, merged = certified(models[0], x, y), certified(models[0], x, y, groups=GROUPS)
    representative = {0: 0, 1: 0, 2: 2, 4: 2, 3: 3}
    for before, after in zip(plain.store.chunks(), merged.store.chunks(), strict=True):
        summed: dict[int, int] = {}
        for label, votes in before.counts.items():
            key = representative[label]
            summed[key] = summed.get(key, 0) + votes
        assert dict(after.counts) == summed
    assert merged.store.labels() == {i: representative[label] for i, label in enumerate(y.tolist())}
    assert summarise(merged.store).clean_accuracy >= summarise(plain.store).clean_accuracy


def test_consensus_spares_members_among_the_choices(models, x):
    """K-consensus reads the restricted logits, and its votes are those of the definition."""
    for choices in ({"labels": LABELS}, {"groups": GROUPS}):
        shared = certified(models, x, consensus=2, **choices)
        both = certified(models, x, reducers=["mean", "vote"], consensus=2, **choices)
        assert [r.n_a for r in shared] == [r.n_a for r in both.of("mean, 2-consensus")]


def test_the_predictor_of_a_result_decides_among_the_same_classes(models, x):
    result = certified(models[0], x, labels=LABELS, groups=((0, 3),))
    said = result.smoothed(models[0]).predict(x)
    assert {label for label in said if label is not phalanx.ABSTAIN} <= {0, 2}
    counts = phalanx.Smoothed(models[0], 0.25, labels=(1, 4)).counts(x, 50)
    assert all(set(votes) <= {1, 4} for votes in counts)


def test_identity_and_configuration_say_it(models, x, tmp_path):
    plain = certified(models[0], x)
    assert not {"top", "labels", "groups"} & set(plain.store.manifest.config)
    kinds = [{}, {"labels": LABELS}, {"groups": GROUPS}, {"labels": (0, 1, 2)}]
    digests = {
        certified(models[0], x, **kind).store.manifest.classifiers[0].digest for kind in kinds
    }
    assert len(digests) == len(kinds)
    out = tmp_path / "run"
    certified(models[0], x, labels=[3, 0, 2], out=out)
    certified(models[0], x, labels=LABELS, out=out)
    with pytest.raises(ConfigurationError, match="labels"):
        phalanx.certify(models[0], x, **OPTIONS, labels=(0, 2), out=out)


def test_an_interrupted_run_goes_on_to_the_same_counts(models, x, y, tmp_path):
    def asked():
        options = {k: v for k, v in OPTIONS.items() if k != "device"}
        data = from_arrays(x, y)
        options |= {"labels": LABELS, "groups": ((0, 3),), "runner_up": 0.5}
        return request_of(models, data, options, consensus=2, device="cpu")

    class Killed(Exception):
        pass

    def run(out, die_after=None):
        request, store = open_run(settle(asked(), out), out, command="test")
        calls = iter(range(10_000))

        def progress(rows, images):
            if die_after is not None and next(calls) == die_after:
                raise Killed

        Sweep(request, store, progress).run()
        return store

    whole = run(tmp_path / "whole").digest()
    with pytest.raises(Killed):
        run(tmp_path / "cut", die_after=5)
    assert run(tmp_path / "cut").digest() == whole


ALTERED = [
    ({"top": 3}, {}),
    ({"top": 1}, {}),
    ({"labels": [0, 1]}, {"labels": LABELS}),
    ({"groups": [[0, 1, 2]]}, {"groups": GROUPS}),
    ({"top": 2, "classes": 9}, {"runner_up": 0.5}),
]


@pytest.mark.parametrize(("change", "options"), ALTERED)
def test_an_altered_claim_fails_the_recheck(models, x, y, change, options):
    result = certified(models[0], x, y, top=2, **options)
    store, manifest = result.store, result.store.manifest
    store.manifest = dataclasses.replace(manifest, config={**manifest.config, **change})
    assert not recheck(store).ok


def test_votes_for_a_class_that_is_left_out_fail_the_recheck(models, x):
    store = certified(models[0], x, labels=LABELS).store
    with store._database.transaction() as connection:
        connection.execute("UPDATE chunks SET counts = replace(counts, '\"0\"', '\"1\"')")
    assert any("leaves out" in reason for f in recheck(store).failures() for reason in f.reasons)


def test_words_say_top_2(models, x, y):
    store = certified(models[0], x, y, top=2, labels=(0, 1, 2, 3), groups=((2, 3),)).store
    assert summary_table(store).title.startswith("Certified top-2 accuracy")
    assert summarise(store).as_json()["measured"] == "top-2"
    kept = next(row for row in store.certificates() if row.verdict is Verdict.VERIFIED)
    lost = next(row for row in store.certificates() if row.verdict is Verdict.ABSTAINED)
    text = "\n".join(explain(store, kept.image).lines())
    assert "to be among the 2 most likely classes within radius" in text
    assert "decided among the classes 0, 1, 2, 3" in text
    assert "counted as one, by the lowest: 2, 3" in text
    assert "do not show the class among the 2 most likely" in explain(store, lost.image).lines()[0]
    assert explain(store, kept.image).as_json()["top"] == 2
    html = render(store)
    assert "among the 2 most likely classes" in html
    assert "top 2, the classes that the base classifier gives most often" in html
    assert "the smoothed classifier returns the same class" not in html
    assert "The line marks 0.333" in html


def test_runs_that_make_other_claims_are_not_compared(models, x, y):
    first, second = certified(models[0], x, y), certified(models[0], x, y, top=2)
    with pytest.raises(RunError, match="most likely classes"):
        compare(Side.of(first.store), Side.of(second.store))


REFUSED = [
    ({"top": 5}, "number of alternatives 5"),
    ({"top": 0}, "top"),
    ({"top": True}, "top"),
    ({"top": 2, "certificate": "renyi"}, "2 most likely"),
    ({"top": 2, "slope": 0.1}, "top"),
    ({"top": 3, "labels": LABELS}, "number of alternatives 3"),
    ({"labels": (0, 7)}, "class 7"),
    ({"labels": (2,)}, "at least two"),
    ({"labels": (2, 2)}, "at least two"),
    ({"labels": (0, -1)}, "at least two"),
    ({"groups": ((0, 1, 2, 3, 4),)}, "number of alternatives 1"),
    ({"groups": ((0, 1), (1, 2))}, "at most one"),
    ({"groups": ((0,),)}, "at least two"),
    ({"groups": ((0, 1),), "labels": (0, 2)}, "left out"),
]


@pytest.mark.parametrize(("options", "says"), REFUSED)
def test_what_means_nothing_is_refused(models, x, options, says):
    with pytest.raises(ParameterError, match=says):
        phalanx.certify(models[0], x, **OPTIONS, **options)


def test_top_goes_with_no_ensemble_after_smoothing(models, x):
    with pytest.raises(ParameterError, match="after-smoothing"):
        phalanx.certify(models, x, **OPTIONS, reducers=["after-smoothing"], top=2)


def test_a_logit_that_is_left_out_still_breaks_the_vote(models, x):
    sound = models[0]

    class Fragile(torch.nn.Module):
        """Its last logit, and no other, is infinite where noise has gone far."""

        def forward(self, z):
            logits = sound.network(z)
            far = z.amin((1, 2, 3)) < -0.2
            return torch.cat([logits[:, :4], torch.where(far, torch.inf, logits[:, 4])[:, None]], 1)

    wrapped = phalanx.Model(Fragile().eval(), sound.inputs, CLASSES)
    rows = phalanx.certify(wrapped, x, **OPTIONS, labels=(0, 1))
    assert {row.verdict for row in rows} == {Verdict.ERROR}
