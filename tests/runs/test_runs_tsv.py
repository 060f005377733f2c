from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from runs_helpers import fill, manifest

from phalanx.errors import ConfigurationError, MissingDependencyError, ParameterError, RunError
from phalanx.runs.export import export, truncated
from phalanx.runs.imports import beyond_cap, import_log
from phalanx.runs.query import summarise
from phalanx.runs.schema import SampleRecord
from phalanx.runs.store import RunStore
from phalanx.runs.tsv import LogRow, log_lines, read_log
from phalanx.verdicts import Verdict

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
GOOD = (
    HEADER + "0\t7\t7\t1.87\t1\t0:00:12.5\n20\t3\t-1\t0.0\t0\t1 day, 0:00:01\n40\t3\t5\t0.5\t0\t2\n"
)


def log(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "log.tsv"
    path.write_text(text)
    return path


def imported(path: Path, out: Path | None = None) -> RunStore:
    return import_log(path, out, 0.5, 100_000, 0.001)


def test_the_log_of_the_field_is_read(tmp_path: Path) -> None:
    rows = read_log(log(tmp_path, GOOD))
    assert rows == [
        LogRow(2, 0, 7, 7, "1.87", True, 12.5),
        LogRow(3, 20, 3, None, "0.0", False, 86401.0),
        LogRow(4, 40, 3, 5, "0.5", False, 2.0),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "correct,IDX,Radius,label,Predict,nA,N,note\n1,0,1.87,7,7,99999,100000,hi\n",
        "\ufeffidx\tlabel\tpredict\tradius\tcorrect\tn_a\tn\n0\t7\t7\t1.87\t1\t99999\t100000\n\n",
        "idx,label,predict,radius,correct,nA_min,nA_max,n\r\n0,7,7,1.87,1,99999,99999,100000\r\n",
    ],
)
def test_order_case_and_separator_do_not_matter(tmp_path: Path, text: str) -> None:
    (row,) = read_log(log(tmp_path, text))
    assert (row.image, row.radius_text, row.n_a, row.n_a_max, row.n) == (
        0,
        "1.87",
        99_999,
        99_999,
        100_000,
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0\t7\t7\tnan\t1\t1", "radius nan"),
        ("0\t7\t7\t-0.5\t1\t1", "radius -0.5"),
        ("0\t7\t7\tinf\t1\t1", "radius inf"),
        ("0\t7\t7\tlarge\t1\t1", "no number"),
        ("0\t7\t6\t0.5\t1\t1", "correct is 1"),
        ("0\t7\t7\t0.5\t0\t1", "correct is 0"),
        ("0\t7\t7\t0.5\tyes\t1", "0 or 1"),
        ("0\t7\t-1\t0.5\t0\t1", "abstained with radius"),
        ("0\t7\t-2\t0.5\t0\t1", "negative index"),
        ("-3\t7\t7\t0.5\t1\t1", "negative index"),
        ("0\t7.5\t7\t0.5\t1\t1", "no whole number"),
        ("0\t7\t7\t0.5", "there is no correct"),
        ("0\t7\t7\t0.5\t1\tsoon", "no number"),
        ("0\t7\t7\t0.5\t1\t-1", "time"),
    ],
)
def test_a_line_that_contradicts_itself_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = log(tmp_path, HEADER + "9\t7\t7\t0.5\t1\t1\n" + line + "\n")
    with pytest.raises(RunError, match=message) as refusal:
        imported(path, tmp_path / "run")
    assert "line 3" in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_an_image_may_appear_once(tmp_path: Path) -> None:
    line = "4\t7\t7\t0.5\t1\t1\n"
    with pytest.raises(RunError, match="line 3: image 4 again; it is on line 2"):
        read_log(log(tmp_path, HEADER + line + line))


@pytest.mark.parametrize("text", ["", "\n\n", HEADER, "a\tb\n1\t2\n", "idx,label,predict,radius\n"])
def test_what_is_no_log_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RunError):
        read_log(log(tmp_path, text))


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x80\x04\x95\xff\xfe")
    for path in (binary, tmp_path, tmp_path / "nothing"):
        with pytest.raises(RunError):
            read_log(path)


def test_an_import_keeps_what_was_published(tmp_path: Path) -> None:
    with imported(log(tmp_path, GOOD), tmp_path / "run") as run:
        first, abstained, wrong = run.certificates()
        assert (first.radius_text, first.radius, first.n_a) == ("1.87", 1.87, None)
        assert abstained.verdict is Verdict.ABSTAINED
        assert wrong.correct is False
        assert run.manifest.config["n0"] == 100
        summary = summarise(run)
        assert summary.samples is None
        assert summary.average_certified_radius == pytest.approx(1.87 / 3)
    imported(log(tmp_path, GOOD), tmp_path / "run").close()  # again: the same run
    with pytest.raises(ConfigurationError):
        import_log(log(tmp_path, GOOD), tmp_path / "run", 0.25, 100_000, 0.001)


