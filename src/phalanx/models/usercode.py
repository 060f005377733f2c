"""Other people's Python: imported by file or module name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from phalanx.errors import ModelError
from phalanx.runtime.usercode import user_code


def import_factory(spec: str) -> tuple[Any, Path | None]:
    """The object that ``file.py:name`` or ``package.module:name`` names, and its file.

    A file is executed under a module name of its own, and, like the current folder for a
    package, its folder is importable while that happens.

    Raises:
        ModelError: no such file, module or name, or its code fails.
    """
    place, _, name = spec.rpartition(":")
    module = _from_file(Path(place)) if place.endswith(".py") else _from_package(place)
    if not hasattr(module, name):
        offered = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise ModelError(
            f"{place} has no {name!r}",
            why="MODEL is file.py:factory, a function that returns the network",
            repair=f"one of {', '.join(offered)}" if offered else "",
        )
    file = getattr(module, "__file__", None)
    return getattr(module, name), None if file is None else Path(file)


def call_factory(spec: str) -> tuple[Any, Path | None]:
    """What the factory named by ``spec`` returns (a module object is taken as it is)."""
    found, file = import_factory(spec)
    if isinstance(found, nn.Module):
        return found, file
    if not callable(found):
        raise ModelError(f"{spec} is {type(found).__name__}, not a function or a torch module")
    with user_code(f"{spec}()"), _importable(file.parent if file else Path.cwd()):
        return found(), file


def _from_file(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise ModelError(f"there is no file {path}", repair="MODEL is file.py:factory")
    name = f"phalanx_user_{path.stem}_{sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and inspect look a class's module up by name
    with user_code(f"importing {path}"), _importable(path.parent):
        spec.loader.exec_module(module)
    return module


def _from_package(name: str) -> ModuleType:
    with _importable(Path.cwd()):
        try:
            found = importlib.util.find_spec(name)
        except (ModuleNotFoundError, ValueError):
            found = None
        if found is None:
            raise ModelError(
                f"there is no Python module {name!r}",
                why="it is looked for among the installed packages and in the current folder",
            )
        with user_code(f"importing {name}"):
            return importlib.import_module(name)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder)
    if entry in sys.path:
        yield
        return
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)
