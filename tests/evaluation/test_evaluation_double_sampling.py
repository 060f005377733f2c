"""Double sampling in a run: resumed, shared, bundled, rechecked; always the same numbers."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import pytest
import torch
from evaluation_helpers import certified, killed
from torch import nn

from phalanx.api import certify
from phalanx.data.arrays import from_arrays
from phalanx.errors import ConfigurationError, ParameterError
from phalanx.evaluation.config import CertifyConfig
from phalanx.evaluation.plan import plan
from phalanx.evaluation.request import settle
from phalanx.models.model import InputSpec, Model
from phalanx.reporting.claims import proven
from phalanx.runs.bundle import export_bundle, open_bundle
from phalanx.runs.explain import explain
from phalanx.runs.recheck import Outcome, recheck
from phalanx.runs.schema import ESTIMATION, SECOND_LAW, SELECTION
from phalanx.runs.store import RunStore
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.smoothing.engine import Engine
from phalanx.verdicts import Verdict

IMAGES = 3
# Eleven selection votes out of twelve, or fewer, are not unanimous: the first law gets the rest.
SPLIT = [4000] * 8 + [3000] * 4 + [2000]
DOUBLE = {
    "certificate": "double-sampling",
    "noise": "generalised-gaussian",
    "order": 3,
    "dimension": 16,
    "split": SPLIT,
    "sigma": 0.5,
    "n": 4000,
    "n0": 12,
    "chunk": 1500,
    "alpha": 0.01,
    "batch": 200,
}


class Round(nn.Module):
    """Class 0 inside a ball around the middle of the data, else class 1; class 2 never."""

    def __init__(self, seed):
        super().__init__()
        self.radius = nn.Parameter(torch.tensor(2.5 + 0.2 * seed))

    def forward(self, x):
        away = (x.flatten(1) - 0.5).norm(dim=1)
        return torch.stack([self.radius - away, away - self.radius, 0 * away - 9], 1)


@pytest.fixture
def asked(request_of):
    """Factory of requests for two such models, each alone and their mean."""

    def make(**config):
        models = [
            Model(Round(seed).eval(), InputSpec((0.0, 1.0), shape=(1, 4, 4)), 3) for seed in (0, 1)
        ]
        x = torch.full((IMAGES, 1, 4, 4), 0.5)
        x[:, 0, 0, 0] += torch.tensor([0.0, 0.3, 0.45])
        data = from_arrays(x, torch.zeros(IMAGES, dtype=torch.int64))
        return replace(request_of(IMAGES, **DOUBLE | config), models=models, dataset=data)

    return make


def test_both_laws_are_sampled_as_the_selection_says(asked):
    store = certified(asked())
    shared = {n_p for n_p in SPLIT if n_p < 4000}
    used = set()
    for one in store.certificates():
        chunks = store.chunks(one.image, one.classifier)
        hits = max(next(c for c in chunks if c.phase == SELECTION).counts.values())
        n_p = SPLIT[hits]
        used.add(n_p)
        assert (one.n, one.details["n_p"], one.details["n_q"]) == (n_p, n_p, 4000 - n_p)
        counted = {
            phase: sum(c.rows for c in chunks if c.phase == phase)
            for phase in (ESTIMATION, SECOND_LAW)
        }
        # Classifiers share chunks, so there may be more than one of them needs.
        assert counted[ESTIMATION] >= n_p
        assert counted[SECOND_LAW] >= 4000 - n_p
    assert used & shared


def test_a_run_that_asks_for_no_second_law_has_the_plain_radii(asked):
    double = certified(asked(split=[4000]))
    plain = certified(asked(certificate=None, split=[]))
    assert [c.radius for c in double.certificates()] == [c.radius for c in plain.certificates()]
    assert [c.n_a for c in double.certificates()] == [c.n_a for c in plain.certificates()]
    assert recheck(double).ok


@pytest.mark.parametrize("after", [1, 7, 31])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(asked, tmp_path, after):
    whole = certified(asked(), tmp_path / "whole")
    killed(asked(), tmp_path / "cut", after)
    again = certified(settle(asked(), tmp_path / "cut"), tmp_path / "cut")
    assert again.digest() == whole.digest()


def test_a_smaller_batch_after_running_out_of_memory_ends_alike(asked, monkeypatch):
    whole = certified(asked())
    run, failed = Engine.run, []

    def out_of_memory_once(engine, next_work, on_pass=lambda rows: None):
        for passes, counted in enumerate(run(engine, next_work, on_pass)):
            if passes == 5 and not failed:
                failed.append(passes)
                raise torch.OutOfMemoryError
            yield counted

    monkeypatch.setattr(Engine, "run", out_of_memory_once)
    store = certified(asked())
    assert failed
    assert [c.radius for c in store.certificates()] == [c.radius for c in whole.certificates()]
    assert recheck(store).ok


@pytest.mark.parametrize("batch", [170, 1000])
def test_batches_change_nothing(asked, batch):
    reference = certified(asked()).chunks()
    assert certified(asked(batch=batch)).chunks() == reference


@pytest.mark.parametrize(
    "choice",
    [
        {"reducer_names": ("mean", "softmax", "vote", "max-margin"), "each": True},
        {"reducer_names": ("random-member",)},
    ],
)
def test_any_base_classifier(asked, choice):
    request = asked()
    request = replace(request, classifiers=classifiers_of(2, **choice))
    report = recheck(certified(request))
    assert report.ok
    assert report.count(Outcome.RECHECKED) == IMAGES * len(request.classifiers)


def test_consensus_of_the_first_members(asked):
    request = asked()
    models = [*request.models, request.models[0]]
    classifiers = classifiers_of(3, consensus=2)
    store = certified(replace(request, models=models, classifiers=classifiers))
    assert recheck(store).ok


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"second": "truncation"},
        {"second": "truncation", "second_level": 0.8, "norm": "linf"},
        {"noise": "gaussian", "order": None, "second_level": 0.45},
        {"noise": "gaussian", "order": None, "second": "truncation", "norm": "l1", "sigma": 0.45},
    ],
)
def test_recheck_proves_every_certificate_again(asked, change):
    store = certified(asked(**change))
    report = recheck(store)
    assert report.ok, report.as_json()
    assert report.count(Outcome.RECHECKED) == IMAGES * 3
    assert any("distance" in one.details for one in store.certificates())
    assert {one.verdict for one in store.certificates()} == {Verdict.VERIFIED}


def test_explain_report_and_plan_speak_of_both_laws(asked):
    store = certified(asked())
    both = next(one for one in store.certificates() if one.details["n_q"])
    explanation = explain(store, both.image, both.classifier)
    text = "\n".join(explanation.lines())
    assert "votes under the second law (sigma 0.4), at alpha 0.005" in text
    assert "after a quadrature error of" in text
    assert "one-sided Clopper-Pearson at alpha 0.005; radius of both laws" in text
    assert explanation.as_json()["details"]["distance"] == both.details["distance"]
    assert sum(explanation.as_json()["second_law"].values()) == both.details["n_q"]
    assert any("double sampling" in claim for claim in proven(store.manifest.config))
    found = plan(settle(asked(), None), rate=1000.0)
    assert found.lines()[-1] == (
        "second law smaller-variance at 0.4: the selection gives 2,000 to 3,000 samples to the"
        " first law and the rest of 4,000 to the second; all 4,000 where plain Neyman-Pearson"
        " promises more"
    )
    assert found.samples == 4012
    assert found.largest_radius >= max(one.radius for one in store.certificates())


def edited(folder, **changes):
    """Change details of every certificate that has a proof."""
    with sqlite3.connect(folder / "records.sqlite") as connection:
        columns = "classifier, image, details, radius"
        rows = connection.execute(f"SELECT {columns} FROM certificates").fetchall()
        for classifier, image, text, radius in rows:
            details = json.loads(text)
            if "distance" not in details:
                continue
            scale = changes.get("radius", 1.0)
            for name, change in changes.items():
                if name == "radius":
                    continue
                details[name] = change(details[name])
            connection.execute(
                "UPDATE certificates SET details = ?, radius = ? "
                "WHERE classifier = ? AND image = ?",
                (json.dumps(details), radius * scale, classifier, image),
            )
    connection.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"radius": 1.001},
        {"radius": 0.99},
        {"radius": 1.001, "distance": lambda d: 1.001 * d},
        {"radius": 0.9, "distance": lambda d: 0.9 * d},
        {"l1": lambda v: v + 1},
        {"l2": lambda v: 1.01 * v},
        {"l2": lambda v: -v},
        {"bound": lambda v: v + 0.01},
        {"bound": lambda _: 0.5},
        {"error": lambda v: -v},
        {"level": lambda _: 0.41},
        {"law": lambda _: "truncation"},
        {"n_q": lambda v: v + 1},
        {"hits_q": lambda v: v + 1},
        {"p": lambda v: [v[0] + 0.001, 1.0]},
        {"q": lambda v: [v[0] + 0.001, 1.0]},
        {"q": lambda v: [v[0], 0.999]},
        {"alpha": lambda _: {"p": 0.005, "q": 0.01}},
        {"distance": lambda _: None},
        {"l1": lambda _: True},
    ],
)
def test_recheck_sees_what_was_edited(asked, tmp_path, changes):
    certified(asked(), tmp_path / "run").close()
    edited(tmp_path / "run", **changes)
    with RunStore.open(tmp_path / "run") as store:
        report = recheck(store)
    assert not report.ok
    assert report.failures()


def test_recheck_sees_votes_that_moved_between_the_laws(asked, tmp_path):
    certified(asked(), tmp_path / "run").close()
    with sqlite3.connect(tmp_path / "run" / "records.sqlite") as connection:
        connection.execute(f"DELETE FROM chunks WHERE phase = '{SECOND_LAW}' AND chunk = 0")
    connection.close()
    with RunStore.open(tmp_path / "run") as store:
        assert "rows of its second-law are stored" in str(recheck(store).as_json())


def test_a_bundle_is_rechecked_alone(asked, tmp_path):
    store = certified(asked())
    bundle = open_bundle(export_bundle(store, tmp_path / "run.zip"))
    assert bundle.digest() == store.digest()
    assert recheck(bundle).ok


def test_the_split_is_planned_recorded_and_taken_up_again(asked, tmp_path):
    store = certified(asked(split=[]), tmp_path / "run")
    recorded = store.manifest.config
    assert len(recorded["split"]) == 13
    assert (recorded["second"], recorded["second_level"]) == ("smaller-variance", 0.4)
    store.close()
    joined = settle(asked(split=[]), tmp_path / "run")
    assert list(joined.config.split) == recorded["split"]
    assert certified(joined, tmp_path / "run").finished() == set(range(IMAGES))
    with pytest.raises(ConfigurationError, match="split"):
        certified(asked(split=[4000]), tmp_path / "run")
    with pytest.raises(ConfigurationError, match="second_level"):
        certified(asked(split=[], second_level=0.45), tmp_path / "run")


def test_other_runs_say_nothing_of_a_second_law(request_of):
    assert not {"second", "second_level", "split"} & request_of().config.as_dict().keys()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stop": "staged", "radii": (0.1,)}, "stop is 'staged'"),
        ({"radii": (0.1,)}, "stop is 'anytime'"),
        ({"slope": 0.1}, "certificate is 'double-sampling'"),
        ({"runner_up": 0.5, "classes": 3}, "bound on the runner-up"),
        ({"bound": "randomised-clopper-pearson"}, "bound is 'randomised-clopper-pearson'"),
        ({"arithmetic": "lattice", "noise": "gaussian", "order": None}, "on a lattice"),
        ({"noise": "laplace", "order": None}, "does not hold for laplace noise"),
        ({"dimension": None}, "number of values of an input"),
        ({"n": 99, "split": []}, "n is 99"),
        ({"split": [1, 2]}, "a split of 4000 samples"),
        ({"second": "wider"}, "second law is 'wider'"),
        ({"certificate": None, "split": [], "second": "truncation"}, "only double sampling"),
        ({"certificate": None, "split": []} | {"second_level": 0.4}, "only double sampling"),
        ({"certificate": None}, "only double sampling"),
    ],
)
def test_what_has_no_double_sampling_is_refused(options, says):
    with pytest.raises(ParameterError, match=says):
        CertifyConfig(**DOUBLE | options)


def test_after_smoothing_is_refused(asked):
    request = asked()
    x = request.dataset.images(range(IMAGES))
    chosen = {"certificate": "double-sampling", "noise": "generalised-gaussian", "n": 200}
    with pytest.raises(ParameterError, match="signed radii"):
        certify(list(request.models), x, reducers=["after-smoothing"], sigma=0.5, **chosen)


def test_from_python(asked):
    request = asked()
    x = request.dataset.images(range(IMAGES))
    options = {"sigma": 0.5, "n": 2000, "n0": 50, "batch": 100, "device": "cpu", "split": [1000]}
    chosen = {"certificate": "double-sampling", "noise": "generalised-gaussian"}
    result = certify(request.models[0], x, [0] * IMAGES, **options, **chosen)
    assert len(result) == IMAGES
    assert all(one.details["n_q"] == 1000 for one in result)
    assert recheck(result.store).ok
