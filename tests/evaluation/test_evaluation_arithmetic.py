"""What a run says of its arithmetic, what it charges, and that others can recompute it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from evaluation_helpers import certified

import phalanx
from phalanx.data.arrays import from_arrays
from phalanx.data.dataset import DataCard, Dataset
from phalanx.errors import ConfigurationError, ParameterError
from phalanx.evaluation.config import CertifyConfig
from phalanx.evaluation.plan import plan
from phalanx.evaluation.request import manifest_of, settle
from phalanx.noise.lattice import LatticeGaussian
from phalanx.reporting.claims import kind_of_claim, not_proven, proven
from phalanx.runs.explain import explain
from phalanx.runs.recheck import recheck
from phalanx.smoothing.radii import radii
from phalanx.verdicts import Verdict

BYTES = torch.randint(0, 256, (6, 1, 4, 4), generator=torch.Generator().manual_seed(1)) / 255


def on_bytes(request):
    return replace(request, dataset=from_arrays(BYTES, torch.zeros(6, dtype=torch.int64)))


@pytest.mark.parametrize(
    ("data", "covers", "on_grid", "halves"),
    [
        (on_bytes, "grid", True, 0),
        (on_bytes, "all", True, 1 + 1 / 32),
        (lambda request: request, "grid", False, 1),
        (lambda request: request, "all", False, 2),
    ],
)
def test_a_run_says_what_it_covers_and_charges_for_it(request_of, data, covers, on_grid, halves):
    request = data(request_of(members=1, covers=covers))
    store = certified(request)
    config = store.manifest.config
    assert (config["arithmetic"], config["covers"]) == ("lattice", covers)
    assert (config["on_grid"], config["dimensions"]) == (on_grid, 16)
    assert config["step"] == pytest.approx(1 / config["steps"], rel=1e-15)
    distance = halves * config["step"] * math.sqrt(16) / 2
    assert distance <= config["charged_distance"] <= distance * (1 + 1e-5)
    assert 0 < config["charged_probability"] < 1e-12
    assert not halves or config["step"] * 2 <= 0.25 / 64
    rule, verified = radii.get("neyman-pearson"), 0
    for row in store.certificates():
        assert row.radius <= max(0.0, rule.radius(row.p_lower, 0.25) - distance)
        verified += row.verdict is Verdict.VERIFIED
    assert verified
    report = recheck(store)
    assert report.ok
    assert not report.reasons()
    said = "inputs on the lattice" if covers == "grid" else "all inputs"
    assert said in kind_of_claim(config)
    assert said in plan(settle(request, None), rate=1.0).lines()[-1]
    assert any("lattice" in claim for claim in proven(config))
    assert not any("floating point, noise" in limit for limit in not_proven(config, [], 1))
    lines = "\n".join(explain(store, 0).lines())
    assert f"lattice arithmetic (step {config['step']:.6g}, {said})" in lines
    assert "of the radius, for sampler and lattice" in lines


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("charged_distance", 0.0, "charged_distance is 0.0"),
        ("charged_probability", 0.0, "charged_probability is 0.0"),
        ("dimensions", 4, "have not 4 coordinates"),
        ("steps", 7, "are not the range"),
    ],
)
def test_a_lattice_that_contradicts_itself_is_told(request_of, key, value, says):
    store = certified(request_of(members=1))
    changed = {**store.manifest.config, key: value}
    object.__setattr__(store.manifest, "config", changed)
    assert says in "; ".join(recheck(store).problems)


@pytest.mark.parametrize(
    ("key", "value"),
    [("step", None), ("on_grid", 1), ("covers", "some"), ("dimensions", math.nan), ("steps", -1)],
)
def test_a_lattice_that_is_not_stated_is_not_rechecked(request_of, key, value):
    store = certified(request_of(members=1))
    object.__setattr__(store.manifest, "config", {**store.manifest.config, key: value})
    (reason,) = recheck(store).reasons()
    assert key in reason


def test_a_radius_that_was_not_charged_fails(request_of):
    store = certified(request_of(members=1))
    with store._database.transaction() as connection:
        connection.execute("UPDATE certificates SET radius = radius + 0.001 WHERE radius > 0")
    assert recheck(store).failures()


def test_an_image_that_is_not_quantised_as_its_card_says_is_an_error(request_of):
    x = BYTES.clone()
    x[2, 0, 0, 0] += 0.001
    card = DataCard("mine", "test", (1, 4, 4), 3, 6, levels=255)
    request = replace(request_of(members=1), dataset=Dataset(card, lambda rows: x[list(rows)]))
    rows = certified(request).certificates()
    assert rows[2].verdict is Verdict.ERROR
    assert "off the lattice" in rows[2].reason
    assert not any(row.verdict is Verdict.ERROR for row in rows if row.image != 2)


def test_a_run_in_real_arithmetic_is_continued_in_it(request_of, tmp_path):
    """It says what runs said before there was a lattice."""
    first = certified(replace(request_of(arithmetic="real"), indices=[0]), tmp_path / "run")
    config = first.manifest.config
    assert config["arithmetic"] == "real"
    assert not config.keys() & {"covers", "steps", "step", "charged_distance"}
    assert recheck(first).ok
    again = certified(request_of(), tmp_path / "run")
    assert again.manifest.config == config
    with pytest.raises(ConfigurationError, match=r"config\.arithmetic"):
        certified(request_of(arithmetic="lattice"), tmp_path / "run")


def test_a_run_on_a_lattice_is_continued_on_it(request_of, tmp_path):
    certified(replace(request_of(steps=4096), indices=[0]), tmp_path / "run")
    assert certified(request_of(), tmp_path / "run").manifest.config["steps"] == 4096
    with pytest.raises(ConfigurationError, match=r"config\.steps"):
        certified(request_of(steps=2048), tmp_path / "run")
    with pytest.raises(ConfigurationError, match=r"config\.arithmetic"):
        certified(request_of(arithmetic="real"), tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"arithmetic": "exact"},
        {"covers": "some"},
        {"arithmetic": "real", "covers": "all"},
        {"arithmetic": "real", "steps": 255},
        {"steps": 0},
    ],
)
def test_what_is_no_arithmetic_is_refused(changes):
    with pytest.raises(ParameterError, match=r"arithmetic|lattice|steps"):
        CertifyConfig(sigma=0.5, **changes)


def test_noise_without_a_lattice_sampler_is_real(monkeypatch):
    class Plain:
        def __init__(self, sigma):
            self.sigma = sigma

    monkeypatch.setattr("phalanx.noise.distributions.distributions.get", lambda name: Plain)
    assert CertifyConfig(sigma=0.5).as_dict()["arithmetic"] == "real"
    with pytest.raises(ParameterError, match="no lattice sampler of gaussian noise"):
        CertifyConfig(sigma=0.5, arithmetic="lattice")


def test_a_sigma_too_small_for_a_lattice_is_refused_before_anything_is_spent(request_of):
    with pytest.raises(ParameterError, match="--arithmetic real"):
        manifest_of(request_of(sigma=1e-8), "test")


def test_targets_are_charged_too(request_of):
    """What a rule stops for is certified after the charge."""
    asked = {"radii": (0.05, 0.1), "covers": "all", "n": 4000, "alpha": 0.01}
    for row in certified(request_of(**asked)).certificates("mean"):
        shown = [row.radius >= radius for radius in (0.05, 0.1)]
        assert all(shown) or row.n == 4000 or not shown[1]
    assert recheck(certified(request_of(**asked))).ok


def test_levels_of_arrays():
    assert from_arrays(BYTES).card.levels == 255
    assert from_arrays((BYTES * 255).round() / 16 % 1).card.levels == 16
    assert from_arrays(torch.rand(3, 7)).card.levels is None
    assert from_arrays((BYTES * 255).to(torch.uint8), value_range=(0, 255)).card.levels == 255
    assert from_arrays(2 * BYTES - 1, value_range=(-1, 1)).card.levels == 255


def test_the_predictor_of_a_result_is_that_of_its_certificates(request_of):
    model = request_of().models[0]
    result = phalanx.certify(model, BYTES, sigma=0.25, n=200, n0=20, steps=510)
    smoothed = result.smoothed(model)
    noise = smoothed._engine.noise
    assert isinstance(noise, LatticeGaussian)
    assert (noise.sigma, noise.lattice.steps) == (0.25, 510)
    real = phalanx.certify(model, BYTES, sigma=0.25, n=200, n0=20, arithmetic="real")
    assert not isinstance(real.smoothed(model)._engine.noise, LatticeGaussian)
    assert len(smoothed.predict(BYTES, n=100)) == 6


def test_a_predictor_moves_its_input_to_the_lattice(request_of):
    """Inputs nearer to a point than to any other get the votes of that point."""
    model = request_of().models[0]
    smoothed = phalanx.Smoothed(model, 0.25)
    near = (BYTES + 0.4 / 255).clamp(max=1.0)
    noise = smoothed._engine.noise
    assert torch.equal(noise.lattice.integers(near), noise.lattice.integers(BYTES))
    for arithmetic, steps in (("exact", None), ("real", 255)):
        with pytest.raises(ParameterError, match="arithmetic"):
            phalanx.Smoothed(model, 0.25, arithmetic=arithmetic, steps=steps)
