"""VNN-LIB 2.0: declared networks and tensors, ``X[0,3]``, strict relations; one network of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import prod

from phalanx.errors import QueryError
from phalanx.specs.vnnlib.assemble import assemble
from phalanx.specs.vnnlib.formula import ALL, Formulas
from phalanx.specs.vnnlib.query import Declared, Query
from phalanx.specs.vnnlib.terms import Terms
from phalanx.specs.vnnlib.tokens import Form, Script

VERSION = "vnnlib-version"
KINDS = ("real", "float32", "float64")
"""Element types that are read."""

LARGEST_TENSOR = 1 << 24

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_INDEX = re.compile(r"\[[ \t\r\n]*(\d{1,9}([ \t\r\n]*,[ \t\r\n]*\d{1,9})*)?[ \t\r\n]*\]", re.ASCII)


def is_version_two(script: Script) -> bool:
    """Whether the script says which version it is (1.0 does not)."""
    return any(form.head == VERSION for form in script.forms)


def interpret(script: Script, name: str) -> Query:
    """The query of a script.

    Raises:
        QueryError: another version, several networks, hidden tensors, element types that are not
            read, an unknown command or formula; see also `assemble`.
    """
    first, *rest = script.forms
    if list(first) != [VERSION, "<2.0>"]:
        raise script.wrong(first, "the version is not <2.0>", why="it is what a file begins with")
    networks = [form for form in rest if form.head == "declare-network"]
    for form in rest:
        if form.head not in ("declare-network", "assert"):
            raise script.wrong(
                form,
                f"unknown command ({form.head or '...'} ...)",
                why="declare-network and assert are read",
            )
    if len(networks) != 1 or rest[0] is not networks[0]:
        raise QueryError(
            f"{script.source} declares {len(networks)} networks before its assertions",
            why="queries of one network are read",
        )
    called, inputs, outputs = _network(script, networks[0])
    assertions = []
    for form in rest[1:]:
        if len(form) != 2 or not isinstance(form[1], Form):
            raise script.wrong(form, "an assertion of anything but one formula")
        assertions.append(form[1])
    lookup = _Lookup(inputs, outputs)
    formulas = Formulas(script, Terms(script, lookup), ALL)
    found = assemble(
        *formulas.cases(assertions),
        (prod(inputs.shape), prod(outputs.shape)),
        name=name,
        source=script.source,
        namer=lambda index: element(inputs, index),
    )
    return Query(found, "2.0", inputs, outputs, called)


def element(tensor: Declared, index: int) -> str:
    """How a file writes an entry of a tensor, by its row-major number.

    >>> element(Declared("X", "real", (2, 3)), 4)
    'X[1,1]'
    """
    places: list[int] = []
    for size in reversed(tensor.shape):
        index, place = divmod(index, size)
        places.insert(0, place)
    return f"{tensor.name}[{','.join(map(str, places))}]" if places else tensor.name


@dataclass(frozen=True)
class _Lookup:
    """Entries of the two tensors by what a file calls them."""

    inputs: Declared
    outputs: Declared
    known: dict[str, tuple[bool, int] | None] = field(default_factory=dict)

    def __call__(self, word: str) -> tuple[bool, int] | None:
        if word not in self.known:
            self.known[word] = self._find(word)
        return self.known[word]

    def _find(self, word: str) -> tuple[bool, int] | None:
        name, bracket, rest = word.partition("[")
        for tensor in (self.inputs, self.outputs):
            if name == tensor.name:
                places = _numbers(bracket + rest) if bracket else ()
                if places is None or len(places) != len(tensor.shape):
                    return None
                index = 0
                for place, size in zip(places, tensor.shape, strict=True):
                    if place >= size:
                        return None
                    index = index * size + place
                return tensor is self.inputs, index
        return None


def _network(script: Script, form: Form) -> tuple[str, Declared, Declared]:
    name, parts = form[1] if len(form) > 1 else "", form[2:]
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise script.wrong(form, "a network without a name")
    heads = [part.head if isinstance(part, Form) else part for part in parts]
    if heads != ["declare-input", "declare-output"]:
        raise script.wrong(
            form,
            f"network {name} declares {', '.join(heads) or 'nothing'}",
            why="networks with one declare-input and one declare-output are read",
        )
    inputs, outputs = (_tensor(script, part) for part in parts if isinstance(part, Form))
    if inputs.name == outputs.name:
        raise script.wrong(form, f"{inputs.name} is declared twice")
    return name, inputs, outputs


def _tensor(script: Script, form: Form) -> Declared:
    words = [word for word in form[1:] if isinstance(word, str)]
    if len(words) != 3 or len(form) != 4:
        raise script.wrong(form, "a tensor without name, type and shape")
    name, kind, written = words
    shape = _numbers(written)
    if _NAME.fullmatch(name) is None or shape is None or 0 in shape:
        raise script.wrong(form, f"a tensor {name[:40]!r} of shape {written[:40]!r}")
    if prod(shape) > LARGEST_TENSOR:
        raise script.wrong(form, f"tensor {name} has more than {LARGEST_TENSOR} entries")
    if kind.lower() not in KINDS:
        raise script.wrong(
            form, f"tensor {name} of type {kind[:40]!r}", why=f"{', '.join(KINDS)} are read"
        )
    return Declared(name, kind, shape)


def _numbers(written: str) -> tuple[int, ...] | None:
    """The numbers in ``[1, 5]``; None: it is no such list."""
    match = _INDEX.fullmatch(written)
    if match is None:
        return None
    return tuple(int(part) for part in match[1].split(",")) if match[1] else ()
