"""``phalanx verify``: the first line, the assignment, the exit code; tables and their records."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phalanx.cli import runs
from phalanx.errors import ConfigurationError
from phalanx.evaluation.instances import Instance, Ledger, Record, read_tables, solve, summaries

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

BOX = """(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)
(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 -1))(assert (<= X_1 1))
"""
TWO = """(vnnlib-version <2.0>)
(declare-network f (declare-input X {kind} [1,2]) (declare-output Y {kind} [1,1]))
(assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0) (>= X[0,1] -1.0) (<= X[0,1] 1.0)))
"""


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``y = relu(x_0 + x_1) + 0.5``."""
    helper, numbers = onnx.helper, onnx.numpy_helper
    tensors = {"w": [[1.0], [1.0]], "b": [0.0], "half": [0.5]}
    initial = [numbers.from_array(np.float32(value), name) for name, value in tensors.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Add", ["r", "half"], ["y"]),
    ]
    kind = onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(n, kind, [1, s]) for n, s in (("x", 2), ("y", 1))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def written(folder: Path, text: str, name: str = "p.vnnlib") -> Path:
    """A file of a query."""
    (folder / name).write_text(text)
    return folder / name


def test_unsat_is_one_word(net: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    query = written(tmp_path, BOX + "(assert (>= Y_0 2.6))")
    code, out, err = command("verify", net, query, "--timeout", 60)
    assert (code, out) == (0, "unsat\n")
    assert "verified" in err
    assert "outward arithmetic" in err


def test_sat_is_followed_by_the_assignment_that_was_replayed(
    net: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    query = written(tmp_path, BOX + "(assert (>= Y_0 2.25))")
    code, out, err = command("verify", net, query, "--timeout", 60)
    first, *lines = out.splitlines()
    assert (code, first) == (0, "sat")
    assert lines[0].startswith("((X_0 ")
    assert lines[-1].endswith("))")
    pairs = " ".join(lines)[2:-2].split(") (")
    found = {name: float(value) for name, value in (pair.split() for pair in pairs)}
    assert list(found) == ["X_0", "X_1", "Y_0"]
    assert max(abs(found["X_0"]), abs(found["X_1"])) <= 1
    x = np.float32([found["X_0"], found["X_1"]])
    assert float(max(np.float32(0), x.sum(dtype=np.float32)) + np.float32(0.5)) == found["Y_0"]
    assert found["Y_0"] >= 2.25
    assert "replayed in onnxruntime" in err


def test_json(net: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    query = written(tmp_path, BOX + "(assert (<= Y_0 0.25))")
    code, out, _ = command("verify", net, query, "--json")
    found = json.loads(out)
    assert (code, found["answer"], found["arithmetic"]) == (0, "unsat", "outward")
    assert (found["cases"], found["refuted"], found["witness"]) == (1, 1, None)
    assert found["failures"] == []


def test_version_two(net: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    text = TWO.format(kind="real") + "(assert (> Y[0,0] {}))"
    query = written(tmp_path, text.format("2.25"))
    code, out, _ = command("verify", query, "--network", f"f={net}", "--timeout", 60)
    lines = out.splitlines()
    assert (code, lines[0], lines[1], lines[4]) == (0, "sat", "X real [1,2]", "Y real [1,1]")
    assert float(lines[5]) > 2.25
    query = written(tmp_path, text.format("2.6"))
    assert command("verify", query, "--network", f"f={net}")[1] == "unsat\n"
    code, _, err = command("verify", query, "--network", f"g={net}")
    assert code == 2
    assert "calls its network f" in err
    floats = written(tmp_path, TWO.format(kind="float32") + "(assert (> Y[0,0] 9.0))")
    code, _, err = command("verify", floats, "--network", f"f={net}")
    assert code == 3
    assert "exact arithmetic" in err
    assert command("verify", floats, "--network", f"f={net}", "--idealised")[1] == "unsat\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["NET"], 2, "a network and a property are needed"),
        (["NET", "absent.vnnlib"], 3, "cannot be read"),
        (["absent.onnx", "QUERY"], 3, "absent.onnx"),
        (["NET", "WRONG"], 3, "a property of 1 inputs and 1 outputs"),
        (["NET", "BROKEN"], 3, "line 1"),
        (["NET", "QUERY", "--timeout", "0"], 2, "--timeout"),
        (["NET", "QUERY", "--timeout", "nan"], 2, "--timeout"),
        (["NET", "--table", "QUERY"], 2, "beside --table"),
        (["--table", "QUERY", "--proof", "p"], 2, "--proof beside --table"),
        (["--table", "QUERY", "--timeout", "9"], 2, "--timeout or --proof beside --table"),
        (["--table", "QUERY", "--timeout", "120"], 2, "--timeout or --proof beside --table"),
    ],
)
def test_what_cannot_be_read_is_a_typed_error_and_no_answer(
    arguments: list[str], code: int, message: str, net: Path, tmp_path: Path, command: Any
) -> None:
    one = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 1))(assert (>= X_0 0))"
    places = {
        "NET": net,
        "QUERY": written(tmp_path, BOX + "(assert (>= Y_0 2.6))"),
        "WRONG": written(tmp_path, one + "(assert (<= Y_0 0))", "wrong.vnnlib"),
        "BROKEN": written(tmp_path, BOX[:20], "broken.vnnlib"),
    }
    found = command("verify", *(places.get(word, word) for word in arguments))
    assert found[0] == code
    assert found[1] == ""
    assert message in found[2]
    assert "Traceback" not in found[2]


