"""Reading recipes: the shipped ones by name, your own by path, changed with ``a.b=c``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from phalanx.errors import ConfigurationError
from phalanx.training.recipe import Recipe

LARGEST_FILE = 64 * 1024
SUFFIX = ".yaml"


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases, so that no small file can unfold into a huge tree, and
    without repeated keys, of which all but the last would silently be lost.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                problem = f"the key {key.value!r} appears twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        return super().construct_mapping(node, deep)


def recipe_names() -> list[str]:
    """The shipped recipes, sorted.

    >>> "digits-gaussian" in recipe_names()
    True
    """
    return shipped("phalanx.training.recipes")


def shipped(package: str) -> list[str]:
    """Names of the YAML files in a package, sorted."""
    names = (entry.name for entry in resources.files(package).iterdir())
    return sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe, after replacing the fields that ``overrides`` name.

    Args:
        name_or_path: one of `recipe_names`, or a YAML file.
        overrides: ``"loss.sigma=0.5"`` and the like; values are read as YAML.

    Raises:
        ConfigurationError: no such recipe, unreadable YAML, or a field that does not fit; the
            message names the field and what it may be.

    >>> load_recipe("digits-gaussian", ["loss.sigma=0.5", "epochs=2"]).sigma
    0.5
    """
    name, text = _read(name_or_path)
    fields = {"name": name, **read_yaml(text, f"recipe {name!r}")}
    for override in overrides:
        replace_field(fields, override)
    return make_recipe(fields)


def make_recipe(fields: Mapping[str, Any]) -> Recipe:
    """The recipe with the given (nested) fields; raises ConfigurationError as `load_recipe`."""
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        raise ConfigurationError(
            "the recipe does not fit: " + "; ".join(map(_explain, error.errors()))
        ) from None


def _read(name_or_path: str | Path) -> tuple[str, str]:
    text = str(name_or_path)
    if text in recipe_names():
        source = resources.files("phalanx.training.recipes") / f"{text}{SUFFIX}"
        return text, source.read_text("utf-8")
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        raise ConfigurationError(
            f"there is no recipe {text!r}",
            repair=f"choose one of {', '.join(recipe_names())}, or give a YAML file",
        )
    if path.stat().st_size > LARGEST_FILE:
        raise ConfigurationError(f"{path} is larger than {LARGEST_FILE} bytes: not a recipe")
    try:
        return path.stem, path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read as text: {error}") from error


def read_yaml(text: str, what: str) -> dict[str, Any]:
    """Field names and values from plain YAML; nothing in it is ever built or run.

    Raises:
        ConfigurationError: ``what`` is not a mapping, or not YAML.
    """
    try:
        # The loader derives from SafeLoader: it builds plain values and nothing else.
        fields = yaml.load(text, Loader=_PlainLoader)  # noqa: S506
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{what} is not readable YAML: {error}") from error
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise ConfigurationError(f"{what} is not a mapping of field names to values")
    return fields


def replace_field(fields: dict[str, Any], override: str) -> None:
    """Set ``a.b=c`` in a nested mapping."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigurationError(
            f"{override!r} sets nothing", repair="write --set field=value, as loss.sigma=0.5"
        )
    place = fields
    for key in keys[:-1]:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise ConfigurationError(f"{override!r}: {key} has no fields of its own")
    place[keys[-1]] = read_yaml(f"value: {text}", f"the value of {override!r}")["value"]


def _explain(problem: Mapping[str, Any]) -> str:
    place = ".".join(map(str, problem["loc"])) or "recipe"
    if problem["type"] == "extra_forbidden":
        known = Recipe.model_fields if len(problem["loc"]) == 1 else _fields_of(problem["loc"][0])
        return f"{place} is not a field (fields: {', '.join(known)})"
    given = "" if problem["type"] == "missing" else f" (given: {problem['input']!r})"
    return f"{place}: {problem['msg'][0].lower()}{problem['msg'][1:]}{given}"


def _fields_of(part: str) -> list[str]:
    """Field names of one part of the recipe."""
    return list(Recipe.model_fields[part].annotation.model_fields)  # type: ignore[union-attr]
