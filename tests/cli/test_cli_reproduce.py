"""``phalanx reproduce`` on the command line."""

import json

import pytest

from phalanx.cli import forks
from phalanx.studies.steps import Setting


@pytest.fixture(autouse=True)
def images(monkeypatch):
    monkeypatch.setattr(Setting, "images", property(lambda self: (20, self.scale.images or 500)))


def test_a_plan_prints_commands_and_runs_nothing(command, monkeypatch, tmp_path):
    monkeypatch.setattr(forks, "run_command", lambda words: pytest.fail("it ran"))
    words = ["reproduce", "smoothing-mnist", "--scale", "smoke", "--plan", "--out", tmp_path]
    code, said, _ = command(*words, "--sigma", "0.5", "--method", "macer", "--seeds", "2")
    assert code == 0
    lines = said.splitlines()
    assert [line.split()[1] for line in lines] == ["train"] * 4 + ["certify"] * 4
    assert all("--out" in line and str(tmp_path) in line for line in lines)
    code, said, _ = command(*words, "--json")
    assert code == 0
    assert not any(step["done"] for step in json.loads(said)["steps"])
    assert not list(tmp_path.iterdir())


def test_an_empty_table_says_so(command, tmp_path):
    code, said, err = command("reproduce", "drt-mnist", "--table-only", "--out", tmp_path / "new")
    assert code == 0
    assert "nothing is finished yet" in said
    assert err.splitlines()[-1] == str(tmp_path / "new" / "study.json")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["drt-minst"], "there is no study 'drt-minst'"),
        (["drt-mnist", "--scale", "medium"], "no scale 'medium'"),
        (["drt-mnist", "--sigma", "0.3"], "no sigma 0.3"),
        (["drt-mnist", "--method", "dtr"], "no method 'dtr'"),
    ],
)
def test_a_wrong_word_is_refused(command, words, what, tmp_path):
    code, _, err = command("reproduce", *words, "--out", tmp_path / "new")
    assert code == 2
    assert what in err
    assert not (tmp_path / "new").exists()
