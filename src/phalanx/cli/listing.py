"""``phalanx list KIND``: every named part, from ours and from installed extensions."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import Annotated

import typer

from phalanx.cli.console import answer_columns, answer_json
from phalanx.cli.options import Json
from phalanx.errors import ParameterError

KINDS = {
    "data": "phalanx.data.dataset:readers",
    "networks": "phalanx.models.build:networks",
    "reducers": "phalanx.ensembles.ensemble:reducers",
    "losses": "phalanx.losses:losses",
    "attacks": "phalanx.attacks:attacks",
    "noise": "phalanx.noise.distributions:distributions",
    "bounds": "phalanx.smoothing.confidence:bounds",
    "radii": "phalanx.smoothing.radii:radii",
    "stopping": "phalanx.smoothing.stopping:rules",
    "bounding": "phalanx.bounds.problem:methods",
    "operators": "phalanx.bounds.ops:rows",
    "engines": "phalanx.verify.engine:engines",
}
"""Where the registry of each kind is; it is imported when the kind is asked for."""

RECIPES, STUDIES = "recipes", "studies"
CHOICES = (*KINDS, RECIPES, STUDIES)

Kind = Annotated[str | None, typer.Argument(metavar="[KIND]", help=", ".join(CHOICES))]


def register(app: typer.Typer) -> None:
    """Add the ``list`` command."""
    app.command("list")(list_)


def list_(kind: Kind = None, json: Json = False) -> None:
    """The named parts of a kind: data, networks, reducers, losses, ...; no KIND lists the kinds."""
    if kind is None:
        if json:
            answer_json({"kinds": list(CHOICES)})
        else:
            answer_columns([(name, f"phalanx list {name}") for name in CHOICES])
        return
    parts = parts_of(kind)
    if json:
        answer_json({"kind": kind, "parts": [{"name": n, "summary": s} for n, s in parts]})
    else:
        answer_columns(parts)


def parts_of(kind: str) -> list[tuple[str, str]]:
    """(name, one line) of every part of a kind; imports them.

    Raises:
        ParameterError: there is no such kind.
    """
    if kind == RECIPES:
        return _recipes()
    if kind == STUDIES:
        return _studies()
    if kind not in KINDS:
        raise ParameterError(
            f"there is no kind {kind!r}", repair=f"choose one of {', '.join(CHOICES)}"
        )
    module, attribute = KINDS[kind].split(":")
    registry = getattr(import_module(module), attribute)
    return [(name, _summary(part)) for name, part in registry.items()]


def _summary(part: object) -> str:
    """The first line of the part's file, which is one part a file."""
    module = sys.modules.get(getattr(part, "__module__", None) or "")
    return ((module and module.__doc__) or "").strip().partition("\n")[0]


def _recipes() -> list[tuple[str, str]]:
    """The shipped recipes, which are data and not parts, with the first sentence of each."""
    from phalanx.training.shelf import load_recipe, recipe_names

    return [(name, first_sentence(load_recipe(name).description)) for name in recipe_names()]


def _studies() -> list[tuple[str, str]]:
    """The shipped studies and grids, likewise."""
    from phalanx.studies.grids.grid import grid_names, load_grid
    from phalanx.studies.study import load_study, study_names

    described = {name: load_study(name).description for name in study_names()}
    described |= {name: load_grid(name).description for name in grid_names()}
    return [(name, first_sentence(described[name])) for name in sorted(described)]


def first_sentence(text: str) -> str:
    """The text up to the first full stop that ends a sentence, without it.

    >>> first_sentence("As Cohen et al. 2019 did, at rate 0.1. For several GPUs.")
    'As Cohen et al. 2019 did, at rate 0.1'
    """
    return re.split(r"(?<!\bal)\.(?=\s|$)", text, maxsplit=1)[0]
