"""The hash of a Python value: the same in every process, another for another behaviour.

Modules count with their classes, hooks and attributes, functions with their bytecode (so it
may differ between versions of Python), what they close over and the functions they name.
torch, phalanx and Python's own parts count by name.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import sysconfig
import weakref
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, fx, nn

from phalanx.errors import ModelError

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
_NAMED = (type, FunctionType, ModuleType)

# What every module has; children and hooks are visited, tensors belong to the weights.
_MODULE_PARTS = frozenset(vars(nn.Module()))

# A graph module is the code made of its graph; the rest is about how it was made.
_GRAPH_PARTS = frozenset(vars(fx.GraphModule(nn.Module(), fx.Graph()))) - {"_code"}

# What objects without readable state answer when asked for it.
_UNREADABLE = (TypeError, ValueError, AttributeError, NotImplementedError, RuntimeError)


def fingerprint(value: object) -> str:
    """SHA-256 hex of a value's type and content.

    Raises:
        ModelError: it holds something whose state Python cannot read, such as an open file.

    >>> fingerprint({"k": 1}) == fingerprint({"k": 1}), fingerprint(1) == fingerprint(1.0)
    (True, False)
    """
    writer = _Writer()
    writer.add(value)
    return writer.digest.hexdigest()


def is_own(part: type | FunctionType) -> bool:
    """Whether a class or a function is torch's, phalanx's or Python's own."""
    return _is_own_name(part.__module__ or "")


@cache
def _is_own_name(module: str) -> bool:
    top = module.partition(".")[0]
    if top not in sys.stdlib_module_names:
        return top in ("torch", "phalanx")
    # Somebody's package may be called "code" or "test", and come first.
    file = getattr(sys.modules.get(top), "__file__", None)
    return file is None or Path(file).is_relative_to(sysconfig.get_path("stdlib"))