def test_a_failure_is_answered_with_error(
    net: Path, tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phalanx.verify import portfolio

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(portfolio, "prepared", fail)
    query = written(tmp_path, BOX + "(assert (>= Y_0 2.6))")
    code, out, err = command("verify", net, query, "--engine", "none")
    assert (code, out) == (4, "error\n")
    assert "planted" in err


def test_the_time_is_kept_when_nobody_looks_at_the_clock(net: Path, tmp_path: Path) -> None:
    """A process that is stuck while it imports, and one that is stuck anywhere."""
    query = written(tmp_path, BOX + "(assert (>= Y_0 2.6))")
    importing = f"""
import sys, time
from phalanx.cli.main import main
class Stuck:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            time.sleep(60)
sys.meta_path.insert(0, Stuck())
sys.argv = ["phalanx", "verify", {str(net)!r}, {str(query)!r}, "--timeout", "0.5"]
main()
"""
    anywhere = """
import time
from phalanx.cli.deadline import Known, keep_time
known = keep_time(0.5, str.upper, str)
known.tell(Known.PROVEN)
time.sleep(60)
"""
    threads = anywhere.replace("import time", "import time, threading") + ""
    threads = threads.replace(
        "known =", "threading.Thread(target=time.sleep, args=(9,), daemon=True).start();known ="
    )
    cases = ((importing, "timeout"), (anywhere, "UNSAT"), (threads, "UNSAT"))
    for text, word in cases:
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, timeout=50, check=False
        )
        assert (done.returncode, done.stdout) == (0, f"{word}\n"), done.stderr


def test_the_last_word_is_a_proof_or_none() -> None:
    from phalanx.cli.deadline import Known
    from phalanx.cli.verify import _State
    from phalanx.verify.result import Watch

    known, state = Known(), _State()
    assert (known.last_word(), state.progress()) == ("timeout", "reading")
    state.watch = Watch(lambda proven: known.tell(Known.PROVEN, proven))
    known.tell(Known.TWO)
    assert known.last_word() == "timed-out"
    state.watch.proven = True
    assert known.last_word() == "unsat"
    state.watch.proven = False
    assert known.last_word() == "timed-out"
    state.watch.refuted, state.watch.cases, state.watch.stage = 2, 3, "crown"
    state.watch.numbers = {"domains": 7}
    assert state.progress() == "crown: 2 of 3 cases refuted, domains 7"


def test_work_that_is_killed_is_an_error() -> None:
    text = """
import os, signal
from phalanx.cli.deadline import keep_time
keep_time(30, str, str)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (4, "error\n")
    assert "signal 9" in done.stderr


def test_exit_codes_and_words_of_the_work_are_passed_on() -> None:
    text = """
