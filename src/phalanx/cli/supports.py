"""``phalanx supports``: what networks and queries are read, from the registries themselves."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from phalanx.cli.console import answer, answer_columns, answer_json
from phalanx.cli.options import Json

ELEMENTS = ("real",)
"""Element types of queries whose answers are proofs as they stand."""
VERSIONS = ("1.0", "2.0")

Operators = Annotated[bool, typer.Option("--onnx-operators", help="one a line")]
Elements = Annotated[bool, typer.Option("--onnx-element-types", help="one a line")]
Opsets = Annotated[bool, typer.Option("--onnx-opset-versions", help="one a line")]
Versions = Annotated[bool, typer.Option("--vnnlib-versions", help="one a line")]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="supports")(supports)


def supports(
    operators: Operators = False,
    elements: Elements = False,
    opsets: Opsets = False,
    versions: Versions = False,
    json: Json = False,
) -> None:
    """What can be verified: ONNX operators, element types, versions of ONNX and of VNN-LIB."""
    everything = {
        "onnx-operators": _operators(),
        "onnx-element-types": list(ELEMENTS),
        "onnx-opset-versions": list(map(str, import_module("phalanx.graph.from_onnx").OPSETS)),
        "vnnlib-versions": list(VERSIONS),
        "bounded-operators": _bounded(),
        "engines": _engines(),
    }
    flags = dict(zip(everything, (operators, elements, opsets, versions), strict=False))
    chosen = [name for name, wanted in flags.items() if wanted]
    if json:
        answer_json({name: everything[name] for name in chosen or everything})
    elif chosen:
        answer("\n".join(entry for name in chosen for entry in everything[name]))
    else:
        answer_columns([(name, ", ".join(entries)) for name, entries in everything.items()])


def _operators() -> list[str]:
    from phalanx.graph.from_onnx import operators

    return operators()


def _bounded() -> list[str]:
    rows = import_module("phalanx.bounds.ops").rows
    rewritten = import_module("phalanx.bounds.prepare").REWRITTEN
    return sorted({*rows.names(), *rewritten})


def _engines() -> list[str]:
    found: list[str] = import_module("phalanx.verify.engine").engines.names()
    return found
