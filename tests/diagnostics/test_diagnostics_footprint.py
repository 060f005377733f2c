"""Footprints: counts against the literature and by hand, forms that answer what they say."""

from __future__ import annotations

import json

import pytest
import torch

from phalanx.diagnostics import latency as timing
from phalanx.diagnostics.families import families, images
from phalanx.diagnostics.footprint import (
    Asking,
    Options,
    footprint,
    forms_of,
    generation,
    products,
)
from phalanx.diagnostics.latency import latencies
from phalanx.ensembles.ensemble import Ensemble
from phalanx.ensembles.random_ensemble import RandomEnsemble
from phalanx.errors import ModelError, ParameterError
from phalanx.models.checkpoint import save
from phalanx.models.resolve import Declaration

QUICK = Options(drawn=2, batches=(1, 3), rounds=2, seconds=1e-4)
PLAIN = 11_173_962


def of(name="lenet5", members=3, *, ps=False, seed=0):
    return families([name], Declaration(), members, ps=ps, seed=seed)


def test_resnet18_costs_what_the_literature_says():
    """0.56 GMAC an image; a PS-RED member generates its kernels for 1.96 GMAC more."""
    found = of("resnet18", 1, ps=True)
    x = torch.rand(1, 3, 32, 32)
    plain, member = found[""][0], found["PS-RED"][0]
    assert products(plain, x) == products(member, x) == pytest.approx(0.556e9, rel=2e-3)
    units = 340 * (128 * 64 * 128 + 64 * 128 * 64 * 9)
    assert generation(member, x) == units == pytest.approx(1.96e9, rel=1e-3)
    assert generation(plain, x) == 0


def test_what_is_stored_and_what_is_resident():
    """Only counts: nothing is timed."""
    found = of("resnet18", 3, ps=True)
    x = torch.rand(1, 3, 32, 32)
    rows = {
        (family, form.name): (form.stored, form.resident)
        for family, members in found.items()
        for form in forms_of(members, x, Options())
    }
    assert rows["", "random member"] == (3 * PLAIN, 3 * PLAIN)
    assert rows["PS-RED", "random member, uncached"] == (3 * 1_191_050, 3 * 1_191_050)
    assert rows["PS-RED", "random member, cached"] == (3 * 1_191_050, 3 * PLAIN)
    shared = 1_131_072 + 3 * (1_191_050 - 1_131_072)
    assert rows["PS-RED, one hypernetwork", "random member, uncached"] == (shared, shared)
    assert rows["PS-RED, one hypernetwork", "ensemble of 3, cached"] == (shared, 3 * PLAIN)
    assert rows["PS-RED, one hypernetwork", "single, cached"] == (1_191_050, PLAIN)
    assert 1 - shared / (3 * PLAIN) == pytest.approx(0.961, abs=5e-4)


def test_products_are_counted_by_hand():
    (member,) = of(members=1)[""]
    by_hand = 6 * 25 * 784 + 16 * 6 * 25 * 100 + 400 * 120 + 120 * 84 + 84 * 10
    assert products(member, torch.rand(1, 1, 28, 28)) == by_hand


@torch.no_grad()
def test_every_form_answers_what_its_name_says():
    members = of()[""]
    x = images(members[0], 6, None, None, seed=0)
    assert x.shape == (6, 1, 28, 28)
    assert x.min() >= 0
    assert x.max() <= 1
    forms = {form.name: form for form in forms_of(members, x, Options(drawn=2, consensus=2))}
    ensemble = Ensemble(members)
    assert list(forms) == [
        "single", "ensemble of 3", "random member", "random 2 of 3", "2-consensus",
    ]  # fmt: skip
    assert torch.equal(forms["single"].answer(x), members[0](x))
    assert torch.equal(forms["ensemble of 3"].answer(x), ensemble(x))
    drawn = RandomEnsemble(ensemble, 2).scores(x, range(6), seed=0)
    assert torch.equal(forms["random 2 of 3"].answer(x), drawn)
    assert forms["random 2 of 3"].products == 2 * forms["single"].products
    assert forms["ensemble of 3"].asked == 3


