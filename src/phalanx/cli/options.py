"""Options that several commands share, written once."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phalanx.errors import ParameterError

if TYPE_CHECKING:
    from phalanx.models.resolve import Declaration


def number(text: str) -> float:
    """A number or a fraction such as ``8/255``.

    >>> number("8/255") == 8 / 255
    True
    """
    try:
        return float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError):
        raise ParameterError(f"{text!r} is not a number", repair="write 0.25 or 8/255") from None


Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="checkpoint, folder of checkpoints, file.py:factory, package.module:factory, or a "
        "built-in name with --weights FILE; several of them are an ensemble",
    ),
]
Data = Annotated[str, typer.Option("--data", help="data set: a registered name or a path")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="folder of the data set's files [PHALANX_DATA]")
]
Out = Annotated[Path | None, typer.Option("--out", help="run folder; made or continued")]
Limit = Annotated[int | None, typer.Option("--limit", help="at most this many images")]
Every = Annotated[int, typer.Option("--every", help="every n-th image")]
Seed = Annotated[int, typer.Option("--seed", help="run seed of all noise")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout")]
Workers = Annotated[int, typer.Option("--workers", help="processes that share the work")]
InputRange = Annotated[
    tuple[float, float] | None,
    typer.Option("--input-range", help="smallest and largest input value, e.g. 0 1"),
]
Mean = Annotated[str | None, typer.Option("--mean", help="per channel, comma-separated")]
Std = Annotated[str | None, typer.Option("--std", help="per channel, comma-separated")]
Classes = Annotated[int | None, typer.Option("--classes", help="number of classes")]
NormalisedInside = Annotated[
    bool, typer.Option("--normalised-inside", help="the network normalises its input itself")
]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="state dict for a built-in network")
]


def numbers(text: str | None) -> tuple[float, ...]:
    """Numbers separated by commas or spaces; none where there is no text.

    >>> numbers("0.5, 1/4")
    (0.5, 0.25)
    """
    return tuple(number(part) for part in (text or "").replace(",", " ").split())


def declaration(
    input_range: tuple[float, float] | None,
    mean: str | None,
    std: str | None,
    classes: int | None,
    normalised_inside: bool,
    weights: Path | None,
) -> Declaration:
    """What the command line says about a network's input."""
    from phalanx.models.resolve import Declaration

    return Declaration(
        input_range=input_range,
        mean=numbers(mean),
        std=numbers(std),
        classes=classes,
        normalised_inside=normalised_inside,
        weights=weights,
    )
