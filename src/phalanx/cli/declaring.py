"""Options by which a user declares what a network that is not ours expects of its input."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phalanx.cli.options import numbers

if TYPE_CHECKING:
    from phalanx.models.resolve import Declaration
else:  # loads torch, for which --help does not wait
    Declaration = object


def declaring(command: Callable[..., None]) -> Callable[..., None]:
    """A command with these options behind its own; it gets them as one argument, ``said``."""
    own = dict(inspect.signature(command, eval_str=True).parameters)
    del own["said"]
    more = inspect.signature(_declaration, eval_str=True).parameters
    shown = {**own, **more}

    @wraps(command)
    def declared(**given: Any) -> None:
        said = _declaration(**{name: given.pop(name) for name in more})
        command(**given, said=said)

    declared.__signature__ = inspect.Signature(list(shown.values()))  # type: ignore[attr-defined]
    declared.__annotations__ = {name: field.annotation for name, field in shown.items()}
    return declared


def _declaration(
    input_range: Annotated[
        tuple[float, float] | None,
        typer.Option("--input-range", help="smallest and largest input value, e.g. 0 1"),
    ] = None,
    mean: Annotated[str | None, typer.Option("--mean", help="per channel, comma-separated")] = None,
    std: Annotated[str | None, typer.Option("--std", help="per channel, comma-separated")] = None,
    classes: Annotated[int | None, typer.Option("--classes", help="number of classes")] = None,
    normalised_inside: Annotated[
        bool,
        typer.Option("--normalised-inside", help="the network normalises its input itself"),
    ] = False,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="state dict for a built-in network")
    ] = None,
) -> Declaration:
    from phalanx.models import resolve

    return resolve.Declaration(
        input_range=input_range,
        mean=numbers(mean),
        std=numbers(std),
        classes=classes,
        normalised_inside=normalised_inside,
        weights=weights,
    )