@torch.no_grad()
def test_consensus_asks_the_others_where_the_first_differ():
    ensemble = Ensemble(of(seed=3)[""])
    x = images(ensemble.models[0], 40, None, None, seed=1) * torch.rand(40, 1, 1, 1)
    asking = Asking(ensemble, 2)
    logits = ensemble.member_logits(x)
    agree = logits[0].argmax(-1) == logits[1].argmax(-1)
    expected = torch.where(agree[:, None], logits[:2].mean(0), logits.mean(0))
    torch.testing.assert_close(asking(x), expected)
    assert asking.asked(x) == pytest.approx(2 + (~agree).double().mean().item())
    for first in (0, 3):
        with pytest.raises(ParameterError, match=r"in 1 \.\. 2"):
            Asking(ensemble, first)


def test_a_member_that_is_not_finite_is_no_consensus():
    class Broken(torch.nn.Module):
        def forward(self, x):
            return torch.full((len(x), 10), torch.nan)

    members = of()[""]
    members[0].network = Broken()
    assert Asking(Ensemble(members), 2).asked(torch.rand(4, 1, 28, 28)) == 3


def test_times_come_from_rounds_that_take_turns(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    order = []
    found = latencies(
        {name: (lambda _, name=name: order.append(name)) for name in "ab"},
        torch.zeros(1),
        rounds=3,
        seconds=1.0,
    )
    assert order == ["a", "b"] * 4
    assert found["a"].p50 == 1.0
    assert found["a"].passes == 3
    assert found["a"].p95 is None
    with pytest.raises(ParameterError, match="above 0"):
        latencies({}, torch.zeros(1), rounds=0, seconds=1.0)


def test_a_percentile_needs_passes():
    quick = latencies({"a": lambda x: x}, torch.zeros(1), rounds=2, seconds=0.01)["a"]
    assert quick.passes >= 20
    assert quick.p95 is not None
    assert quick.p50 <= quick.p95


def test_all_batches_are_timed():
    members = of(members=2)[""]
    seen = []
    x = images(members[0], 3, None, None, seed=0)
    found = footprint({"": members}, x, QUICK, progress=lambda *done: seen.append(done))
    assert all(set(form.seconds) == {1, 3} for form in found)
    assert all(form.seconds[3].p50 > 0 for form in found)
    assert seen[-1][0] == seen[-1][1]
    with pytest.raises(ParameterError, match="3 inputs for batches of 256"):
        footprint({"": members}, x, Options())


def test_the_command_needs_no_weights(command):
    code, out, _ = command(
        "footprint", "lenet5", "--members", 2, "--ps", "--batch", 2, "--rounds", 1,
        "--seconds", "0.001", "--json", "--device", "cpu",
    )  # fmt: skip
    assert code == 0
    forms = {form["form"]: form for form in json.loads(out)["forms"]}
    assert forms["single"]["stored_parameters"] == 61_706
    assert "PS-RED, one hypernetwork, random member, cached" in forms
    assert forms["ensemble of 2"]["latency"]["2"]["p50_seconds"] > 0


def test_the_command_reads_checkpoints_and_answers_in_a_table(command, tmp_path):
    for index, member in enumerate(of(members=2)[""]):
        save(member, tmp_path / f"member-{index}")
    quick = ("--batch", 1, "--rounds", 1, "--seconds", "0.001", "--device", "cpu")
    code, out, _ = command("footprint", tmp_path, *quick)
    assert code == 0
    assert "ensemble of 2" in out
    assert "123,412" in out
    code, _, err = command("footprint", tmp_path, "--members", 3, *quick)
    assert code == 2
    assert "leave --members out" in err
    code, _, err = command("footprint", "lenet5", "--members", 3, "--consensus", 2, *quick)
    assert code == 2
    assert "--data NAME" in err


def test_what_has_no_plain_form_is_refused():
    with pytest.raises(ModelError, match="nothing to generate"):
        of("mlp", ps=True)
    with pytest.raises(ParameterError, match="--members is 0"):
        of(members=0)
