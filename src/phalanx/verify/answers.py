"""Answers as solvers of VNN-LIB queries print them: a word, and for ``sat`` the assignment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction

from phalanx.errors import QueryError
from phalanx.specs.vnnlib.query import Declared, Query
from phalanx.verify.result import Result

DIGITS = 1200
"""More than any number of a file has."""

WORDS_OF_TWO = {"timeout": "timed-out"}
"""What version 2.0 says otherwise."""


def word_of(result: Result, version: str) -> str:
    """The first line.

    >>> from phalanx.verdicts import Verdict
    >>> word_of(Result(Verdict.UNKNOWN, "timeout", 1.0, 1), "2.0")
    'timed-out'
    """
    return said(result.word, version)


def said(word: str, version: str) -> str:
    """A word in the words of a version."""
    return WORDS_OF_TWO.get(word, word) if version == "2.0" else word


def answer_lines(result: Result, query: Query) -> Iterator[str]:
    """The word and, of a counterexample, every input and output: the numbers that were replayed.

    Numbers are written so that float64 reads them back exactly; an input that stands for a side of
    the box that float64 cannot hold is that side.
    """
    yield word_of(result, query.version)
    if result.witness is None:
        return
    case = query.property.cases[result.witness.case]
    near, y = result.witness.x.tolist(), list(map(repr, result.witness.y.tolist()))
    exact = case.printed(result.witness.x) or map(Fraction, near)
    x = [_decimal(value, number) for value, number in zip(exact, near, strict=True)]
    if query.version == "2.0":
        for tensor, numbers in ((query.inputs, x), (query.outputs, y)):
            yield _heading(tensor)
            yield from numbers
        return
    pairs = [f"({name}_{i} {v})" for name, part in (("X", x), ("Y", y)) for i, v in enumerate(part)]
    yield from bracketed(pairs)


def _decimal(value: Fraction, near: float) -> str:
    """The shortest decimal that is read as ``near``, or all digits where that is another number.

    >>> _decimal(Fraction("0.5"), 0.5), _decimal(Fraction("0.10000000000000000001"), 0.1)
    ('0.5', '0.10000000000000000001')
    """
    if Fraction(repr(near)) == value:
        return repr(near)
    with localcontext(prec=DIGITS):
        return str(Decimal(value.numerator) / Decimal(value.denominator))


def bracketed(pairs: Sequence[str]) -> Iterator[str]:
    """Pairs, one a line, in parentheses.

    >>> list(bracketed(["(X_0 1.0)", "(Y_0 2.0)"]))
    ['((X_0 1.0)', '(Y_0 2.0))']
    """
    for at, pair in enumerate(pairs):
        yield f"{'(' if not at else ''}{pair}{')' if at + 1 == len(pairs) else ''}"


def _heading(tensor: Declared) -> str:
    return f"{tensor.name} {tensor.kind} [{','.join(map(str, tensor.shape))}]"


def require_consent(query: Query, *, idealised: bool) -> None:
    """Refuse a query about floating-point execution, of which nothing here is a proof.

    Version 1.0 speaks of reals. Version 2.0 has element types: ``real`` consents to exact
    arithmetic, ``float32`` asks about every rounding of the network.

    Raises:
        QueryError: the query's tensors are floats, and nobody has consented.
    """
    kinds = {tensor.kind.lower() for tensor in (query.inputs, query.outputs)}
    if query.version == "2.0" and kinds != {"real"} and not idealised:
        raise QueryError(
            f"the query is about tensors of type {', '.join(sorted(kinds))}",
            why="what is proven holds for the network in exact arithmetic, not for its roundings",
            repair="declare them real, or consent: --idealised, in Python idealised=True",
        )
