"""The mutation gate on a package of two functions, one of them tested."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import operators
import order
import pytest
import run

TESTED = '''
"""A room."""

def clipped(x: int = 0, *, most: int = 5) -> int:
    """At least 0, at most ``most``."""
    if x < 0:
        raise ValueError(f"{x} is below {0}")
    return min([x, most])
'''
UNTESTED = """
def wasted(rows: int, batch: int) -> int:
    return -rows % batch
"""
TEST = """
import pytest
from tiny.room.clip import clipped

@pytest.mark.parametrize(("x", "is_"), [(0, 0), (3, 3), (5, 5), (6, 5)])
def test_clipped(x, is_):
    assert clipped(x) == is_

def test_refused():
    with pytest.raises(ValueError):
        clipped(-1)
    assert clipped() == 0
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    files = {
        "src/tiny/__init__.py": "",
        "src/tiny/room/__init__.py": "",
        "src/tiny/room/clip.py": TESTED,
        "src/tiny/room/waste.py": UNTESTED,
        "tests/room/test_clip.py": TEST,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def gate(tiny: Path, count: int, *words: str) -> tuple[int, dict]:
    options = {"out": "out", "result": "out/result.json", "explained": "explained.json"}
    paths = [word for name, to in options.items() for word in (f"--{name}", str(tiny / to))]
    fixed = ["--root", str(tiny), "--package", "tiny", "--rooms", "room", "--count", str(count)]
    code = run.main([*fixed, *paths, *words])
    return code, json.loads((tiny / "out/result.json").read_text())


def test_what_is_tested_is_caught_and_what_is_not_survives(tiny, capsys):
    before = {path: path.read_bytes() for path in (tiny / "src").rglob("*.py")}
    code, found = gate(tiny, 8)
    said = capsys.readouterr().out
    assert code == 1
    assert found["mutants"] == 8
    assert found["by_module"]["tiny/room/clip.py"] == "4 of 4"
    assert found["by_module"]["tiny/room/waste.py"] == "0 of 4"
    assert all(row["tests"] == 0 for row in found["survivors"])
    assert "no test runs this line" in said
    assert "UNEXPLAINED" in said
    assert {path: path.read_bytes() for path in (tiny / "src").rglob("*.py")} == before

    lines = (tiny / "out/results.jsonl").read_text()
    explained = {row["id"]: "equivalent: nobody asks" for row in found["survivors"]}
    (tiny / "explained.json").write_text(json.dumps(explained))
    code, found = gate(tiny, 8)
    assert code == 0
    assert (tiny / "out/results.jsonl").read_text() == lines  # continued, nothing was left to do
    assert found["share_caught_of_those_that_are_not_equivalent"] == 1.0

    (tiny / "explained.json").write_text(json.dumps(dict.fromkeys(explained, "unsound: so what")))
    with pytest.raises(SystemExit, match="begins with none"):
        gate(tiny, 8)


def test_tests_that_fail_without_a_mutant(tiny):
    (tiny / "tests/room/test_clip.py").write_text("def test_no():\n    assert False\n")
    with pytest.raises(SystemExit, match="without any mutant"):
        gate(tiny, 1)


def found_in(folder: Path, text: str) -> list[operators.Mutant]:
    path = folder / "module.py"
    path.write_text(text)
    return operators.mutants_of(path, folder)


SOURCE = '''
from typing import Literal, Protocol

__all__ = ["f"]

class Rule(Protocol):
    threshold: float = 0.5

class Kept:
    """1 < 2."""

    alpha: Literal[1, 2] = 1

def f(p: "float < 1", n: int = 3) -> float:
    """n + 1."""
    # α before β: columns are counted in bytes
    name, low = "αβ", p  # < in a comment
    if low < n and not (p == 0 or  # < again
                        n >= 2):
        raise ValueError("1 + 1", 1 + 1)
    return nextafter(max(p, n) - 1.5, 0.0)
'''


def test_what_is_changed(tmp_path):
    found = found_in(tmp_path, SOURCE)
    changes = {(m.edit.operator, SOURCE[m.edit.start : m.edit.end], m.edit.text) for m in found}
    assert {
        ("comparison", "<", "<="),
        ("comparison", "<", ">="),
        ("comparison", "==", "!="),
        ("constant", "3", "4"),
        ("constant", "1", "0"),
        ("constant", "1.5", "3.0"),
        ("drop not", "not (p == 0 or  # < again\n                        n >= 2)",
         "(p == 0 or  # < again\n                        n >= 2)"),
        ("other name", "max", "min"),
        ("swap arguments", "p, n", "n, p"),
        ("arithmetic", "-", "+"),
        ("drop operand", "max(p, n) - 1.5", "(max(p, n))"),
        ("drop statement", 'raise ValueError("1 + 1", 1 + 1)', "pass"),
        ("direction", "nextafter(max(p, n) - 1.5, 0.0)",
         "(2 * (max(p, n) - 1.5) - nextafter(max(p, n) - 1.5, 0.0))"),
    } <= changes  # fmt: skip
    assert {m.function for m in found} == {"Kept", "f"}
    assert {m.line for m in found if m.function == "Kept"} == {12}  # the value, no annotation
    for mutant in found:
        changed = mutant.changed
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(SOURCE))
        assert '"αβ", p  # < in a comment' in changed


def test_ids_outlive_edits_elsewhere(tmp_path):
    ids = {m.id for m in found_in(tmp_path, SOURCE)}
    assert len(ids) == len(found_in(tmp_path, SOURCE))
    longer = SOURCE.replace("    # α", "    p += 1\n    # α").replace(
        "class Rule", "X = 3\nclass Rule"
    )
    assert ids < {m.id for m in found_in(tmp_path, longer)}


def test_a_smaller_sample_begins_a_larger_one(tmp_path):
    modules = {"a": found_in(tmp_path, SOURCE)}
    first = order.ranked(modules, 0)
    assert sorted(m.id for m in first) == sorted(m.id for m in modules["a"])
    fewer = {"a": [m for m in modules["a"] if m.edit.operator != "constant"]}
    kept = [m for m in first if m.edit.operator != "constant"]
    assert order.ranked(fewer, 0) == kept
    assert order.ranked(modules, 1) != first


def test_which_modules_a_small_sample_sees_is_drawn(tmp_path):
    modules = {name: found_in(tmp_path, SOURCE) for name in "abcdefgh"}
    named = {name: [replace(m, file=name) for m in own] for name, own in modules.items()}
    firsts = {tuple(m.file for m in order.ranked(named, seed)[:3]) for seed in range(20)}
    assert len(firsts) > 10
    assert all(len(set(first)) == 3 for first in firsts)
