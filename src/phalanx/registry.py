"""Named parts: one file, one decorator, one name.

A registry owns a package. The names it offers are the package's file names (``max_margin.py``
is ``max-margin``) and the entry points of the group ``phalanx.<kind>`` that other
distributions declare; listing them imports nothing. A module is imported when its name is
first asked for, and registers its object with the decorator.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Generic, TypeVar

from phalanx.errors import ParameterError

T = TypeVar("T")


class Registry(Generic[T]):
    """The registered parts of one kind, for example every reducer.

    Args:
        kind: what ``phalanx list`` calls them, and the end of their entry points' group.
        package: the package of which each file is a part.
        noun: what a message calls one of them.
        aliases: other names of parts.
    """

    def __init__(
        self, kind: str, package: str, *, noun: str, aliases: Mapping[str, str] | None = None
    ) -> None:
        self.kind, self.package, self.noun = kind, package, noun
        self.aliases = dict(aliases or {})
        self._parts: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: offer the decorated object under ``name``."""

        def keep(part: T) -> T:
            self._parts[name] = part
            return part

        return keep

    def unregister(self, name: str) -> None:
        """Forget a part that was registered at run time (used by the soundness harness)."""
        self._parts.pop(name, None)

    def names(self) -> list[str]:
        """Every name on offer, sorted, without importing a part."""
        return sorted({*self._files(), *self._parts, *(point.name for point in self._points())})

    def get(self, name: str) -> T:
        """The part called ``name`` (or one of its aliases).

        Raises:
            ParameterError: nothing has that name; the message lists the choices.
        """
        name = self.aliases.get(name, name)
        if name not in self._parts:
            self._load(name)
        try:
            return self._parts[name]
        except KeyError:
            raise ParameterError(
                f"there is no {self.noun} called {name!r}",
                repair=f"choose one of {', '.join(self.names())}",
            ) from None

    def items(self) -> Iterator[tuple[str, T]]:
        """Every (name, part); imports them all."""
        return ((name, self.get(name)) for name in self.names())

    def _files(self) -> list[str]:
        spec = find_spec(self.package)
        locations = spec.submodule_search_locations if spec else None
        modules = pkgutil.iter_modules(locations or [])
        return [m.name.replace("_", "-") for m in modules if not m.name.startswith("_")]

    def _points(self) -> list[EntryPoint]:
        return list(entry_points(group=f"phalanx.{self.kind}"))

    def _load(self, name: str) -> None:
        if name in self._files():
            importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
            return
        for point in self._points():
            if point.name == name:
                self._parts[name] = point.load()
