"""``phalanx diagnose`` from checkpoints to its answer, its file and its note in a run."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from phalanx.cli import diagnose
from phalanx.diagnostics.attach import Diagnosis, attach
from phalanx.diagnostics.report import CorrelationReport
from phalanx.errors import ConfigurationError, ParameterError
from phalanx.models.build import build
from phalanx.models.checkpoint import load, save
from phalanx.models.digest import model_identity
from phalanx.models.model import InputSpec, Model, ModelCard
from phalanx.reporting.html import render
from phalanx.runs.schema import CertificateRecord, ClassifierRecord, Manifest
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict

SHAPE, OPTIONS = (1, 8, 8), {"hidden": [16]}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of two small members trained for sigma .5 (their cards say so)."""
    folder = tmp_path_factory.mktemp("weights")
    for member in range(2):
        network = build("mlp", 10, SHAPE, key=member, **OPTIONS)
        card = ModelCard(name=f"m{member}", architecture="mlp", options=OPTIONS, sigma=0.5)
        save(Model(network, InputSpec(shape=SHAPE), 10, card).eval(), folder / f"member-{member}")
    return folder


def run(*arguments):
    app = typer.Typer()
    diagnose.register(app)
    options = ["--samples", "100", "--limit", "3", "--gradient-samples", "32"]
    return CliRunner().invoke(app, [*map(str, arguments), *options])


def answer(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_folder_of_checkpoints_is_an_ensemble(weights):
    values = answer(weights)
    assert (values["members"], values["images"], values["samples"]) == (2, 3, 100)
    assert values["sigma"] == 0.5
    assert -1 <= values["zeta_noise"] <= 1


def test_plain_text_answer(weights):
    result = run(weights)
    assert result.exit_code == 0
    assert result.stdout.startswith("correlation of 2 members under noise sigma=0.5")


def test_theory_is_part_of_the_answer(weights):
    values = answer(weights, "--reducer", "weighted:3,1")
    assert values["conditions"]["weights"] == [0.75, 0.25]
    assert values["conditions"]["images"] == 3
    assert {row["n"] for row in values["radius_law"]["predicted"]} >= {100, 100_000}
    text = run(weights).stdout
    assert "DRT's conditions" in text
    assert "radius law" in text
    assert text.count("not certificates") >= 3


def test_theory_can_be_left_out(weights):
    app = typer.Typer()
    diagnose.register(app)
    options = ["--samples", "100", "--limit", "1", "--gradient-samples", "0", "--json"]
    result = CliRunner().invoke(app, [str(weights), *options])
    assert result.exit_code == 0
    assert "conditions" not in json.loads(result.stdout)


def test_out_writes_the_same_json(weights, tmp_path):
    values = answer(weights, "--out", tmp_path / "new")
    assert json.loads((tmp_path / "new" / "correlation.json").read_text()) == values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sigma", "0.25"], "trained for 0.5"),
        (["--sigma", "nan", "--allow-sigma-mismatch"], "sigma"),
        (["--alpha", "1.5"], "alpha is 1.5"),
    ],
)
def test_bad_parameters_are_typed_errors(weights, arguments, message):
    error = run(weights, *arguments).exception
    assert isinstance(error, ParameterError)
    assert message in str(error)


def test_one_model_is_refused(weights):
    error = run(weights / "member-0.safetensors").exception
    assert isinstance(error, ParameterError)
    assert "at least two" in str(error)


def manifest(models, sigma=0.5, data="digits"):
    members = [model_identity(model) for model in models]
    record = ClassifierRecord("mean", {"members": members}, "d" * 64, True)
    return Manifest("certify", "phalanx certify", {"sigma": sigma}, (record,), {"name": data})


def members(weights):
    return [load(weights / f"member-{index}") for index in range(2)]


def test_out_of_its_run_becomes_a_note(weights, tmp_path):
    RunStore.create(tmp_path / "run", manifest(members(weights))).close()
    values = answer(weights, "--out", tmp_path / "run")
    with RunStore.open(tmp_path / "run") as store:
        assert store.get_meta("correlation") == values
    assert not (tmp_path / "run" / "correlation.json").exists()


def test_a_run_with_counts_adds_its_shares_and_shows_the_theory(weights, tmp_path):
    store = RunStore.create(tmp_path / "run", manifest(members(weights)))
    rows = [
        CertificateRecord("mean", image, Verdict.VERIFIED, 1, True, 0.4, n_a, 100, 0.8)
        for image, n_a in enumerate([90, 100, 95])
    ]
    store.commit_certificates(rows)
    values = answer(weights, "--out", tmp_path / "run")
    (shares,) = values["stored_shares"]
    assert (shares["classifier"], shares["images"]) == ("mean", 3)
    assert shares["quantiles"][2] == 0.95
    assert shares["unanimous"] == pytest.approx(1 / 3)
    page = render(store)
    for heading in ("Radii that more samples would give", "Sufficient and necessary conditions"):
        assert heading in page
    assert page.count("not certificates") >= 3
    assert "p_A from stored counts" in run(weights, "--out", tmp_path / "run").stdout
    store.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0.25}, "another sigma"),
        ({"data": "mnist"}, "other data"),
        ({"models": "one"}, "other members"),
    ],
)
def test_a_run_about_something_else_is_refused(weights, change, message):
    models = members(weights)
    given = models[:1] if change.pop("models", None) else models
    found = CorrelationReport(2, 1, 100, 0.5, 0.001, 0.5, 0.5, {0: 0.5}, (0.5, 0.5), 1.0)
    store = RunStore.create(None, manifest(given, **change))
    with pytest.raises(ConfigurationError, match=message):
        attach(store, Diagnosis(found), models, "digits")