def test_counts_of_a_log_are_samples(tmp_path: Path) -> None:
    text = "idx,label,predict,radius,correct,nA\n0,7,7,1.87,1,99999\n"
    run = imported(log(tmp_path, text))
    assert run.certificates()[0].n_a == 99_999
    assert summarise(run).samples == 100_000


def test_a_log_without_labels_has_no_accuracy(tmp_path: Path) -> None:
    run = imported(log(tmp_path, HEADER + "0\t-1\t7\t0.5\t0\t1\n"))
    assert run.samples()[0].label is None
    assert summarise(run).certified_accuracy is None


def test_radii_that_n_and_alpha_cannot_give_are_found(tmp_path: Path) -> None:
    text = HEADER + "0\t7\t7\t1.91\t1\t1\n1\t7\t7\t1.92\t1\t1\n"
    rows = read_log(log(tmp_path, text))
    assert beyond_cap(rows, 1.9057282816949572) == [1]  # 1.91 is the cap, rounded


@pytest.mark.parametrize(
    "bad",
    [
        {"sigma": 0.0},
        {"sigma": float("nan")},
        {"alpha": 1.0},
        {"n": 0},
        {"n0": 0},
        {"n": 10, "n0": 100},
    ],
)
def test_impossible_parameters_are_refused(tmp_path: Path, bad: dict[str, float]) -> None:
    values = {"sigma": 0.5, "n": 1000, "alpha": 0.001, "n0": 100} | bad
    with pytest.raises(ParameterError):
        import_log(log(tmp_path, GOOD), None, **values)


def test_an_exported_log_is_read_back(small: RunStore, tmp_path: Path) -> None:
    path = export(small, tmp_path / "out.tsv", "tsv", counts=True)
    lines = path.read_text().splitlines()
    assert lines[0] == "idx\tlabel\tpredict\tradius\tcorrect\ttime\tnA\tn"
    assert lines[1] == "0\t1\t1\t0.989004\t1\t0:00:00.100000\t990\t1000"
    assert lines[4] == "3\t1\t-1\t0.0\t0\t0:00:00.100000\t500\t1000"
    again = import_log(path, None, 0.5, 1000, 0.001)
    assert summarise(again).clean_accuracy == summarise(small).clean_accuracy
    assert [r.n_a for r in again.certificates()] == [r.n_a for r in small.certificates("mean")]


def test_radii_are_cut_never_rounded_up(small: RunStore, tmp_path: Path) -> None:
    path = export(small, tmp_path / "out.tsv", "tsv", classifier="member-0", digits=3)
    radii = [line.split("\t")[3] for line in path.read_text().splitlines()[1:]]
    assert radii == ["0.557", "0.064", "0.989", "0.0"]
    assert truncated(0.1 + 0.2, 17) == "0.30000000000000004"
    with pytest.raises(ParameterError):
        truncated(0.5, -1)


def test_published_radii_are_exported_as_published(tmp_path: Path) -> None:
    run = imported(log(tmp_path, GOOD))
    lines = export(run, tmp_path / "out.tsv", "tsv", digits=1).read_text().splitlines()
    assert [line.split("\t")[3] for line in lines[1:]] == ["1.87", "0.0", "0.5"]


def test_a_log_cannot_say_that_there_is_no_label(tmp_path: Path) -> None:
    store = RunStore.create(None, manifest())
    store.add_samples([SampleRecord(0)])
    fill(store, "mean", 1, 1, 990)
    export(store, tmp_path / "out.tsv", "tsv")
    run = imported(log(tmp_path, HEADER + "0\t-1\t7\t0.5\t0\t1\n"))
    with pytest.raises(RunError, match="no label"):
        export(run, tmp_path / "out.tsv", "tsv")


def test_json_lines_lose_nothing(small: RunStore, tmp_path: Path) -> None:
    path = export(small, tmp_path / "out.jsonl", "jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 8
    assert rows[0]["radius"] == small.certificates("mean")[0].radius
    assert len(export(small, path, "jsonl", classifier="mean").read_text().splitlines()) == 4


def test_parquet_loses_nothing(small: RunStore, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = export(small, tmp_path / "out.parquet", "parquet", classifier="mean")
    rows = parquet.read_table(path).to_pylist()
    assert [row["radius"] for row in rows] == [r.radius for r in small.certificates("mean")]
    assert rows[3]["predicted"] is None


def test_parquet_without_pyarrow_says_what_to_install(
    small: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        export(small, tmp_path / "out.parquet", "parquet")


def test_unknown_formats_are_refused(small: RunStore, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="one of tsv, jsonl, parquet"):
        export(small, tmp_path / "out", "xls")


def test_time_is_left_out_where_one_is_unknown() -> None:
    rows = [LogRow(2, 0, 7, 7, "0.5", True, 3661.25), LogRow(3, 1, 7, 7, "0.5", True, None)]
    assert next(log_lines(rows)).endswith("correct")
    assert list(log_lines(rows[:1]))[1].endswith("1:01:01.250000")
