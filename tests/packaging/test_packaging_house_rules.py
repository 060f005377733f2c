"""The house rules that no linter knows: sizes, and nothing that belongs to one machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

LONGEST_FILE = 400
LONGEST_FUNCTION = 60
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cff", ".css", ".html", ".json", ".csv"}
PLACES = ("src", "tests", "docs", "examples", "benchmarks", ".ci")
# In two pieces, so that this file does not match itself.
MACHINE = re.compile("|".join(["/ho" + r"me/\w", "/wo" + "rk/", "/ro" + "ot/", "/Us" + "ers/"]))


def python_files(repository: Path) -> list[Path]:
    return sorted((repository / "src").rglob("*.py"))


def text_files(repository: Path) -> Iterator[Path]:
    yield from (path for path in repository.iterdir() if path.suffix in TEXT)
    yield from (repository / name for name in ("Makefile", ".ci/run"))
    for place in PLACES:
        for path in (repository / place).rglob("*"):
            if path.suffix in TEXT and "__pycache__" not in path.parts:
                yield path


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_file_is_too_long(repository: Path) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in python_files(repository)}
    assert not {str(path): n for path, n in lengths.items() if n > LONGEST_FILE}


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines a function does something in: neither its docstring nor its signature, which is
    long where a command declares its options.
    """
    explained = ast.get_docstring(node) is not None and len(node.body) > 1
    first = node.body[1 if explained else 0]
    return (node.end_lineno or 0) - first.lineno + 1


def test_no_function_is_too_long(repository: Path) -> None:
    lengths = {
        f"{path.name}:{node.lineno} {node.name}": length(node)
        for path in python_files(repository)
        for node in functions(path)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}


def test_every_module_says_what_it_is_for(repository: Path) -> None:
    silent = [
        str(path)
        for path in python_files(repository)
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent


def test_no_star_imports(repository: Path) -> None:
    stars = [
        f"{path}:{node.lineno}"
        for path in python_files(repository)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    ]
    assert not stars


def test_nothing_names_one_machine(repository: Path) -> None:
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path in text_files(repository)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE.search(line)
    ]
    assert not found
