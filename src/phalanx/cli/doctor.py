"""``phalanx doctor MODEL``: can it be read, is it sound, is it ready for smoothing and bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from phalanx.cli.console import answer, answer_json
from phalanx.cli.declaring import Declaration, declaring
from phalanx.cli.options import (
    DataDir,
    Json,
    Models,
)
from phalanx.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from phalanx.bounds.support import Support
    from phalanx.evaluation.doctor import Finding

SomeData = Annotated[
    str | None,
    typer.Option("--data", help="data set to try the model on: a registered name or a path"),
]
SomeLimit = Annotated[int, typer.Option("--limit", help="at most this many inputs")]


def register(app: typer.Typer) -> None:
    """Add the ``doctor`` command."""
    app.command("doctor")(declaring(doctor))


def doctor(
    models: Models,
    data: SomeData = None,
    data_dir: DataDir = None,
    limit: SomeLimit = 256,
    json: Json = False,
    *,
    said: Declaration,
) -> None:
    """Examine models: can they be read, are they functions, what range do they expect.

    Exit code 3 when one of them cannot be certified as it is.
    """
    from phalanx.evaluation.doctor import Level, examine, layers
    from phalanx.models.resolve import resolve_all

    patients = resolve_all(models, said, check=False)
    x, y = (None, None) if data is None else _inputs(data, data_dir, limit)
    reports = [(model.card.name, examine(model, x, y)) for model in patients]
    bounded = [layers(model, x) for model in patients]
    broken = [
        name
        for name, findings in reports
        if any(finding.level is Level.ERROR for finding in findings)
    ]
    if json:
        answer_json(
            {
                "usable": not broken,
                "models": [
                    {
                        "name": name,
                        "findings": [finding.as_dict() for finding in findings],
                        "layers": [layer.as_dict() for layer in rows],
                    }
                    for (name, findings), rows in zip(reports, bounded, strict=True)
                ],
            }
        )
    else:
        _print(reports, bounded)
    if broken:
        raise ModelError(f"cannot be certified as it is: {', '.join(broken)}")


def _inputs(data: str, data_dir: Path | None, limit: int) -> tuple[Tensor, Tensor | None]:
    from phalanx.data.locate import load

    dataset = load(data, data_dir)
    indices = dataset.select(limit=limit)
    labels = dataset.labels(indices) if dataset.labelled else None
    return dataset.images(indices), labels


def _print(reports: list[tuple[str, list[Finding]]], bounded: list[list[Support]]) -> None:
    from phalanx.bounds.support import KINDS

    for (name, findings), rows in zip(reports, bounded, strict=True):
        answer(name)
        for finding in findings:
            answer(f"  {finding.level:8}{finding.check}: {finding.says}")
            if finding.repair:
                answer(f"          repair: {finding.repair}")
        if rows:
            answer("  layers, and what bounds them")
            names = ("layer", "operator", *KINDS, "")
            cells = [tuple(layer.as_dict().values()) for layer in rows]
            for cell in (names, *cells):
                node, op, *kinds, repair = cell
                answer(
                    f"    {node:24} {op:14} {' '.join(f'{k:9}' for k in kinds)} {repair}".rstrip()
                )
