"""``phalanx audit`` from checkpoints to page."""

import json

import pytest

QUICK = ("--effort", "quick", "--limit", "6", "--eps", "0.1", "--device", "cpu")


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Two small members on digits, trained for an epoch."""
    from phalanx.training.shelf import load_recipe
    from phalanx.training.trainer import train

    folder = tmp_path_factory.mktemp("members")
    changes = ["members=2", "epochs=1", "model.options.hidden=[16]"]
    train(load_recipe("digits-plain", changes), out=folder, device="cpu", workers=1)
    return folder


def test_an_audit_says_what_it_found_and_continues(members, tmp_path, command):
    words = ("audit", str(members), *QUICK, "--out", str(tmp_path / "audit"))
    code, out, err = command(*words, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["images"] == 6
    assert found["threat"] == {"norm": "linf", "eps": 0.1}
    assert "A random ensemble of 2 members" in (tmp_path / "audit" / "report.html").read_text()
    code, out, err = command(*words)
    assert code == 0
    assert "worst case, every member right" in out
    assert err.strip().splitlines()[-1] == str(tmp_path / "audit")
    code, out, err = command("runs", "report", str(tmp_path / "audit"))
    assert code == 0, err


def test_the_certified_accuracy_of_a_run_stands_beside(members, tmp_path, command):
    run = tmp_path / "run"
    code, _, err = command(
        "certify", str(members), "--each", "--sigma", "0.25", "--n", "100", "--limit", "6",
        "--allow-sigma-mismatch", "--device", "cpu", "--out", str(run),
    )  # fmt: skip
    assert code == 0, err
    code, out, err = command(
        "audit", str(members), *QUICK, "--certified", str(run), "--out", str(tmp_path / "audit")
    )
    assert code == 0, err
    assert "Certified in l2" in out


def test_a_single_member_is_refused(members, tmp_path, command):
    one = str(members / "weights" / "member-0.safetensors")
    code, _, err = command("audit", one, *QUICK, "--out", str(tmp_path / "audit"))
    assert code == 3
    assert "at least two" in err
