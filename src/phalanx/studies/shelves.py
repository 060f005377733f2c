"""What studies and grids share: reading shipped ones, and asking for parts and scales of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import resources
from typing import Any, TypeVar

from pydantic import ValidationError

from phalanx.errors import ConfigurationError, ParameterError
from phalanx.training.recipe import Part
from phalanx.training.shelf import SUFFIX, read_yaml, replace_field, shipped

Kind = TypeVar("Kind", bound=Part)


def load_shipped(
    package: str,
    noun: str,
    name: str,
    kind: type[Kind],
    completed: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Kind:
    """The YAML file of that name in a package.

    Args:
        package: of the files.
        noun: for messages.
        name: of the file.
        kind: what it is.
        completed: what becomes of its fields first.

    Raises:
        ConfigurationError: there is none of that name.
    """
    fields = completed(shipped_fields(package, noun, name))
    try:
        return kind.model_validate({**fields, "name": name})
    except ValidationError as error:
        raise ConfigurationError(f"{noun} {name!r} does not fit: {error}") from None


def shipped_fields(package: str, noun: str, name: str) -> dict[str, Any]:
    """The fields of a YAML file in a package.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if name not in shipped(package):
        raise ConfigurationError(
            f"there is no {noun} {name!r}", repair="phalanx list studies names them"
        )
    source = resources.files(package) / f"{name}{SUFFIX}"
    return dict(read_yaml(source.read_text("utf-8"), f"{noun} {name!r}"))


def require_known(whole: str, noun: str, asked: Sequence[Any], there: Collection[Any]) -> None:
    """Refuse a part that is not there.

    Raises:
        ParameterError: which, and what there is.
    """
    if unknown := [one for one in asked if one not in there]:
        raise ParameterError(
            f"{whole!r} has no {noun} {unknown[0]!r}",
            repair=f"choose from {', '.join(map(str, there))}",
        )


def scale_named(
    whole: str,
    scales: Mapping[Any, Kind],
    name: str,
    changes: Sequence[str],
    instead: Mapping[str, str] | None = None,
) -> Kind:
    """A scale, after ``"epochs=30"`` and the like.

    Args:
        whole: whose scales these are.
        scales: by name.
        name: of one of them.
        changes: of its fields.
        instead: fields that a change of another one takes out.

    Raises:
        ParameterError: there is none of that name.
        ConfigurationError: a change of what a scale does not have, or to what it cannot be.
    """
    require_known(whole, "scale", [name], list(scales))
    scale = scales[name]
    fields = scale.model_dump(exclude_none=True)
    for change in changes:
        replace_field(fields, change)
        fields.pop((instead or {}).get(change.partition("=")[0].strip(), ""), None)
    try:
        return type(scale).model_validate(fields)
    except ValidationError as error:
        raise ConfigurationError(
            f"the scale does not fit: {error.errors()[0]['msg'].lower()}",
            repair=f"--set {'=|'.join(type(scale).model_fields)}= and a value that it can have",
        ) from None
