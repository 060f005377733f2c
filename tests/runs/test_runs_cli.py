"""``phalanx runs``: answers on stdout, remarks on stderr, exit codes, and no torch."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from phalanx.cli.runs import register
from phalanx.errors import ParameterError, RunError
from phalanx.runs.store import RunStore

LOG = "idx\tlabel\tpredict\tradius\tcorrect\n0\t7\t7\t1.87\t1\n1\t3\t-1\t0.0\t0\n2\t3\t5\t0.5\t0\n"


def invoke(*arguments: object) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, ["runs", *map(str, arguments)])


def run(*arguments: object) -> Result:
    result = invoke(*arguments)
    assert result.exception is None, result.exception
    return result


@pytest.fixture
def folder(small: RunStore) -> Path:
    assert small.folder is not None
    return small.folder


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "published.tsv"
    path.write_text(LOG)
    return path


def test_show(folder: Path) -> None:
    value = json.loads(run("show", folder, "--json").stdout)
    assert value["certified_accuracy"]["0.5"] == 0.5
    assert value["classifiers"]["member-0"]["certified_accuracy"]["0.5"] == 0.25
    text = run("show", folder).stdout
    assert "member-0" in text
    assert "Clopper-Pearson" in text
    one = run("show", folder, "--classifier", "member-0", "--radii", "0,1/2").stdout
    assert "member-0" in one
    assert "r = 0.5" in one
    assert "mean" not in one.splitlines()[2]


def test_list(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "run.json").write_text(
        '{"schema": 1, "kind": "train", "command": "", "config": {}, "classifiers": []}'
    )
    text = run("list", "--root", tmp_path).stdout
    assert "small" in text
    assert "damaged" in text
    entries = json.loads(run("list", "--root", tmp_path, "--json").stdout)["runs"]
    found = {Path(entry["run"]).name: entry for entry in entries}
    assert found.keys() == {"small", "broken", "trained"}
    assert found["small"]["images"] == 4
    assert found["trained"]["average_certified_radius"] is None


def test_an_empty_list_says_so(tmp_path: Path) -> None:
    result = run("list", "--root", tmp_path)
    assert result.stdout == ""
    assert "no runs" in result.stderr
    assert isinstance(invoke("list", "--root", tmp_path / "nothing").exception, RunError)


def test_compare(folder: Path) -> None:
    sides = (f"{folder}:mean", f"{folder}:member-0")
    value = json.loads(run("compare", *sides, "--json").stdout)
    assert value["certified_accuracy"]["0.5"]["difference"] == 0.25
    assert value["images"] == 4
    table = run("compare", *sides).stdout
    assert "+25.0" in table
    assert f"A: {folder}:mean" in table
    assert "95% paired bootstrap" in table
    rows = run("compare", *sides, "--format", "csv").stdout.splitlines()
    a, b = sides
    assert rows[0] == f"radius,{a},{b},difference,low,high,only {a},only {b},both,neither"
    assert rows[3].startswith("0.5,0.5,0.25,0.25,")
    assert rows[-1].startswith("ACR,")
    markdown = run("compare", *sides, "--format", "markdown").stdout
    assert markdown.startswith(f"| radius | {a} | {b} | difference |")
    assert f"{a} minus {b}, paired on 4 common images. Certified accuracy in percent" in markdown
    latex = run("compare", *sides, "--format", "latex", "--radii", "0.5").stdout
    assert r"\toprule" in latex
    assert "paired on 4 common images" in latex
    assert r"95\% paired bootstrap intervals over images" in latex
    assert "small:member-0" in latex.partition(r"\toprule")[2].partition(r"\midrule")[0]
    assert isinstance(invoke("compare", *sides, "--format", "xls").exception, ParameterError)
    assert isinstance(invoke("compare", f"{folder}:median", folder).exception, RunError)


def test_explain(folder: Path) -> None:
    assert "certified within radius 0.5572" in run("explain", folder, 1).stdout
    value = json.loads(run("explain", folder, 1, "--classifier", "member-0", "--json").stdout)
    assert value["n_a"] == 600


def test_recheck(folder: Path, tmp_path: Path) -> None:
    assert "failed          0" in run("recheck", folder).stdout
    zipped = tmp_path / "b.zip"
    assert run("export", folder, "--bundle", "--out", zipped).stdout.strip() == str(zipped)
    assert json.loads(run("recheck", zipped, "--json").stdout)["rechecked"] == 8


def test_a_bundle_holds_the_report(folder: Path, tmp_path: Path) -> None:
    for source, name in ((folder, "first.zip"), (tmp_path / "first.zip", "again.zip")):
        run("export", source, "--bundle", "--out", tmp_path / name)
        with zipfile.ZipFile(tmp_path / name) as archive:
            assert b"What is proven" in archive.read("report.html")
            assert "report.html" in archive.read("SHA256SUMS").decode()


def test_recheck_of_an_edited_run_fails_with_exit_code_3(folder: Path) -> None:
    with RunStore.open(folder) as store, store._database.transaction() as connection:
        connection.execute("UPDATE certificates SET radius = 2.0 WHERE image = 0")
    result = invoke("recheck", folder)
    assert isinstance(result.exception, RunError)
    assert result.exception.exit_code == 3
    assert "image 0 of 'mean': radius is 2.0" in result.stdout


def test_recheck_of_a_log_imported_under_another_alpha_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("idx,label,predict,radius,correct,nA\n0,7,7,1.87,1,99999\n")
    out = tmp_path / "imported"
    run("import", log, "--sigma", 0.5, "--n", 100_000, "--alpha", 0.01, "--out", out)
    error = invoke("recheck", out).exception
    assert isinstance(error, RunError)
    assert "imported with another alpha, sigma or n than the log was made with" in str(error)


@pytest.mark.parametrize("command", [["show"], ["report"], ["recheck"], ["explain"]])
def test_a_training_run_certifies_nothing(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "run.json").write_text(
        '{"schema": 1, "kind": "train", "command": "", "config": {}, "classifiers": []}'
    )
    error = invoke(*command, tmp_path, *(["0"] if command == ["explain"] else [])).exception
    assert isinstance(error, RunError)
    assert "is a training run, which certifies nothing" in str(error)
    assert f"phalanx certify {tmp_path}" in str(error)


def test_import_export(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "imported"
    options = ("--sigma", "1/2", "--n", 100_000, "--alpha", 0.001, "--out", out)
    result = run("import", log, *options)
    assert result.stdout.strip() == str(out)
    assert "warning" not in result.stderr
    value = json.loads(run("import", log, *options, "--json").stdout)
    assert value["samples"] is None
    assert value["average_certified_radius"] == pytest.approx(1.87 / 3)
    text = run("recheck", out).stdout
    assert "3 imported without counts" in text
    target = tmp_path / "again.tsv"
    run("export", out, "--out", target)
    assert target.read_text() == LOG
    for form in ("jsonl", "parquet"):
        run("export", out, "--format", form, "--out", tmp_path / f"x.{form}")
        assert (tmp_path / f"x.{form}").stat().st_size


def test_import_warns_of_impossible_radii(log: Path, tmp_path: Path) -> None:
    options = ("--sigma", 0.25, "--n", 100_000, "--alpha", 0.001, "--out", tmp_path / "run")
    assert "1 radii exceed 0.9528" in run("import", log, *options).stderr


def test_the_default_names(
    folder: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("export", folder).stdout.strip() == "small.tsv"
    made = run("import", log, "--sigma", 0.5, "--n", 1000, "--alpha", 0.001).stdout.strip()
    assert Path(made).parent == Path("runs")
    assert (tmp_path / made / "run.json").is_file()


def test_plot_and_report(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curves.svg"
    assert run("plot", folder, "--out", picture).stdout.strip() == str(picture)
    assert picture.stat().st_size
    page = run("report", folder).stdout.strip()
    assert Path(page) == folder / "report.html"
    assert Path(page).is_file()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for command in (["show"], ["recheck"], ["export"], ["report"]):
        assert isinstance(invoke(*command, tmp_path / "nothing").exception, RunError)
    assert isinstance(invoke("explain", tmp_path, 0).exception, RunError)


def test_no_command_imports_torch(folder: Path, log: Path, tmp_path: Path) -> None:
    commands = [
        ["list", "--root", tmp_path],
        ["show", folder],
        ["show", folder, "--json"],
        ["compare", f"{folder}:mean", f"{folder}:member-0"],
        ["explain", folder, 0],
        ["recheck", folder],
        ["plot", folder, "--out", tmp_path / "a.png"],
        ["report", folder],
        ["export", folder, "--bundle", "--out", tmp_path / "b.zip"],
        ["export", folder, "--format", "parquet", "--out", tmp_path / "c"],
        ["import", log, "--sigma", 1, "--n", 1000, "--alpha", 0.001, "--out", tmp_path / "d"],
        ["recheck", tmp_path / "b.zip"],
    ]
    script = (
        "import json, sys, typer\n"
        "from phalanx.cli.runs import register\n"
        "app = typer.Typer(); app.callback()(lambda: None); register(app)\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    app(['runs', *map(str, command)], standalone_mode=False)\n"
        "    assert 'torch' not in sys.modules, command\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, json.dumps(commands, default=str)],
        check=True,
        capture_output=True,
        timeout=120,
    )
