"""A small study from data to table."""

import json
from threading import Barrier

import pytest

from phalanx.errors import Interrupted, RunError
from phalanx.studies.carry_out import RESULT, carry_out
from phalanx.studies.results import envelopes, rows
from phalanx.studies.steps import Setting, steps
from phalanx.studies.study import Study
from phalanx.studies.tables import tables
from phalanx.studies.undertakings import of_study

TINY = {"model.options.hidden": [16], "members": 2}
STUDY = Study.model_validate(
    {
        "name": "tiny",
        "description": "Two members alone and coupled.",
        "data": "digits",
        "network": "mlp",
        "sigmas": [0.25, 0.5],
        "radii": [0, 0.25, 0.5],
        "envelope": True,
        "trainings": {
            "pair": {
                "recipe": "digits-gaussian",
                "changes": {
                    **TINY,
                    "loss": {"name": "drt", "base": {"name": "gaussian"}},
                    "pretrain": {"epochs": 6},
                },
            },
            "control": {
                "recipe": "digits-gaussian",
                "changes": {
                    **TINY,
                    "loss": {"name": "member-gradient-norm", "base": {"name": "gaussian"}},
                    "pretrain": {"epochs": 6},
                },
                "sigmas": [0.25],
            },
            "lone": {
                "recipe": "digits-gaussian",
                "changes": {**TINY, "members": 1},
                "sigmas": [0.25],
            },
        },
        "methods": {
            "alone": {"training": "pair", "stage": "pretrain", "reducers": ["mean"]},
            "coupled": {"training": "pair", "reducers": ["mean"], "beside": "alone"},
            "control": {"training": "control", "reducers": ["mean"], "beside": "alone"},
            "first": {"training": "pair", "members": 1},
            "lone": {"training": "lone"},
        },
        "scales": {"smoke": {"epochs": 1, "pretrain_epochs": 2, "images": 4, "n": 100}},
    }
)


@pytest.fixture
def setting(tmp_path):
    return Setting(STUDY, STUDY.scales["smoke"], tmp_path, device=("--device", "cpu"), workers=1)


@pytest.fixture
def in_this_process(command):
    """Runs a step here and remembers its words."""

    def run(words):
        run.seen.append(words)
        return command(*words)[0]

    run.seen = []
    return run


def test_from_data_to_table(setting, in_this_process):
    told = []
    carry_out(steps(setting), told.append, in_this_process)
    assert len(told) == len(in_this_process.seen) == 4 + 8 + 5
    carry_out(steps(setting), told.append, in_this_process)
    assert len(in_this_process.seen) == 17  # nothing was left to do

    found = rows(setting)
    assert [(row.title, row.sigma) for row in found] == [
        ("alone, member", 0.25), ("alone, mean", 0.25), ("alone, member", 0.5),
        ("alone, mean", 0.5), ("coupled, member", 0.25), ("coupled, mean", 0.25),
        ("coupled, member", 0.5), ("coupled, mean", 0.5), ("control, member", 0.25),
        ("control, mean", 0.25), ("first", 0.25), ("first", 0.5),
        ("lone", 0.25),
    ]  # fmt: skip
    stages = [setting.models(name, 0.25, 0) / "pretrain" for name in ("pair", "control")]
    made = [(stage / "run.json").read_bytes() for stage in stages]
    assert made[0] == made[1]  # trained once

    by_title = {(row.title, row.sigma): row for row in found}
    assert by_title["alone, mean", 0.25].trained["epochs"] == 2
    assert by_title["coupled, mean", 0.25].trained["epochs"] == 1 + 2
    pair = by_title["coupled, mean", 0.25].minus[0]
    gained = by_title["coupled, mean", 0.25].acr - by_title["alone, mean", 0.25].acr
    assert pair.average_certified_radius[2] == pytest.approx(gained)
    assert not by_title["alone, member", 0.25].minus
    assert by_title["alone, mean", 0.25].other == "best member"

    best = {one.title: one for one in envelopes(setting, found)}
    both = [by_title["coupled, mean", sigma].at(0.25) for sigma in (0.25, 0.5)]
    assert best["coupled, mean"].certified[0.25][0] == max(both)
    text = "\n".join(table.text() for table in tables(setting, found, list(best.values())))
    assert "coupled, mean" in text
    assert "Paired differences, sigma 0.5" in text
    assert "best noise level" in text
    (why,) = [t for t in tables(setting, found, []) if t.title.endswith("common, sigma 0.5")]
    assert [row[0].text for row in why.rows] == ["alone, mean", "coupled, mean"]
    zeta = float(why.rows[1][1].text)
    assert zeta == pytest.approx(by_title["coupled, mean", 0.5].diagnosis[0]["zeta"], abs=1e-3)

    values, texts = of_study(setting).told()
    assert any("coupled, mean" in text for text in texts)
    kept = json.loads((setting.out / RESULT).read_text())
    assert kept == json.loads(json.dumps(values))
    assert {row["method"] for row in kept["rows"]} == set(STUDY.methods)
    zetas = [row["diagnosis"]["0"]["zeta"] for row in kept["rows"] if "diagnosis" in row]
    assert len(zetas) == 5


def test_with_jobs_every_step_comes_after_those_it_needs(setting):
    by_words, ended = {step.words: step for step in steps(setting)}, []

    def run(words):
        made = {by_words[other].makes for other in ended}
        assert set(by_words[words].after) <= made
        ended.append(words)
        return 0

    carry_out(steps(setting), lambda text: None, run, jobs=4)
    assert sorted(ended) == sorted(by_words)


def test_a_step_that_fails_lets_those_beside_it_end(setting):
    together, ended = Barrier(2, timeout=60), []

    def run(words):
        together.wait()
        ended.append(words)
        return 3

    with pytest.raises(RunError, match="ended with exit code 3"):
        carry_out(steps(setting), lambda text: None, run, jobs=2)
    assert len(ended) == 2  # and no third one begins


def test_several_seeds_are_trained_and_averaged(tmp_path, in_this_process):
    only = STUDY.model_copy(update={"methods": {"lone": STUDY.methods["lone"]}})
    only = only.model_copy(update={"trainings": {"lone": STUDY.trainings["lone"]}})
    setting = Setting(only, only.scales["smoke"], tmp_path, seeds=(0, 1), workers=1)
    carry_out(steps(setting), lambda text: None, in_this_process)
    (row,) = rows(setting)
    assert row.seeds == (0, 1)
    each = [summary.average_certified_radius for summary in row.summaries]
    assert each[0] != each[1]
    assert row.acr == pytest.approx(sum(each) / 2)
    assert "±" in tables(setting, [row], [])[0].text()


def test_a_failed_step_says_how_to_repeat_it_and_a_stop_is_a_stop(setting):
    with pytest.raises(
        RunError, match=r"train pair, sigma 0.25, seed 0 ended with exit code 3"
    ) as e:
        carry_out(steps(setting), lambda text: None, lambda words: 3)
    assert e.value.repair.startswith("phalanx train digits-gaussian")
    assert "'loss={base: {name: gaussian}, name: drt}'" in e.value.repair
    with pytest.raises(Interrupted):
        carry_out(steps(setting), lambda text: None, lambda words: 130)


def test_nothing_is_shown_of_what_is_not_finished(setting):
    assert rows(setting) == []
    assert tables(setting, [], []) == []