import sys
from phalanx.cli.deadline import keep_time
keep_time(30, str, str)
print("sat"); sys.exit(3)
"""
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (3, "sat\n")


def table(folder: Path, net: Path) -> Path:
    """A benchmark of three instances."""
    folder.mkdir()
    for name, level in (("a", 2.6), ("b", 2.25), ("c", 9)):
        written(folder, BOX + f"(assert (>= Y_0 {level}))", f"{name}.vnnlib")
    link = folder / "net.onnx"
    link.write_bytes(net.read_bytes())
    rows = [["onnx", "vnnlib", "timeout", "expected"]]
    rows += [["net.onnx", f"./{n}.vnnlib", "60", e] for n, e in zip("abc", EXPECTED, strict=True)]
    with (folder / "instances.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "instances.csv"


EXPECTED = ("unsat", "sat", "sat")
"""The last one is wrong."""

WORDS = [sys.executable, "-c"]
FAKE = """import sys
words = {"a.vnnlib": "unsat", "b.vnnlib": "sat", "c.vnnlib": "unsat"}
print(words[sys.argv[3].rpartition("/")[2]])
"""


def test_a_table_is_solved_once_and_summed(tmp_path: Path, net: Path) -> None:
    instances = read_tables([table(tmp_path / "bench", net)], cap=30)
    assert [instance.timeout for instance in instances] == [30.0] * 3
    assert read_tables([tmp_path]) == read_tables([tmp_path / "bench" / "instances.csv"])
    assert read_tables([tmp_path]) == read_tables([tmp_path / "bench"])
    fake = [sys.executable, "-c", FAKE]
    told: list[Record] = []
    records = solve(instances[:2], Ledger(tmp_path / "run"), told.append, fake)
    assert [record.answer for record in records] == ["unsat", "sat"]
    ledger = Ledger(tmp_path / "run")
    with ledger.path.open("ab") as file:
        file.write(b'{"key": "cut sh')
    records = solve(instances, Ledger(tmp_path / "run"), told.append, fake)
    assert len(told) == 3
    assert [record.wrong for record in records] == [False, False, True]
    part, total = summaries(records)
    assert (part.name, part.sat, part.unsat, part.wrong) == ("bench", 1, 2, 1)
    assert total.instances == 3
    assert total.seconds >= total.cpu > 0
    assert len(Ledger(tmp_path / "run").records) == 3


def test_a_table_of_files_that_have_changed_is_not_gone_on_with(tmp_path: Path, net: Path) -> None:
    instances = read_tables([table(tmp_path / "bench", net)])
    fake, folder = [sys.executable, "-c", FAKE], tmp_path / "run"
    first = solve(instances, Ledger(folder), lambda _: None, fake)
    assert len({record.digest for record in first}) == 3
    assert json.loads((folder / "environment.json").read_text())["packages"]["torch"]
    instances[1].query.write_text("; another property")
    with pytest.raises(ConfigurationError, match="other files"):
        solve(instances, Ledger(folder), lambda _: None, fake)
    # Nor is anything solved before that is seen.
    again, told = Ledger(folder), []
    del again.records[instances[0].key]
    with pytest.raises(ConfigurationError, match="other files"):
        solve(instances, again, told.append, fake)
    assert not told


def test_files_of_a_table_are_hashed_once(
    tmp_path: Path, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phalanx.evaluation import instances as room

    asked: list[str] = []
    digest = room.file_digest

    def counted(path: Path) -> str:
        asked.append(path.name)
        return digest(path)

    monkeypatch.setattr(room, "file_digest", counted)
    instances = read_tables([table(tmp_path / "bench", net)])
    for count in (2, 3):  # begun, and gone on with
        asked.clear()
        solve(instances[:count], Ledger(tmp_path / "run"), lambda _: None, [*WORDS, FAKE])
        names = ["net.onnx", "a.vnnlib", "b.vnnlib", "c.vnnlib"]
        assert sorted(asked) == sorted(names[: count + 1])


def test_a_table_that_is_gone_on_with_elsewhere_says_so(
    tmp_path: Path, net: Path, command: Any
) -> None:
    path, out = table(tmp_path / "bench", net), tmp_path / "run"
    solve(read_tables([path])[:1], Ledger(out), lambda _: None, [*WORDS, FAKE])
    every = ("verify", "--table", path, "--limit", 1, "--out", out)
    assert "begun with" not in command(*every)[2]
    begun = json.loads((out / "environment.json").read_text())
    begun["packages"]["torch"], begun["cores"] = "1.0", -1
    (out / "environment.json").write_text(json.dumps(begun))
    (line,) = (line for line in command(*every)[2].splitlines() if "begun with" in line)
    assert ("torch 1.0, now" in line, "cores -1, now" in line) == (True, True)
    assert "python" not in line


def test_a_folder_of_a_table_is_shown(tmp_path: Path, net: Path, capsys) -> None:
    instances = read_tables([table(tmp_path / "bench", net)])
    solve(instances, Ledger(tmp_path / "run"), lambda _: None, [sys.executable, "-c", FAKE])
    runs.show(tmp_path / "run")
    told = capsys.readouterr().out
    assert [word in told for word in ("bench", "unsat", "wrong", "total")] == [True] * 4


def test_to_show_a_table_changes_nothing_of_it(tmp_path: Path, net: Path, command: Any) -> None:
    """Somebody may be in the middle of a line."""
    instances = read_tables([table(tmp_path / "bench", net)])
    folder, fake = tmp_path / "run", [sys.executable, "-c", FAKE]
    solve(instances[:2], Ledger(folder), lambda _: None, fake)
    path = folder / "instances.jsonl"
    path.write_bytes(path.read_bytes() + b'{"key": "ha')
    (folder / "environment.json").unlink()
    before = path.read_bytes()
    code, out, _ = command("runs", "show", folder, "--json")
    assert (code, json.loads(out)["benchmarks"][-1]["instances"]) == (0, 2)
    assert (path.read_bytes(), os.listdir(folder)) == (before, ["instances.jsonl"])
    ledger = Ledger(folder)
    assert path.read_bytes() == before
    solve(instances, ledger, lambda _: None, fake)
    assert [json.loads(line)["answer"] for line in path.read_text().splitlines()] == [
        "unsat",
        "sat",
        "unsat",
    ]
    for word, value in (("--classifier", "a"), ("--radii", "0,1")):
        code, _, err = command("runs", "show", folder, word, value)
        assert (code, word in err) == (2, True)


def test_a_process_that_overruns_or_fails_is_no_answer(tmp_path: Path, net: Path) -> None:
    from phalanx.evaluation import instances as room

    (first, *_) = read_tables([table(tmp_path / "bench", net)])
    quick = Instance(first.benchmark, first.network, first.query, 0.5, "unsat")
    failing = [sys.executable, "-c", "print('unsat'); raise SystemExit(1)"]
    (record,) = solve([quick], Ledger(tmp_path / "one"), lambda _: None, failing)
    assert record.answer == "error"
    room_overrun, room.OVERRUN = room.OVERRUN, 0.5
    try:
        slow = [sys.executable, "-c", "import time; print('unsat'); time.sleep(60)"]
        began = time.monotonic()
        (record,) = solve([quick], Ledger(tmp_path / "two"), lambda _: None, slow)
    finally:
        room.OVERRUN = room_overrun
    assert record.answer == "overran"
    assert time.monotonic() - began < 10


def test_a_table_from_the_command_line(tmp_path: Path, net: Path, command: Any) -> None:
    path, out = table(tmp_path / "bench", net), tmp_path / "run"
    code, text, err = command("verify", "--table", path, "--out", out, "--limit", 2)
    assert code == 0
    assert "bench" in text
    assert err.splitlines()[-1] == str(out)
    again = command("verify", "--table", path, "--out", out, "--limit", 2)
    assert again[1] == text
    assert len(again[2].splitlines()) == 1
    assert command("verify", "--table", tmp_path / "absent.csv")[0] == 3


def test_options_beside_a_table_are_passed_on(
    tmp_path: Path, net: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an instance that was solved with other options is another one."""
    from phalanx.cli import verify_table  # noqa: F401 - the room below it is imported
    from phalanx.evaluation import instances as room

    asked: list[list[str]] = []

    def solved(instance: Instance, *_: object) -> Record:
        asked.append(list(instance.options))
        return Record(instance.key, instance.benchmark, "unsat", "", 0.1, 0.1, "")

    monkeypatch.setattr(room, "_solved", solved)
    path = table(tmp_path / "bench", net)
    words = ["--engine", "milp", "--engine", "smt", "--seed", "3", "--no-recheck", "--idealised"]
    every = ("verify", "--table", path, "--limit", 1, "--out", tmp_path / "run")
    for options in ([], words, words, []):
        assert command(*every, *options)[0] == 0
    assert asked == [[], words]


