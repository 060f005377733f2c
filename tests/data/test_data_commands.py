"""``phalanx data`` and ``phalanx list``."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from data_helpers import Web, idx_bytes, remote, write_mnist
from typer.testing import CliRunner

from phalanx.cli import data, listing
from phalanx.data.sources import SOURCES, Source
from phalanx.errors import DataError, ParameterError


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.callback()(lambda: None)
    data.register(app)
    listing.register(app)
    return app


def run(app: typer.Typer, *words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_list_and_show(app: typer.Typer, tmp_path: Path) -> None:
    rows = json.loads(run(app, "data", "list", "--json"))["data"]
    assert {row["name"] for row in rows if row["fetch"]} == set(SOURCES)
    assert "phalanx data fetch" in run(app, "data", "list")
    write_mnist(tmp_path, np.zeros((2, 28, 28)), np.array([1, 2]), zipped=True)
    card = json.loads(run(app, "data", "show", "mnist", "--data-dir", str(tmp_path), "--json"))
    assert card["shape"] == [1, 28, 28]
    assert len(card["checksums"]["t10k-images-idx3-ubyte.gz"]) == 64
    assert "1, 28, 28" in run(app, "data", "show", "mnist", "--data-dir", str(tmp_path))
    with pytest.raises(DataError, match="phalanx data fetch mnist"):
        run(app, "data", "show", "mnist")


def test_fetch(app: typer.Typer, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = gzip.compress(idx_bytes(np.zeros((1, 28, 28))))
    web.files["t10k.gz"] = content
    source = Source("mnist", ("http://127.0.0.1:9/",), (remote(content, "t10k.gz"),))
    monkeypatch.setitem(SOURCES, "mnist", source)
    words = ("data", "fetch", "mnist", "--data-dir", str(tmp_path), "--from", web.base)
    assert run(app, *words).strip() == str(tmp_path / "mnist" / "t10k.gz")
    assert json.loads(run(app, *words, "--json"))["name"] == "mnist"
    with pytest.raises(ParameterError, match="choose one of mnist"):
        run(app, "data", "fetch", "svhn")


@pytest.mark.parametrize("kind", listing.CHOICES)
def test_every_kind_has_named_and_described_parts(app: typer.Typer, kind: str) -> None:
    parts = json.loads(run(app, "list", kind, "--json"))["parts"]
    assert parts
    assert all(part["name"] and part["summary"] for part in parts)
    assert parts[0]["name"] in run(app, "list", kind)


def test_the_kinds_themselves(app: typer.Typer) -> None:
    assert json.loads(run(app, "list", "--json"))["kinds"] == list(listing.CHOICES)
    assert "phalanx list reducers" in run(app, "list")
    with pytest.raises(ParameterError, match="there is no kind 'defences'"):
        run(app, "list", "defences")
