"""Every way a command can end has its exit code, and stderr says why."""

from __future__ import annotations

import sys

import pytest
import typer

from phalanx import errors
from phalanx.cli import main

TYPED = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.PhalanxError)
]


def run(monkeypatch: pytest.MonkeyPatch, outcome: BaseException | None, *arguments: str) -> int:
    """The exit code of ``phalanx work ARGUMENTS`` when the command ends with ``outcome``."""
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.callback()
    def root() -> None: ...

    @app.command()
    def work(count: int = 1) -> None:
        if outcome is not None:
            raise outcome

    monkeypatch.setattr(main, "build", lambda: app)
    monkeypatch.setattr(sys, "argv", ["phalanx", "work", *arguments])
    with pytest.raises(SystemExit) as stop:
        main.main()
    return int(stop.value.code or 0)


def test_done(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, None, "--count", "3") == 0


@pytest.mark.parametrize("arguments", [("--nope",), ("--count", "x"), ("--count",), ("more",)])
def test_usage(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    assert run(monkeypatch, None, *arguments) == 2


@pytest.mark.parametrize("kind", TYPED)
def test_typed_errors(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: type[errors.PhalanxError],
) -> None:
    error = kind("the thing is wrong", why="because", repair="--mend it")
    assert run(monkeypatch, error) == error.exit_code
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: the thing is wrong; because; repair: --mend it\n")


def test_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, KeyboardInterrupt()) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_a_bug_of_ours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, KeyError("x")) == 1
    assert "this is a bug in phalanx" in capsys.readouterr().err
