"""From members on disk to what is certified of one of them at random, by two commands."""

from __future__ import annotations

import json

import pytest

from phalanx.models.build import build
from phalanx.models.checkpoint import save
from phalanx.models.hypernetwork import share
from phalanx.models.model import InputSpec, Model, ModelCard

SIZES = {"hypernetwork": {"unit": 4, "hidden": 3, "embedding": 3, "shared": True}}


def member(key: int, options) -> Model:
    network = build("mnist-cnn", 10, (1, 8, 8), key=key, **options)
    card = ModelCard(f"member-{key}", "mnist-cnn", options, 0.25)
    return Model(network.eval(), InputSpec(shape=(1, 8, 8)), 10, card)


@pytest.mark.parametrize("options", [{}, SIZES], ids=["stored", "generated"])
def test_each_member_is_certified_and_then_all_together(command, tmp_path, options):
    members = [member(key, options) for key in range(2)]
    share([one.network for one in members])
    for index, one in enumerate(members):
        save(one, tmp_path / "members" / f"member-{index}")
    asked = ("--limit", 6, "--every", 7, "--n", 200, "--n0", 20, "--device", "cpu")
    code, _, err = command(
        "certify", tmp_path / "members", "--each", *asked, "--out", tmp_path / "run"
    )
    assert code == 0, err
    code, out, err = command("runs", "expected", tmp_path / "run", "--radii", "0,0.1", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["images"] == 6
    assert found["members"] == ["member-0", "member-1"]
    at_zero, beyond = found["certified_expected_accuracy"].values()
    assert 0 <= beyond <= at_zero <= 1
    code, out, _ = command("runs", "show", tmp_path / "run", "--radii", "0", "--json")
    each = json.loads(out)["classifiers"].values()
    assert at_zero <= sum(one["certified_accuracy"]["0"] for one in each) / 2
    assert command("runs", "recheck", tmp_path / "run")[0] == 0
