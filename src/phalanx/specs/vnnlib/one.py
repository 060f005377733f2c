"""VNN-LIB 1.0: inputs ``X_i``, outputs ``Y_j``, ``declare-const`` and ``assert``."""

from __future__ import annotations

import re

from phalanx.errors import QueryError
from phalanx.specs.vnnlib.assemble import assemble
from phalanx.specs.vnnlib.formula import Formulas
from phalanx.specs.vnnlib.query import Declared, Query
from phalanx.specs.vnnlib.terms import Terms
from phalanx.specs.vnnlib.tokens import Form, Script

_NAME = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})", re.ASCII)

SILENT = ("set-logic", "set-info")
"""Commands that change no meaning."""


def interpret(script: Script, name: str) -> Query:
    """The query of a script.

    Raises:
        QueryError: an unknown command, a variable declared twice, not at all, or out of line, a
            formula that is none; see also `assemble`.
    """
    declared: dict[str, tuple[bool, int]] = {}
    assertions: list[Form] = []
    for form in script.forms:
        if form.head in ("declare-const", "declare-fun"):
            variable = _declared(script, form)
            if variable in declared:
                raise script.wrong(form, f"{variable} is declared twice")
            letter, _, number = variable.partition("_")
            declared[variable] = (letter == "X", int(number))
        elif form.head == "assert":
            if len(form) != 2 or not isinstance(form[1], Form):
                raise script.wrong(form, "an assertion of anything but one formula")
            assertions.append(form[1])
        elif form.head not in SILENT:
            raise script.wrong(
                form,
                f"unknown command ({form.head or '...'} ...)",
                why="VNN-LIB 1.0 has declare-const and assert",
            )
    sizes = _size(script, declared, "X"), _size(script, declared, "Y")
    formulas = Formulas(script, Terms(script, declared.get))
    found = assemble(
        *formulas.cases(assertions), sizes, name=name, source=script.source, namer="X_{}".format
    )
    inputs, outputs = Declared("X", "Real", sizes[:1]), Declared("Y", "Real", sizes[1:])
    return Query(found, "1.0", inputs, outputs)


def _declared(script: Script, form: Form) -> str:
    """The name in ``(declare-const X_0 Real)`` or ``(declare-fun X_0 () Real)``."""
    middle: list[Form | str] = [] if form.head == "declare-const" else [Form(form.at)]
    variable = form[1] if len(form) > 1 else ""
    if not isinstance(variable, str) or _NAME.fullmatch(variable) is None:
        raise script.wrong(form, "a variable that is neither X_0, X_1, ... nor Y_0, Y_1, ...")
    if form[2:] != [*middle, "Real"]:
        raise script.wrong(form, f"{variable} is not declared as one Real")
    return variable


def _size(script: Script, declared: dict[str, tuple[bool, int]], letter: str) -> int:
    count = sum(name[0] == letter for name in declared)
    for index in range(count):
        if f"{letter}_{index}" not in declared:
            raise QueryError(
                f"{script.source}: {letter}_{index} is not declared",
                why=f"{count} variables {letter} are, and numbers have no gaps",
            )
    if not count:
        raise QueryError(f"{script.source}: no variable {letter}_0 is declared")
    return count