def test_options_reach_the_process_of_an_instance(tmp_path: Path, net: Path) -> None:
    (first, *_) = read_tables([table(tmp_path / "bench", net)])
    telling = [sys.executable, "-c", "import sys; print(' '.join(sys.argv[5:]))"]
    own = replace(first, timeout=30.0, options=("--seed", "3"))
    (record,) = solve([own], Ledger(tmp_path / "run"), lambda _: None, telling)
    assert record.answer == "30.0 --seed 3"


def test_wrong_answers_are_an_unmet_requirement(tmp_path: Path, net: Path, command: Any) -> None:
    path, out = table(tmp_path / "bench", net), tmp_path / "run"
    instances = read_tables([path])
    solve(instances, Ledger(out), lambda _: None, [sys.executable, "-c", FAKE])
    code, _, err = command("verify", "--table", path, "--out", out)
    assert code == 5
    assert "c.vnnlib" in err


@pytest.mark.shared
def test_easy_benchmark_instances(shared: Path, tmp_path: Path) -> None:
    """Known answers, each by a process of its own."""
    wanted = {"rl_benchmarks": 1, "linearizenn": 1, "mnist_fc": 1}
    instances = []
    for name, count in wanted.items():
        instances += read_tables([shared / "vnncomp" / name / "instances.csv"], cap=30)[:count]
    records = solve(instances, Ledger(tmp_path), lambda _: None)
    assert [record.answer for record in records] == [record.expected for record in records]
    assert os.path.getsize(tmp_path / "instances.jsonl") > 0
