"""``phalanx doctor MODEL``: can it be read, is it sound, is it ready for smoothing and bounds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

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
    from torch import Tensor

    from phalanx.bounds.support import Support
    from phalanx.evaluation.doctor import Finding
    from phalanx.models.model import Model

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
    """Examine models: are they functions, what range do they expect, what bounds each layer.

    Exit code 3 when one of them cannot be certified as it is.
    """
    from phalanx.evaluation.doctor import Level, examine, layers

    patients, reports = _read(models, said)
    x, y = (None, None) if data is None else _inputs(data, data_dir, limit)
    reports += [Report(m.card.name, examine(m, x, y), layers(m, x)) for m in patients]
    broken = [
        report.name
        for report in reports
        if any(finding.level is Level.ERROR for finding in report.findings)
    ]
    if json:
        answer_json({"usable": not broken, "models": [report.as_dict() for report in reports]})
    else:
        _print(reports)
    if broken:
        raise ModelError(f"cannot be certified as it is: {', '.join(broken)}")


class Report(NamedTuple):
    """Of one model: what was found out about it, and about each of its layers."""

    name: str
    findings: list[Finding]
    layers: list[Support]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "name": self.name,
            "findings": [finding.as_dict() for finding in self.findings],
            "layers": [layer.as_dict() for layer in self.layers],
        }


def _read(models: list[str], said: Declaration) -> tuple[list[Model], list[Report]]:
    """The models, and reports of ONNX files of which none can be made."""
    from phalanx.evaluation.doctor import examine_file
    from phalanx.models.imported import is_onnx
    from phalanx.models.resolve import resolve_all

    patients: list[Model] = []
    unread: list[Report] = []
    for spec in models:
        try:
            patients += resolve_all([spec], said, check=False)
        except ModelError as refused:
            if not (is_onnx(Path(spec)) and Path(spec).is_file()):
                raise
            report = Report(spec, *examine_file(Path(spec), refused))
            if not report.layers:
                raise  # not even the layers are known
            unread.append(report)
    return patients, unread


def _inputs(data: str, data_dir: Path | None, limit: int) -> tuple[Tensor, Tensor | None]:
    from phalanx.data.locate import load

    dataset = load(data, data_dir)
    indices = dataset.select(limit=limit)
    labels = dataset.labels(indices) if dataset.labelled else None
    return dataset.images(indices), labels


def _print(reports: list[Report]) -> None:
    from phalanx.bounds.support import KINDS

    for name, findings, rows in reports:
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