class _Writer:
    """Walks a value and feeds what it finds into a hash; every item is typed and sized."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._alive: list[object] = []  # an address stands for one object while it lives
        self._kinds: tuple[tuple[type, Callable[[Any], None]], ...] = (
            (Tensor, self._tensor),
            (nn.Module, self._module),
            (type, self._class),
            (FunctionType, self._function),
            (MethodType, self._method),
            (CodeType, self._code),
            (ModuleType, self._python_module),
            (weakref.ref, self._weak),
        )
        self._containers: dict[type, Callable[[Any], None]] = {
            list: self._items,
            tuple: self._items,
            dict: self._mapping,
            set: self._set,
            frozenset: self._set,
        }

    def add(self, value: object) -> None:
        """Feed one value."""
        if type(value) in _PLAIN:
            self._write(type(value).__name__, repr(value))
            return
        if id(value) in self._seen and not isinstance(value, tuple | frozenset | Tensor):
            self._write("seen", str(self._seen[id(value)]))
            return
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        if type(value) in self._containers:
            self._containers[type(value)](value)
            return
        for kind, write in self._kinds:
            if isinstance(value, kind):
                write(value)
                return
        self._object(value)

    def _write(self, *texts: str) -> None:
        for text in texts:
            self.digest.update(f"{len(text)}:{text}".encode("utf-8", "surrogatepass"))

    def _tensor(self, tensor: Tensor) -> None:
        self._write("tensor", str(tensor.dtype), str(tuple(tensor.shape)))
        if tensor.device.type != "meta":
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            self.digest.update(raw.numpy().data)

    def _items(self, items: list[object] | tuple[object, ...]) -> None:
        self._write(type(items).__qualname__, str(len(items)))
        for item in items:
            self.add(item)

    def _mapping(self, mapping: Mapping[Any, object]) -> None:
        self._write(type(mapping).__qualname__, str(len(mapping)))
        for key, value in mapping.items():
            self.add(key)
            self.add(value)

    def _set(self, items: set[object] | frozenset[object]) -> None:
        # Its order follows addresses and a hash seed that every process draws anew.
        self._write(type(items).__qualname__, *sorted(map(fingerprint, items)))

    def _module(self, module: nn.Module) -> None:
        self.add(type(module))
        if isinstance(module, torch.jit.ScriptModule):
            self._write(hashlib.sha256(module.save_to_buffer()).hexdigest())
            return
        known = _MODULE_PARTS
        if isinstance(module, fx.GraphModule):
            known = known | _GRAPH_PARTS
            targets = [node.target for node in module.graph.nodes]
            self.add([target for target in targets if isinstance(target, FunctionType)])
        if type(module).__module__.startswith("torch._dynamo."):
            self.add(module._modules)  # what torch.compile was given, and nothing of the session
            return
        for name, child in module._modules.items():
            self._write("child", name)
            self.add(child)
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            self._write("hooks", str(len(hooks)))
            for key, hook in hooks.items():
                with_kwargs = key in module._forward_hooks_with_kwargs
                self._write(str(with_kwargs or key in module._forward_pre_hooks_with_kwargs))
                self.add(hook)
        for name in sorted(vars(module).keys() - known):
            self._write("attribute", name)
            self.add(vars(module)[name])

    def _class(self, kind: type) -> None:
        self._write("class", kind.__qualname__)
        if is_own(kind):
            self._write(kind.__module__)
            return
        self._write(_source(kind))
        for base in kind.__bases__:
            self.add(base)
        for name, value in sorted(vars(kind).items()):
            function = value.fget if isinstance(value, property) else value
            function = getattr(function, "__func__", function)  # static and class methods
            plain = type(value) in _PLAIN and not name.startswith("__")
            if plain or isinstance(function, FunctionType):
                self._write(name)
                self.add(function)

    def _function(self, function: FunctionType) -> None:
        self._write("function", function.__qualname__)
        if not is_own(function):
            self.add(function.__code__)
            self._named_by(function)
        else:
            self._write(function.__module__)
            if not function.__module__.startswith("phalanx."):
                return  # what torch's functions close over is the state of its machinery
        self.add((function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            try:
                self.add(cell.cell_contents)
            except ValueError:  # a name that is not bound yet
                self._write("empty")

    def _named_by(self, function: FunctionType) -> None:
        """The functions, classes, modules and plain values that a function's names stand for."""
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            if type(value) in _PLAIN or isinstance(value, _NAMED):
                self._write(name)
                self.add(value)

    def _method(self, method: MethodType) -> None:
        self.add(method.__func__)
        self.add(method.__self__)

    def _code(self, code: CodeType) -> None:
        self._write("code", code.co_code.hex(), " ".join(code.co_names))
        for constant in code.co_consts:
            self.add(constant)

    def _python_module(self, module: ModuleType) -> None:
        own = _is_own_name(module.__name__)
        self._write("module", module.__name__ if own else _read(getattr(module, "__file__", None)))

    def _weak(self, reference: weakref.ref[Any]) -> None:
        self.add(reference())

    def _object(self, value: object) -> None:
        """Anything else, by what `copy` would make it again from."""
        self.add(type(value))
        try:
            state = value.__reduce_ex__(4)
        except _UNREADABLE as error:
            raise ModelError(
                f"the network holds a {type(value).__qualname__}, whose state cannot be read",
                why=f"a certificate names the function it is about: {error}",
                repair="keep it outside the network",
            ) from error
        if isinstance(state, str):
            self._write(state)
            self.add(getattr(value, "__wrapped__", None))  # of a cached function
            return
        for part in state:
            self.add(list(part) if hasattr(part, "__next__") else part)


@cache
def _source(kind: type) -> str:
    """Hash of the file that defines a class; empty where there is none."""
    try:
        return _read(inspect.getsourcefile(kind)) or inspect.getsource(kind)
    except (TypeError, OSError):
        return ""


def _read(file: str | None) -> str:
    path = Path(file or "")
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
